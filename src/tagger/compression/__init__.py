"""Smaller and faster: students, export to ONNX, int8, and what of the answers it changes."""

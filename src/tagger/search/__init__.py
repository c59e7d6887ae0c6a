"""Sweeps: which config is best for a budget, and how much of its gain is luck."""

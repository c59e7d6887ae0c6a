"""Runs sweeps: searches the best config for a budget, and measures how much of its gain is luck."""

"""Reads, checks and splits labelled items."""

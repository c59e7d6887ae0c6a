"""Watches a stream that a run decides on: drift and kept promises, with stated error rates."""

"""Answers a platform over HTTP: service, store, duplicates, review."""

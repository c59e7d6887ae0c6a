"""Predicts many Parquet files, on one machine or on a cluster, with the same bytes."""

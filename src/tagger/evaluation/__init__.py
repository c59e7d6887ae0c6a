"""Judge a classifier: scores with intervals, slices, comparison, latency, plots and the report."""

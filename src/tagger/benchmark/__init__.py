"""Benchmarks of finished runs side by side: latency, throughput, cold start, memory, size."""

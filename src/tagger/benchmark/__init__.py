"""Benchmarks of finished runs, timed side by side: latency, throughput, cold start, memory, size."""

"""Measurements beside named baselines: `python -m benchmarks`."""

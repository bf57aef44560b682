"""Measurements of nas_attn. From the root of the repository: `python -m benchmarks.NAME`."""

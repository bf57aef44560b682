"""Checks of a machine with a GPU, which `tools/gpu_check.sh` runs: is what nas_attn needs of it
there, right, and fast? `docs/develop/gpu-check.md` says what is normal.

Each part is a function of the device that yields a `Finding` for each result. `steps` runs the
parts, the tests and the benchmarks one after another, each in a process of its own.
"""

"""The machine beneath: environment variables, paths, processes, waits, imports, CUDA graphs."""

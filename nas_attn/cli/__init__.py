"""The command line: one file per theme, heavy imports inside the commands."""

import os

# Read when NumPy is loaded, so it stands before all commands: for small matrices a second thread costs more than it brings.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

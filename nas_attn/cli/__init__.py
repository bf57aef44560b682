"""The command line: one file per theme, heavy imports inside the commands."""

import os

# NumPy's linear algebra on one thread unless told otherwise: its matrices here are small, and beside other work a second
# thread costs more than it brings. Read when NumPy is loaded, so it stands before all commands.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

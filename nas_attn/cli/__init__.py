"""The command line: one file per theme, heavy imports inside the commands."""

import os

# NumPy reads this when it is loaded, so it is set before all commands. A second thread slows small
# matrices down.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

"""The command line in this process, and the table study of tests/study."""

import runpy
from pathlib import Path

from command_line import Ended, Nas, nas  # noqa: F401

table = runpy.run_path(str(Path(__file__).parents[1] / "study" / "conftest.py"))["table"]

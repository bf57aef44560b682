"""The command line in this process, and the table study of tests/table_study.py."""

from command_line import Ended, Nas, nas  # noqa: F401
from table_study import one_candidate, table, table_of_one  # noqa: F401

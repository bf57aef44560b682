"""The study of the tests, whose candidates are looked up in a table."""

from command_line import nas  # noqa: F401
from table_study import table  # noqa: F401

"""The study of the tests, whose candidates are looked up in a table."""

from command_line import nas  # noqa: F401
from table_study import one_candidate, table, table_of_one  # noqa: F401

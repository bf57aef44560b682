"""What the tests of data share."""

from command_line import nas  # noqa: F401

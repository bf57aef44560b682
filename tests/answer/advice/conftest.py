"""The command line in this process."""

from command_line import Ended, Nas, nas  # noqa: F401

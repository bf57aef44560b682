"""Why a worker ended.

A worker process ends with an `errors.ExitStatus`. What it says on standard output is for people.
For the process that started it, it writes its `Ending` into a file of its own, whose path is in its
settings. A worker whose file is missing did not end in order, whatever its exit status is (a user's
code may call `os._exit(0)`).
"""

from __future__ import annotations

from enum import StrEnum


class Ending(StrEnum):
    """Why a worker ended in order."""

    COMPLETE = "complete"
    """Nothing is left to do."""
    EXHAUSTED = "exhausted"
    """Every placement of the search space has been tried, or is over the limits."""
    TIME = "time"
    """The time for it is over."""
    STOPPED = "stopped"
    """It was told to stop."""

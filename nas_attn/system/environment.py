"""The program's environment variables: this is the one place that reads and sets them.

A user may set those of `SETTINGS` (docs/how-to/run-anywhere.md has a table of them); `WORKER` and
`RUN` go from one process of ours to another.
"""

from __future__ import annotations

import math
import os

from nas_attn.errors import StudyError, shorten

# the database of commands without --storage
STORAGE = "NAS_ATTN_STORAGE"
# seconds to wait for a database that does not answer
STORAGE_WAIT = "NAS_ATTN_STORAGE_WAIT"
# seconds that a worker waits for what only others can do, while none of them is at work
WORK_WAIT = "NAS_ATTN_WORK_WAIT"
# folder of the devices' lock files
LOCK_DIR = "NAS_ATTN_LOCK_DIR"
# not empty: tracebacks are shown
DEBUG = "NAS_ATTN_DEBUG"
SETTINGS = (STORAGE, STORAGE_WAIT, WORK_WAIT, LOCK_DIR, DEBUG)
# the Chrome or Chromium that draws figures as files; other programs read it, too
BROWSER = "BROWSER_PATH"

# settings of a worker, as JSON, from the process that starts it
WORKER = "NAS_ATTN_WORKER"

# a server can be updated and restarted in this time
STORAGE_WAIT_S = 1800.0
# a person who starts the missing worker needs some minutes
WORK_WAIT_S = 600.0


def storage() -> str | None:
    """The database that the environment names."""
    return os.environ.get(STORAGE)


def storage_wait_s() -> float:
    """Seconds to wait for a silent database; StudyError if the variable is not a number of
    seconds.
    """
    return _seconds(STORAGE_WAIT, STORAGE_WAIT_S)


def work_wait_s() -> float:
    """Seconds to wait for work that only others can do, while none of them is at work; StudyError
    if the variable is not a number of seconds.
    """
    return _seconds(WORK_WAIT, WORK_WAIT_S)


def _seconds(variable: str, usual: float) -> float:
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or usual)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise StudyError(
            f"{variable} is '{shorten(text)}': give a number of seconds, or 0 to wait not at all"
        )
    return seconds


def wait_for_storage(seconds: float) -> None:
    """Sets that wait for this process and those that it starts."""
    os.environ[STORAGE_WAIT] = str(seconds)


def lock_folder() -> str | None:
    """Where the devices' lock files are, if not in the usual place."""
    return os.environ.get(LOCK_DIR) or None


def browser() -> str | None:
    """The browser that the environment names."""
    return os.environ.get(BROWSER) or None


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return bool(os.environ.get(DEBUG))


def debug() -> None:
    """Shows tracebacks in this process and those that it starts."""
    os.environ[DEBUG] = "1"


def take_worker_settings() -> str | None:
    """The settings of this worker, once: the processes that it starts do not get them. None: a
    person started it.
    """
    return os.environ.pop(WORKER, None)

"""Files of images that one process makes for itself: of a data set of the user's own.

A process holds a lock beside its file. The system frees the lock when the process ends, however it
ends. Another process removes files that nobody holds, a day after their last use: the time counts
where locks reach one machine only, as on some network folders.
"""

from __future__ import annotations

import os
import time
import uuid
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_attn.system.waiting import file_lock, give_back, taken

if TYPE_CHECKING:
    from filelock import FileLock

# of the names of such files, of their locks, and of those that are being written
PREFIX = "own-"
LOCK_ENDING = ".lock"
# seconds after the last use of a file that nobody holds
LEFT_S = 86_400


class Scratch:
    """The place of a file, which is removed with the last reference to this object; after a killed
    process, by another one. Raises OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_left(folder)
        self.path = folder / f"{PREFIX}{uuid.uuid4().hex}.npy"
        lock = _lock_of(self.path)
        # a folder without locks: the time of the last use remains
        with suppress(OSError, NotImplementedError):
            taken(lock)
        self._remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def __reduce__(self) -> Any:
        # the process that made it removes it
        return type(None), ()

    def renew(self) -> None:
        """Says that the file is in use."""
        with suppress(OSError):
            os.utime(self.path)


def remove_left(folder: Path) -> None:
    """Removes the files in a folder that their processes have left behind."""
    for path in folder.glob(f"{PREFIX}*"):
        # Windows keeps open files; another process may have removed it
        with suppress(OSError, NotImplementedError):
            if time.time() - path.stat().st_mtime > LEFT_S:
                _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    lock = _lock_of(path)
    if not taken(lock):
        return
    try:
        path.unlink(missing_ok=True)
    finally:
        give_back(lock)


def _remove(path: Path, lock: FileLock, maker: int) -> None:
    # a forked process has this object, too
    if os.getpid() != maker:
        return
    # Windows keeps open files; another process removes it later
    with suppress(OSError):
        path.unlink(missing_ok=True)
    give_back(lock)


def _lock_of(path: Path) -> FileLock:
    """The lock of a file, also of one that is being written, whose name is longer."""
    stem = path.name.partition(".")[0]
    return file_lock(path.with_name(stem + LOCK_ENDING))

"""SQLite's write-ahead log, `FILE-wal`, which holds the newest transactions: is it still there?

While a connection is open, SQLite itself never removes or replaces the log. If somebody else does,
open connections go on with the removed file, others begin a new one, and the two spoil each other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from nas_attn.errors import StorageError, StudyError

SQLITE_HEADER = b"SQLite format 3\x00"
_WITH_LOG = 2
"""The value of a file's bytes 18 and 19 if its last user kept a write-ahead log."""


def log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


class LogFile:
    """The log that an engine's open connections write to."""

    def __init__(self, file: Path) -> None:
        self._path = log_of(file)
        # Device and inode; None: not known to have stayed open since.
        self._in_use: tuple[int, int] | None = None

    def watch(self, engine: sa.Engine) -> None:
        """Forgets the log whenever a connection opens or ends: it may have been the only one, so
        that SQLite has removed the log.
        """
        for event in ("connect", "close", "close_detached", "invalidate", "soft_invalidate"):
            sa.event.listen(engine, event, self._forget)

    def _forget(self, *_: Any) -> None:
        self._in_use = None

    def remember(self) -> None:
        """Call this with a connection open that has read or written."""
        if self._in_use is None:
            self._in_use = self._here()

    def check(self, where: str) -> None:
        """Raises StorageError: the log was removed or replaced in use. `where`: the database."""
        if self._in_use is None or self._in_use == self._here():
            return
        raise StorageError(gone(where, self._path))

    def _here(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino


def gone(where: str, log: Path | str) -> str:
    """The sentence for a log that was removed while the database was in use."""
    return (
        f"storage '{where}': its log '{Path(log).name}', which holds the newest results, was"
        " removed or replaced while the database was in use: end all programs that use it, so that"
        " they write back what they can, then resume"
    )


def check_has_log(file: Path, where: str) -> None:
    """Raises StudyError for a file without any table, whose log is not beside it: all results are
    in the log.
    """
    log = log_of(file)
    if log.exists():
        return
    with file.open("rb") as opened:
        start = opened.read(100)
    # Of a file with tables, nobody can tell whether its last user ended in order.
    empty = start[:16] == SQLITE_HEADER and file.stat().st_size <= int.from_bytes(
        start[16:18], "big"
    )
    if empty and start[18] == _WITH_LOG:
        raise StudyError(
            f"storage '{where}' holds no study: its log '{log.name}' is missing, because the file"
            " was copied without it, or the log was removed: end the programs that still use it, so"
            " that they write back what they can, or put the log beside it"
        )

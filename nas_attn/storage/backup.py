"""A consistent copy of an SQLite database in use: a bare copy of the file loses what is still in the log beside it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from nas_attn.errors import StorageError, StudyError
from nas_attn.paths import replace_file
from nas_attn.storage.connection import TunedConnection, explained

_HEADER = b"SQLite format 3\x00"


def backup_sqlite(source: Path, target: Path) -> Path:
    """Copy a database by SQLite's online backup, check the copy, then put it in its place in one step.

    Args:
        target: checked by `check_target`.

    Raises:
        StorageError: reading or writing failed, or the copy is damaged; the target is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        _copy(source, part)
        part.chmod(source.stat().st_mode & 0o777)
        replace_file(part, target)
    except sqlite3.Error as error:
        raise explained(error, f"backup of '{source}'") from error
    except OSError as error:
        raise StorageError(f"backup of '{source}' to '{target}' failed: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Whether a copy may be written there; an older one only with `overwrite`, anything else never is replaced.

    Raises:
        StudyError: it may not.
    """
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise StudyError(f"backup '{target}': the folder does not exist or is not writable: choose another")
    if not target.exists():
        return
    if target.samefile(source):
        raise StudyError(f"backup '{target}' is the database itself: name another file")
    if target.with_name(target.name + "-wal").exists():
        raise StudyError(f"backup '{target}' is a database in use: name another file")
    with target.open("rb") as file:
        start = file.read(len(_HEADER))
    if start not in (b"", _HEADER):
        raise StudyError(f"backup '{target}' exists and is not a database: name another file")
    if not overwrite:
        raise StudyError(f"backup '{target}' exists: name another file, or force to replace that copy")


def _copy(source: Path, part: Path) -> None:
    with (
        closing(sqlite3.connect(source, factory=TunedConnection)) as reader,
        closing(sqlite3.connect(part)) as writer,
    ):
        reader.backup(writer)
        # One file, without a log beside it; `Database` switches back when it opens the copy.
        writer.execute("PRAGMA journal_mode = DELETE").close()
        problem = writer.execute("PRAGMA integrity_check").fetchone()[0]
    if problem != "ok":
        raise StorageError(f"the copy of '{source}' is damaged ({problem}): the database itself may be, too")
    with part.open("rb+") as file:
        os.fsync(file.fileno())

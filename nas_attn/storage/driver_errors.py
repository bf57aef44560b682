"""Errors of a database's driver as sentences with the way out: the database is away, which may
pass, or damaged, or it refuses.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext

from nas_attn.errors import StorageAway, StorageError, StudyError, without_passwords


class _Fault(NamedTuple):
    kind: type[StorageError | StudyError]
    what: str
    way_out: str


_AWAY = _Fault(
    StorageAway,
    "it does not answer",
    "start its server, end another program that locks it, or make room on its disk, then resume",
)
"""It is waited for."""
_DAMAGED = _Fault(
    StorageError,
    "the file is damaged, has lost its tables, or is of another version of nas_attn",
    "put it back, or its last `nas-attn backup`, then resume",
)
_REFUSED = _Fault(
    StorageError,
    "it refuses this",
    "check user, password, host, database, certificates and permissions, or name another storage",
)
_NO_DATABASE = _Fault(StudyError, "it is not an SQLite database", "name another file")

# Beginning of SQLite's name for an error, or of PostgreSQL's state -> what it means.
_FAULTS = {
    "SQLITE_NOTADB": _NO_DATABASE,
    **dict.fromkeys(("SQLITE_CORRUPT", "42P01", "3D000", "42703"), _DAMAGED),
    **dict.fromkeys(("SQLITE_READONLY", "SQLITE_CANTOPEN", "42501", "25006"), _REFUSED),
    **dict.fromkeys(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR"), _AWAY),
    **dict.fromkeys(("53", "40001", "40P01", "55P03", "57014", "08", "57P", "25P03"), _AWAY),
}
_NO_TABLE = re.compile("no such table|no such column|has no column")
_NOT_LET_IN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) \".*\" does"
    r" not exist"
    r"|no such (user|database)|unsupported startup parameter"
    r"|is not permitted to log in|invalid (connection option|port|integer value|\w+"
    r" value)|permission denied"
    r"|certificate verify failed|does not support SSL|does not match host name|weak sslmode"
    r"|(root certificate|certificate|private key) file"
)
"""Messages of a server or driver about lasting errors; connecting gives no states."""


def explained(original: BaseException, where: str) -> StorageError | StudyError:
    """A database driver's error as one sentence with the way out; `where`: the database, without
    its password.
    """
    lines = without_passwords(str(original)).strip().splitlines() or [type(original).__name__]
    fault = _fault(original)
    if fault is None:
        return StorageError(f"storage '{where}': {lines[0]}")
    # behind others that only say which address was tried
    said = next((line.strip() for line in lines if _NOT_LET_IN.search(line)), lines[0])
    return fault.kind(f"storage '{where}': {fault.what} ({said}): {fault.way_out}")


def translate_errors(engine: sa.Engine, where: str) -> None:
    """Makes another library's engine raise our errors for a database that is full, gone or broken;
    not for others.
    """

    def translate(context: ExceptionContext) -> None:
        original = context.original_exception
        by_driver = context.sqlalchemy_exception is not None and not context.is_pre_ping
        if by_driver and _fault(original) is not None:
            raise explained(original, where) from original

    sa.event.listen(engine, "handle_error", translate)


def _fault(original: BaseException) -> _Fault | None:
    """What an error means for the database as a whole; None: it is about one statement."""
    text = str(original)
    if _NO_TABLE.search(text):
        return _DAMAGED
    # SQLite's name for an error, or PostgreSQL's state; None: the driver has made the error
    code = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)
    if code is not None:
        return next((fault for start, fault in _FAULTS.items() if code.startswith(start)), None)
    if _NOT_LET_IN.search(text):
        return _REFUSED
    # a connection that is lost while it is written to is no more than a DatabaseError
    kinds = [kind.__name__ for kind in type(original).__mro__]
    return _AWAY if kinds[0] == "DatabaseError" or "OperationalError" in kinds else None

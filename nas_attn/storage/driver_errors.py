"""Errors of a database's driver as sentences with the way out."""

from __future__ import annotations

import re
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext

from nas_attn.errors import (
    NasAttnError,
    StorageAway,
    StorageError,
    StudyError,
    without_passwords,
)
from nas_attn.storage.log_file import gone


class _Fault(NamedTuple):
    """`StorageAway`: it may pass, and is waited for."""

    kind: type[StorageError | StudyError]
    what: str
    way_out: str


_LOCKED = _Fault(StorageAway, "another program keeps the file locked", "close it, then resume")
_FULL = _Fault(StorageAway, "the disk is full", "make room, then resume")
_CLOSED = "check its permissions and those of its folder"
_AWAY = _Fault(StorageAway, "it does not answer", "when it is back, resume")
_OVERRUN = _Fault(StorageAway, "it is overrun", "when it has less to do, resume")
_EMPTIED = _Fault(
    StorageError,
    "it has lost its tables",
    "it was emptied or replaced, so put it back, or its last backup, then resume",
)
_OTHER_VERSION = _Fault(
    StorageError,
    "it was written by another version of nas_attn",
    "read it with that version, or name another database",
)
_NO_RIGHT = _Fault(
    StorageError, "its user may not do that", "name a user that may, or another storage"
)
# a standby until it takes over; or a user who may only read
_READ_ONLY = _Fault(
    StorageAway, "it can only be read now", "name a server and a user that may write, or wait"
)
# Beginning of SQLite's name for an error, or of PostgreSQL's state -> what it means.
_FAULTS = {
    "SQLITE_CORRUPT": _Fault(
        StorageError,
        "the file is damaged",
        "put the last `nas-attn backup` in its place or try `sqlite3 FILE .recover`",
    ),
    "SQLITE_NOTADB": _Fault(StudyError, "it is not an SQLite database", "name another file"),
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_FULL": _FULL,
    "SQLITE_READONLY": _Fault(StorageError, "the file cannot be written", _CLOSED),
    "SQLITE_CANTOPEN": _Fault(StorageError, "the file cannot be opened", _CLOSED),
    "SQLITE_IOERR": _Fault(
        StorageAway, "reading or writing the disk failed", "check the disk and its free space"
    ),
    "42P01": _EMPTIED,
    "3D000": _EMPTIED,
    "42703": _OTHER_VERSION,
    "42501": _NO_RIGHT,
    "25006": _READ_ONLY,
    "53100": _FULL,
    "53": _OVERRUN,
    "40001": _OVERRUN,
    "40P01": _OVERRUN,
    "55P03": _OVERRUN,
    "57014": _OVERRUN,
    "08": _AWAY,
    "57P": _AWAY,
    "25P03": _AWAY,
}
_NO_TABLE = re.compile("no such table")
_NO_COLUMN = re.compile("no such column|has no column")
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|(role|database) \".*\" does"
    r" not exist"
    r"|no such (user|database)|unsupported startup parameter"
    r"|is not permitted to log in|invalid (connection option|port|integer value|\w+"
    r" value)|permission denied"
    r"|certificate verify failed|does not support SSL|does not match host name|weak sslmode"
    r"|(root certificate|certificate|private key) file"
)
"""Messages of a server or driver about lasting errors; connecting gives no states."""


def explained(
    original: BaseException, where: str, engine: sa.Engine | None = None
) -> StorageError | StudyError:
    """Returns a database driver's error as one sentence with the way out.

    Args:
        original: the driver's error.
        where: the database, without its password.
        engine: leads to the same server; it tells a standby from a user without rights.
    """
    lines = without_passwords(str(original)).strip().splitlines() or [type(original).__name__]
    if getattr(original, "sqlite_errorname", None) == "SQLITE_IOERR_SHORT_READ":
        # The log is shorter than what the programs that use it know of it.
        return StorageError(gone(where, f"{where.rpartition('/')[2]}-wal"))
    fault = _fault(original)
    if fault is _READ_ONLY and engine is not None and not _is_standby(engine):
        fault = _NO_RIGHT
    if _code(original) is None:
        refused = next((line.strip() for line in lines if _REFUSED.search(line)), None)
        if refused is not None:
            return StorageError(
                f"storage '{where}' cannot be opened: {refused}: check user, password, host,"
                " database, certificates and sslmode"
            )
    if fault is None:
        return StorageError(f"storage '{where}': {lines[0]}")
    return fault.kind(f"storage '{where}': {fault.what} ({lines[0]}): {fault.way_out}")


def translate_errors(engine: sa.Engine, where: str) -> None:
    """Makes another library's engine raise our errors for a database that is full, gone or broken;
    not for others.
    """

    def translate(context: ExceptionContext) -> None:
        original = context.original_exception
        by_driver = context.sqlalchemy_exception is not None and not context.is_pre_ping
        if by_driver and _fault(original) is not None:
            raise explained(original, where, engine) from original

    sa.event.listen(engine, "handle_error", translate)


def _is_standby(engine: sa.Engine) -> bool:
    """Whether a PostgreSQL server follows another one, as it tells its clients (from 14 on); also
    if it does not say.
    """
    try:
        with engine.connect() as connection:
            info = getattr(connection.connection.dbapi_connection, "info", None)
            return info is None or info.parameter_status("in_hot_standby") != "off"
    except (sa.exc.SQLAlchemyError, NasAttnError):
        # it has gone meanwhile, as in a failover
        return True


def _code(original: BaseException) -> str | None:
    """SQLite's name for an error, or PostgreSQL's state; None: the driver has made the error."""
    return getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None)


def _has_lost_server(original: BaseException) -> bool:
    """Whether the driver did not reach the server, or lost it; else it has refused a value."""
    # a connection that is lost while it is written to is no more than a DatabaseError
    if type(original).__name__ == "DatabaseError":
        return True
    return any(kind.__name__ == "OperationalError" for kind in type(original).__mro__)


def _fault(original: BaseException) -> _Fault | None:
    """What an error means for the database as a whole; None: it is about one statement."""
    if _NO_TABLE.search(str(original)):
        return _EMPTIED
    if _NO_COLUMN.search(str(original)):
        return _OTHER_VERSION
    code = _code(original)
    if code is None:
        return _AWAY if _has_lost_server(original) else None
    return next((fault for start, fault in _FAULTS.items() if code.startswith(start)), None)

"""Errors of a database's driver as sentences with the way out."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import (
    NasAttnError,
    StorageAway,
    StorageError,
    StudyError,
    first_line,
    without_passwords,
)
from nas_attn.storage.log_file import gone

# errors that may pass
_PASSING = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_IOERR")
_SENTENCES = {
    "SQLITE_CORRUPT": (
        "the file is damaged: put the last `nas-attn backup` in its place or try `sqlite3 FILE"
        " .recover`"
    ),
    "SQLITE_BUSY": "another program keeps the file locked: close it, then resume",
    "SQLITE_LOCKED": "another program keeps the file locked: close it, then resume",
    "SQLITE_FULL": "the disk is full: make room, then resume",
    "SQLITE_READONLY": "the file cannot be written: check its permissions and those of its folder",
    "SQLITE_CANTOPEN": "the file cannot be opened: check its permissions and those of its folder",
    "SQLITE_IOERR": "reading or writing the disk failed: check the disk and its free space",
}


def explained(
    original: BaseException, where: str, *, writing: bool = True, engine: sa.Engine | None = None
) -> StorageError | StudyError:
    """A database driver's error as one sentence with the way out. `writing`: whether it came of an
    attempt to write; `engine`: leads to the same server.
    """
    lines = without_passwords(str(original)).strip().splitlines() or [type(original).__name__]
    if _tables_gone(original):
        what = f"storage '{where}' has lost its tables ({lines[0]}): it was emptied or replaced"
        return StorageError(f"{what}, so put it back, or its last backup, then resume")
    if _column_gone(original):
        what = f"storage '{where}' was written by another version of nas_attn ({lines[0]})"
        return StorageError(f"{what}: read it with that version, or name another database")
    name: str | None = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return _explained_by_sqlite(name, original, where)
    state: str | None = getattr(original, "sqlstate", None)
    if state == _NO_RIGHT or (state == _READ_ONLY and engine and not _is_standby(engine)):
        act = "write" if writing else "read"
        what = f"storage '{where}': its user may not {act} there ({lines[0]})"
        return StorageError(f"{what}: name a user that may, or another storage")
    refused = next((line.strip() for line in lines if _REFUSED.search(line)), None)
    if refused is not None:
        about_encryption = _ENCRYPTION.search(refused)
        check = "user, password, host, database"
        if about_encryption:
            check = "certificates and sslmode"
        return StorageError(f"storage '{where}' cannot be opened: {refused}: check {check}")
    return _explained_by_server(state, lines[0], where)


def _explained_by_sqlite(
    name: str, original: BaseException, where: str
) -> StorageError | StudyError:
    """`name`: SQLite's own of the error."""
    if name == "SQLITE_NOTADB":
        return StudyError(f"storage '{where}' is not an SQLite database: name another file")
    if name == "SQLITE_IOERR_SHORT_READ":
        # The log is shorter than what the programs that use it know of it.
        return StorageError(gone(where, f"{where.rpartition('/')[2]}-wal"))
    kind = StorageAway if name.startswith(_PASSING) else StorageError
    for prefix, sentence in _SENTENCES.items():
        if name.startswith(prefix):
            return kind(f"storage '{where}': {sentence} (SQLite says: {original})")
    return StorageError(f"storage '{where}': {first_line(original)}")


def _explained_by_server(state: str | None, message: str, where: str) -> StorageError:
    """`state`: PostgreSQL's code of the error; None if its server did not answer."""
    if state == _DISK_FULL:
        return StorageAway(
            f"storage '{where}': the server's disk is full: make room, then resume ({message})"
        )
    if state is not None and state.startswith(_OVERRUN):
        return StorageAway(f"storage '{where}': {message}")
    if state is not None and not state.startswith(_NO_SERVER):
        return StorageError(f"storage '{where}': {message}")
    # Perhaps the host's name is right, and its service has not started yet.
    check = ": check the host's name" if _UNRESOLVED.search(message) else ""
    return StorageAway(
        f"storage '{where}' does not answer: {message}{check}; when it is back, resume"
    )


def _is_standby(engine: sa.Engine) -> bool:
    """Whether the server only follows another one, which may pass; also if it does not say."""
    try:
        with engine.connect() as connection:
            return bool(connection.scalar(sa.text("SELECT pg_is_in_recovery()")))
    except (SQLAlchemyError, NasAttnError):
        return True


def translate_errors(engine: sa.Engine, where: str) -> None:
    """Makes another library's engine raise our errors for a database that is full, gone or broken;
    not for others.
    """

    def translate(context: ExceptionContext) -> None:
        original = context.original_exception
        if not context.is_pre_ping and _lasting(original):
            writing = not (context.statement or "").lstrip().upper().startswith("SELECT")
            raise explained(original, where, writing=writing, engine=engine) from original

    sa.event.listen(engine, "handle_error", translate)


_DISK_FULL = "53100"
_NO_COLUMN = "42703"
# a standby, or a user who may only read
_READ_ONLY = "25006"
# to read or to write this table, or to make one
_NO_RIGHT = "42501"
# PostgreSQL's states of a lost connection and of a server that shuts down
_NO_SERVER = (
    "08",
    "57P",
    "25P03",
)
# out of resources, a standby, conflicts
_OVERRUN = (
    "53",
    _READ_ONLY,
    "40001",
    "40P01",
    "55P03",
    "57014",
)
_UNRESOLVED = re.compile("translate host name|failed to resolve host")
_ENCRYPTION = re.compile("SSL|sslmode|certificate|private key file")
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


def _lasting(original: BaseException) -> bool:
    """Whether a driver's error means that the database is full, gone or broken; the caller handles
    other errors.
    """
    if _tables_gone(original):
        return True
    name: str | None = getattr(original, "sqlite_errorname", None)
    if name is not None:
        return name == "SQLITE_NOTADB" or name.startswith(tuple(_SENTENCES))
    state: str | None = getattr(original, "sqlstate", None)
    # never reached the server, or lost it
    if state is None:
        return type(original).__name__ == "OperationalError"
    return state.startswith((*_NO_SERVER, "53", _READ_ONLY, _NO_RIGHT))


def _column_gone(original: BaseException) -> bool:
    message = first_line(original)
    by_sqlite = "no such column" in message or "has no column" in message
    return by_sqlite or getattr(original, "sqlstate", None) == _NO_COLUMN


def _tables_gone(original: BaseException) -> bool:
    return "no such table" in str(original) or getattr(original, "sqlstate", None) in (
        "42P01",
        "3D000",
    )

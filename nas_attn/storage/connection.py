"""Connections: the settings under which SQLite serves many processes, transactions, and errors as sentences.

Settings (8 processes on 2 cores, 12 parameters a trial, Optuna 5.0: no locked error, 22 to 30 trials a second instead of
4 to 23 with errors in 2 of 5 runs):
write-ahead log (kept in the file), `synchronous = NORMAL` and a busy timeout of 60 s (both per connection).
A power cut may cost the last transactions, a killed process none; neither damages the file.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, Engine, cast, create_engine, event, func, literal_column
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import Pool

from nas_attn.errors import StorageError, StudyError
from nas_attn.storage.url import storage_url

BUSY_TIMEOUT_S = 60


class TunedConnection(sqlite3.Connection):
    """An SQLite connection that brings its settings along.

    Passed as `factory` in the connect arguments, it survives the pickling of Optuna's storage to a child process,
    which an event listener on the engine does not.

    Raises:
        StorageError: this process was forked from one that uses SQLite. The library's account of its locks is then that
            of the parent: the child waits for ever, or removes the log under the parent's feet.
    """

    _process: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if TunedConnection._process not in (None, os.getpid()):
            raise StorageError(
                "an SQLite study database cannot be used in a process forked from one that uses it: start the process by "
                "multiprocessing's 'spawn', or as a command"
            )
        TunedConnection._process = os.getpid()
        super().__init__(*args, **kwargs)
        self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}").close()
        self.execute("PRAGMA synchronous = NORMAL").close()


def engine_arguments(url: URL) -> dict[str, Any]:
    """Keyword arguments for `sqlalchemy.create_engine`."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"factory": TunedConnection, "timeout": BUSY_TIMEOUT_S}}
    return {"pool_pre_ping": True}


def optuna_engine_arguments(url: str) -> tuple[str, dict[str, Any]]:
    """URL and `engine_kwargs` with which `optuna.storages.RDBStorage` opens the same database under the same settings.

    Open it with `Database` first, which switches a new SQLite file to the write-ahead log.

    Raises:
        StudyError: the URL cannot be used.
    """
    parsed = storage_url(url)
    return parsed.render_as_string(hide_password=False), engine_arguments(parsed)


class Connector:
    """Transactions on one database, for several threads. A forked child gets connections of its own on PostgreSQL, and an
    error on SQLite.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments = engine_arguments(url)
        if self.is_sqlite:
            # The driver must not begin transactions behind our back: see _begin.
            arguments["connect_args"]["isolation_level"] = None
        try:
            self.engine: Engine = create_engine(url, **arguments)
        except ImportError as error:
            raise StudyError(f"storage '{self}' cannot be used: {error}: pip install 'nas-attn[postgres]'") from None
        if self.is_sqlite:
            event.listen(self.engine, "begin", _begin)
        self._writing = self.engine.execution_options(nas_attn_write=True)
        _connectors.add(self)
        weakref.finalize(self, self.engine.dispose)

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @property
    def clock(self) -> ColumnElement[float]:
        """The database's clock in Unix seconds, as an SQL expression: one clock for all workers."""
        if self.is_sqlite:
            return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)
        return cast(func.extract("epoch", func.clock_timestamp()), Double)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads; on SQLite it sees one state of the database throughout."""
        with self.errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it, or on an exception nothing."""
        with self.errors(), self._writing.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns the driver's errors into ours."""
        try:
            yield
        except DBAPIError as error:
            raise explained(error.orig or error, str(self)) from error
        except SQLAlchemyError as error:
            raise StorageError(f"storage '{self}': {error}") from error


def _begin(connection: Connection) -> None:
    """Writers take SQLite's write lock at once.

    A transaction that begins by reading and wants to write later fails without waiting when another wrote in between,
    whatever the busy timeout.
    """
    writing = connection.get_execution_options().get("nas_attn_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


_SENTENCES = {
    "SQLITE_CORRUPT": "the file is damaged: put the last `nas-attn backup` in its place or try `sqlite3 FILE .recover`",
    "SQLITE_BUSY": "another program keeps the file locked: close it, then resume",
    "SQLITE_LOCKED": "another program keeps the file locked: close it, then resume",
    "SQLITE_FULL": "the disk is full: make room, then resume",
    "SQLITE_READONLY": "the file cannot be written: check its permissions and those of its folder",
    "SQLITE_CANTOPEN": "the file cannot be opened: check its permissions and those of its folder",
    "SQLITE_IOERR": "reading or writing the disk failed: check the disk and its free space",
}


def explained(original: BaseException, where: str) -> StorageError | StudyError:
    """A database driver's error as one sentence with the way out."""
    name = getattr(original, "sqlite_errorname", None) or ""
    if name == "SQLITE_NOTADB":
        return StudyError(f"storage '{where}' is not an SQLite database: name another file")
    for prefix, sentence in _SENTENCES.items():
        if name.startswith(prefix):
            return StorageError(f"storage '{where}': {sentence} (SQLite says: {original})")
    first_line = (str(original).strip().splitlines() or [type(original).__name__])[0]
    return StorageError(f"storage '{where}': {first_line}")


_connectors: weakref.WeakSet[Connector] = weakref.WeakSet()
_parents_pools: list[Pool] = []


def _forget_connections() -> None:
    """A forked child must not use its parent's connections, nor close them, as losing the last reference would."""
    for connector in _connectors:
        _parents_pools.append(connector.engine.pool)
        connector.engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)

"""Connections to a study database: SQLite's settings for many processes, and transactions.

Settings, without which SQLite fails in 2 of 5 runs of 8 processes: write-ahead log (kept in the
file), `synchronous = NORMAL` and a busy timeout of 60 s (per connection). A power cut may lose the
last transactions, a killed process none; the file is not damaged.

PostgreSQL may stand behind a PgBouncer that pools transactions. So nothing here outlives its
transaction: no prepared statement, no session's lock or setting, no LISTEN.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase

from nas_attn.errors import StorageError, StudyError, shorten
from nas_attn.storage.driver_errors import explained
from nas_attn.storage.outages import Outage, T
from nas_attn.storage.rows import read_all
from nas_attn.storage.urls import shown_url
from nas_attn.system.importing import installing

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

BUSY_TIMEOUT_S = 60
# for a PostgreSQL server to answer; `?connect_timeout=` in the URL overrides it
CONNECT_TIMEOUT_S = 15


class TunedConnection(sqlite3.Connection):
    """An SQLite connection with its settings. As `factory` it survives pickling, unlike an event
    listener.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}").close()
        self.execute("PRAGMA synchronous = NORMAL").close()


def engine_arguments(url: URL) -> dict[str, Any]:
    """Keyword arguments for `sqlalchemy.create_engine`, and Optuna's `RDBStorage`."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"factory": TunedConnection, "timeout": BUSY_TIMEOUT_S}}
    # Behind a PgBouncer that pools transactions, the next transaction may have another server's
    # connection, in which nothing is prepared.
    driver: dict[str, Any] = {"prepare_threshold": None}
    if "connect_timeout" not in url.query:
        driver["connect_timeout"] = CONNECT_TIMEOUT_S
    return {"pool_pre_ping": True, "connect_args": driver}


class Connector:
    """Transactions on one database, for several threads. A forked child cannot use it."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments = engine_arguments(url)
        if self.is_sqlite:
            # The driver must not begin transactions by itself: see _begin.
            arguments["connect_args"]["isolation_level"] = None
        try:
            self.engine: sa.Engine = sa.create_engine(url, **arguments)
        except ImportError as error:
            raise StudyError(
                f"storage '{self}' cannot be used: {error}: {installing('postgres')}"
            ) from None
        if self.is_sqlite:
            sa.event.listen(self.engine, "begin", _begin)
        # (study, resource) -> (the holder's last sign, since when this process has seen it so)
        self.signs: dict[tuple[int, str], tuple[object, float]] = {}
        self.outage = Outage(str(self))
        self._writing = self.engine.execution_options(nas_attn_write=True)
        # device and inode of the SQLite file, as first seen
        self._file: tuple[int, int] | None = None
        weakref.finalize(self, self.engine.dispose)

    def __str__(self) -> str:
        return shown_url(self.url)

    def endure(self, work: Callable[[], T]) -> T:
        """Does `work`, which must be repeatable; waits while the database is away, and then repeats
        it.
        """
        # Connections to a server that has been restarted are dead.
        return self.outage.endure(work, self.engine.dispose)

    @property
    def clock(self) -> sa.ColumnElement[float]:
        """The database's clock in Unix seconds, as an SQL expression. For SQLite it is this
        machine's clock.
        """
        if self.is_sqlite:
            return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double)
        return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)

    def insert(self, table: type[DeclarativeBase]) -> postgresql.Insert | sqlite.Insert:
        """An insert with `on_conflict`, which each dialect has in its own class."""
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)

    def execute(self, *statements: sa.Executable) -> None:
        """Writes by statements, in one transaction."""
        with self.write() as connection:
            for statement in statements:
                connection.execute(statement)

    def rows(self, kind: type[T], query: sa.Executable, *, within: str = "") -> list[T]:
        """The records that a query finds. The field `within` is a record of the same row."""
        with self.read() as connection:
            rows = connection.execute(query).mappings()
            return read_all(kind, [{**row, within: dict(row)} for row in rows])

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that reads one state; StorageError if the database fails, or holds values
        that nas_attn never writes.
        """
        self._check_in_place()
        try:
            with self.errors(), self.engine.connect() as connection:
                yield connection
        except ValidationError as error:
            # A value of another form or type: SQLite keeps any.
            what = f"holds a row that cannot be read ({shorten(str(error), 120)})"
            raise StorageError(
                f"storage '{self}' {what}: restore the database from a backup"
            ) from error

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it, or on an exception nothing."""
        self._check_in_place()
        with self.errors(), self._writing.begin() as connection:
            yield connection

    def _check_in_place(self) -> None:
        """Raises StorageError if the SQLite file was removed or replaced: open connections would go
        on, and all their writes be lost.
        """
        if not self.is_sqlite:
            return
        here = None
        # opening it reports other reasons
        with suppress(OSError):
            status = os.stat(str(self.url.database))
            here = (status.st_dev, status.st_ino)
        if self._file not in (None, here):
            what = f"storage '{self}': the file was removed, moved or replaced while it was in use"
            raise StorageError(f"{what}: put it back, or its last backup, then resume")
        self._file = here

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Inside, the driver's errors become ours."""
        try:
            yield
        except DBAPIError as error:
            raise explained(error.orig or error, str(self)) from error
        except SQLAlchemyError as error:
            raise StorageError(f"storage '{self}': {error}") from error


def _begin(connection: sa.Connection) -> None:
    """Writers take SQLite's write lock at once: after a read, taking it fails without a wait if
    another process wrote meanwhile.
    """
    writing = connection.get_execution_options().get("nas_attn_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

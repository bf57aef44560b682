"""Creating our tables and bringing older ones up to date, while other processes try the same."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import StorageError
from nas_attn.storage.connection import Connector, TunedConnection, explained
from nas_attn.storage.tables import VERSION_TABLE
from nas_attn.waiting import Wait, locked

VERSIONS = ("0001",)
"""Schema versions that this program knows, oldest first: the revisions under `migrations/versions`."""

_ADVISORY_LOCK = 0x6E61735F6174746E  # "nas_attn"
_WAL_PATIENCE_S = 30.0
_PATIENCE_S = 300.0
"""Seconds that one process may take to make the tables; a folder of thousands of studies is upgraded in a few."""


def prepare(connector: Connector) -> None:
    """Create or upgrade our tables, and switch a new SQLite file to the write-ahead log.

    Raises:
        StudyError: the file is not a database.
        StorageError: it is damaged, or from a newer version.
    """
    if _is_ready(connector):
        return
    with creation_lock(connector):
        if connector.is_sqlite:
            _use_wal(connector)
        with connector.write() as connection:
            if _known_version(connection, connector) != VERSIONS[-1]:
                _upgrade(connection)


def _is_ready(connector: Connector) -> bool:
    with connector.read() as connection:
        if _known_version(connection, connector) != VERSIONS[-1]:
            return False
        return not connector.is_sqlite or connection.scalar(text("PRAGMA journal_mode")) == "wal"


def _known_version(connection: Connection, connector: Connector) -> str | None:
    """Schema version of the database, None where our tables are not there yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if version is not None and version not in VERSIONS:
        raise StorageError(
            f"storage '{connector}' was written by a newer nas_attn (schema {version}, this one knows up to "
            f"{VERSIONS[-1]}): upgrade nas_attn to open it"
        )
    return version


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    command.upgrade(config, "head")


def _use_wal(connector: Connector) -> None:
    """Switch the file to the write-ahead log.

    While another connection has it open in the old mode, SQLite answers `locked` at once, whatever the timeout: hence
    the loop.
    """
    deadline = time.monotonic() + _WAL_PATIENCE_S
    while True:
        try:
            with closing(sqlite3.connect(str(connector.url.database), factory=TunedConnection)) as connection:
                connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.DatabaseError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise explained(error, str(connector)) from error
            time.sleep(0.05)


def _is_busy(error: sqlite3.DatabaseError) -> bool:
    return (getattr(error, "sqlite_errorname", None) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


@contextmanager
def creation_lock(connector: Connector) -> Iterator[None]:
    """Held by the one process that creates or changes tables; others wait. The system frees it when its holder dies.

    PostgreSQL: an advisory lock. SQLite: a lock file beside the database, as long as it is held. Not reentrant.

    Raises:
        StorageError: whoever holds it has been stopped, or has taken minutes.
        Interrupted: the search is asked to stop.
    """
    with Wait(f"the tables of '{connector}', which another process makes") as wait:
        if not connector.is_sqlite:
            connection = connector.endure(lambda: _locked_connection(connector, wait))
            try:
                wait.over()
                yield
            finally:
                with suppress(SQLAlchemyError):  # a connection that was cut has freed its lock
                    connection.close()
            return
        file = Path(str(connector.url.database))
        with locked(file.with_name(f".{file.name}.lock"), wait, _PATIENCE_S) as holder:
            if holder:
                raise _stuck(connector, holder)
            yield


def _locked_connection(connector: Connector, wait: Wait) -> Connection:
    """A connection with the advisory lock, which it holds until it is closed."""
    with connector.errors():
        connection = connector.engine.connect()
        try:
            _take_advisory_lock(connection, connector, wait)
        except BaseException:
            connection.close()
            raise
        return connection


def _take_advisory_lock(connection: Connection, connector: Connector, wait: Wait) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}):
        if time.monotonic() > deadline:
            raise _stuck(connector, _advisory_holder(connection))
        wait.pause(0.05, lambda: _advisory_holder(connection))


def _advisory_holder(connection: Connection) -> str:
    """The server's process that holds the lock, and who it works for."""
    query = """
        SELECT a.pid, coalesce(a.client_addr::text, 'this machine'), a.application_name, a.xact_start::timestamp(0)
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = :key
    """
    found = connection.execute(text(query), {"key": _ADVISORY_LOCK}).one_or_none()
    if found is None:
        return "a connection that has just ended"
    pid, client, name, since = found
    return f"the server's process {pid} for {name or 'a client'} on {client}, since {since}"


def _stuck(connector: Connector, holder: str) -> StorageError:
    return StorageError(
        f"storage '{connector}': its tables are being made or read by {holder}, which does not finish: continue it "
        "(kill -CONT), or end it, then try again"
    )

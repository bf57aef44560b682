"""Making and upgrading our tables, and the lock under which that is done."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import StorageError
from nas_attn.storage.connection import Connector, TunedConnection
from nas_attn.storage.driver_errors import explained
from nas_attn.storage.tables import SCHEMA_VERSIONS, VERSION_TABLE, metadata
from nas_attn.system.waiting import Wait, locked

# "nas_attn"
_ADVISORY_LOCK = 0x6E61735F6174746E
_WAL_PATIENCE_S = 30.0
# limit for a process to make the tables; thousands of studies need a few seconds
_PATIENCE_S = 300.0


def prepare(connector: Connector) -> None:
    """Creates or upgrades our tables; on SQLite with a write-ahead log. StudyError, StorageError:
    it is not possible.
    """
    with connector.read() as connection:
        is_current = known_version(connection, connector) == SCHEMA_VERSIONS[-1]
        if is_current and (
            not connector.is_sqlite or connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        ):
            return
    with creation_lock(connector):
        if connector.is_sqlite:
            _use_wal(connector)
        with connector.write() as connection:
            version = known_version(connection, connector)
            if version != SCHEMA_VERSIONS[-1]:
                _make_or_upgrade(connection, version)


def known_version(connection: sa.Connection, connector: Connector) -> str | None:
    """Schema version of the database; None if it does not have our tables yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if version is not None and version not in SCHEMA_VERSIONS:
        newer = f"a newer nas_attn (schema {version}, this one knows up to {SCHEMA_VERSIONS[-1]})"
        raise StorageError(
            f"storage '{connector}' was written by {newer}: upgrade nas_attn to open it"
        )
    return version


def _make_or_upgrade(connection: sa.Connection, version: str | None) -> None:
    """Makes all tables as they are now where there is no version, else runs the later revisions."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    if version is not None:
        command.upgrade(config, "head")
        return
    metadata.create_all(connection, checkfirst=False)
    command.stamp(config, "head")


def _use_wal(connector: Connector) -> None:
    deadline = time.monotonic() + _WAL_PATIENCE_S
    while True:
        try:
            with closing(
                sqlite3.connect(str(connector.url.database), factory=TunedConnection)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.DatabaseError as error:
            name: str = getattr(error, "sqlite_errorname", None) or ""
            if not name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or time.monotonic() > deadline:
                raise explained(error, str(connector)) from error
            time.sleep(0.05)


@contextmanager
def creation_lock(connector: Connector) -> Iterator[None]:
    """Inside, only this process makes tables; not reentrant. PostgreSQL: an advisory lock; SQLite:
    a lock file. Both are freed when their holder dies. Raises StorageError: the holder hangs.
    Raises Interrupted: the search is asked to stop.
    """
    with Wait(f"the tables of '{connector}', which another process makes") as wait:
        if not connector.is_sqlite:
            connection = connector.endure(lambda: _locked_connection(connector, wait))
            try:
                wait.over()
                yield
            finally:
                # a cut connection has freed its lock
                with suppress(SQLAlchemyError):
                    connection.close()
            return
        file = Path(str(connector.url.database))
        with locked(file.with_name(f".{file.name}.lock"), wait, _PATIENCE_S) as holder:
            if holder:
                raise _stuck(connector, holder)
            yield


def _locked_connection(connector: Connector, wait: Wait) -> sa.Connection:
    """A connection in a transaction that holds the advisory lock; closing it ends both. A session's
    lock would be lost behind PgBouncer, which gives the session to another client.
    """
    with connector.errors():
        connection = connector.engine.connect()
        try:
            _take_advisory_lock(connection, connector, wait)
        except BaseException:
            connection.close()
            raise
        return connection


def _take_advisory_lock(connection: sa.Connection, connector: Connector, wait: Wait) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not connection.scalar(
        sa.text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK}
    ):
        if time.monotonic() > deadline:
            raise _stuck(connector, _advisory_holder(connection))
        # Who waits gives its server connection back: PgBouncer has few, and the holder needs more.
        connection.rollback()
        wait.pause(0.05, lambda: _advisory_holder(connection))
        connection.rollback()


def _advisory_holder(connection: sa.Connection) -> str:
    """The server's process that holds the lock, and its client."""
    query = """
        SELECT
            a.pid,
            coalesce(a.client_addr::text, 'this machine'),
            a.application_name,
            a.xact_start::timestamp(0)
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted
            AND (l.classid::bigint << 32 | l.objid::bigint) = :key
    """
    row = connection.execute(sa.text(query), {"key": _ADVISORY_LOCK}).one_or_none()
    if row is None:
        return "a connection that has just ended"
    pid, client, name, since = row
    return f"the server's process {pid} for {name or 'a client'} on {client}, since {since}"


def _stuck(connector: Connector, holder: str) -> StorageError:
    what = (
        f"storage '{connector}': its tables are being made or read by {holder}, which does not"
        " finish"
    )
    return StorageError(f"{what}: continue it (kill -CONT), or end it, then try again")

"""Making and upgrading our tables, and the lock under which that is done."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import StorageAway, StorageError
from nas_attn.storage.connection import Connector, TunedConnection
from nas_attn.storage.driver_errors import explained
from nas_attn.storage.tables import SCHEMA_VERSIONS, VERSION_TABLE, Base
from nas_attn.system.waiting import Wait, locked

# "nas_attn"
_LOCK = 0x6E61735F6174746E
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
    Base.metadata.create_all(connection, checkfirst=False)
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
            problem = explained(error, str(connector))
            if not isinstance(problem, StorageAway) or time.monotonic() > deadline:
                raise problem from error
            time.sleep(0.05)


@contextmanager
def creation_lock(connector: Connector) -> Iterator[None]:
    """Inside, only this process makes tables; not reentrant. PostgreSQL: an advisory lock; SQLite:
    a lock file. Both are freed when their holder dies. Raises StorageError: the holder hangs.
    Raises Interrupted: the search is asked to stop.
    """
    with Wait(f"the tables of '{connector}', which another process makes") as wait:
        if connector.is_sqlite:
            file = Path(str(connector.url.database))
            with locked(file.with_name(f".{file.name}.lock"), wait, _PATIENCE_S) as mine:
                if not mine:
                    raise _stuck(connector)
                yield
            return
        connection = connector.endure(lambda: _locked_connection(connector, wait))
        try:
            wait.over()
            yield
        finally:
            # a cut connection has freed its lock
            with suppress(SQLAlchemyError):
                connection.close()


def _locked_connection(connector: Connector, wait: Wait) -> sa.Connection:
    """A connection in a transaction that holds the advisory lock; closing it ends both. A session's
    lock would be lost behind PgBouncer, which gives the session to another client.
    """
    deadline = time.monotonic() + _PATIENCE_S
    with connector.errors():
        connection = connector.engine.connect()
        try:
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))):
                if time.monotonic() > deadline:
                    raise _stuck(connector)
                # Who waits gives its server connection back: PgBouncer has few, and the holder
                # needs more.
                connection.rollback()
                wait.pause(0.05)
        except BaseException:
            connection.close()
            raise
        return connection


def _stuck(connector: Connector) -> StorageError:
    return StorageError(
        f"storage '{connector}': another process makes or reads its tables, and does not finish:"
        " continue it (kill -CONT), or end it, then try again"
    )

"""Our tables, beside Optuna's in the same database: prefix `nas_`, own MetaData, no foreign key
into Optuna's.

A study's rows have its number (`study_id`), which is never used twice, so that a worker of a
deleted study cannot write into a new one of the same name. JSON is stored as text: PostgreSQL's own
type refuses NaN, the value of a diverged loss.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import StorageError
from nas_attn.storage.connection import Connector, TunedConnection, explained
from nas_attn.waiting import Wait, locked

PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

metadata = sa.MetaData()


def _columns(kind: Any, names: str, *, nullable: bool = False) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=nullable) for name in names.split()]


def _numbered(name: str, *rest: Any, of_study: bool = True) -> sa.Table:
    """A table with numbered rows; no number is used twice."""
    number = sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)
    study_id = [sa.Column("study_id", sa.Integer, nullable=False, index=True)] if of_study else []
    return sa.Table(name, metadata, number, *study_id, *rest, sqlite_autoincrement=True)


def _keyed(name: str, keys: str, *rest: sa.Column[Any]) -> sa.Table:
    """A table with the study and these columns as its key."""
    key = sa.PrimaryKeyConstraint("study_id", *keys.split(), name=f"{name}_pkey")
    return sa.Table(name, metadata, *_columns(sa.Integer, "study_id"), *rest, key)


study = _numbered(
    "nas_study",
    *_columns(sa.Text, "name recipe versions artifacts"),
    *_columns(sa.Text, "fingerprint sites prior published swept batches", nullable=True),
    *_columns(sa.Double, "created_at"),
    *_columns(sa.Double, "stop_asked_at screen_until test_from ends_at publish_at", nullable=True),
    *_columns(sa.Integer, "trials rounds_before"),
    *_columns(sa.Integer, "confirmed_trials", nullable=True),
    sa.UniqueConstraint("name", name="nas_study_name"),
    of_study=False,
)
lease = _keyed(
    "nas_lease",
    "resource",
    *_columns(sa.Text, "resource owner"),
    *_columns(sa.Integer, "number"),
    *_columns(sa.Double, "expires_at ttl_s"),
    *_columns(sa.Boolean, "released"),
)
worker = _keyed(
    "nas_worker",
    "owner",
    *_columns(sa.Text, "owner device doing waiting"),
    *_columns(sa.Double, "began_at since seen_at"),
)
candidate = _keyed(
    "nas_candidate",
    "key",
    *_columns(sa.Text, "key placement state reason"),
    *_columns(sa.Text, "baseline costs", nullable=True),
    *_columns(sa.Integer, "trial"),
    *_columns(sa.Boolean, "by_prior"),
    *_columns(sa.Double, "created_at"),
    *_columns(sa.Double, "finished_at", nullable=True),
)
score = _keyed(
    "nas_score",
    "key protocol seed backbone rung",
    *_columns(sa.Text, "key protocol purpose metrics"),
    *_columns(sa.BigInteger, "seed"),
    *_columns(sa.Integer, "backbone rung epochs examples"),
    *_columns(sa.Double, "wall_s device_s"),
    *_columns(sa.LargeBinary, "correct answers", nullable=True),
    *_columns(sa.Text, "arithmetic", nullable=True),
)
run = _numbered(
    "nas_run",
    *_columns(sa.Text, "key placement protocol purpose state reason"),
    *_columns(sa.BigInteger, "seed"),
    *_columns(sa.Integer, "study_id backbone round priority attempts"),
    *_columns(sa.Double, "finished_at", nullable=True),
    sa.UniqueConstraint("study_id", "key", "protocol", "seed", "backbone", name="nas_run_identity"),
    sa.Index("nas_run_state", "study_id", "state"),
    of_study=False,
)
session = _numbered(
    "nas_session", *_columns(sa.Double, "started_at"), *_columns(sa.Text, "document")
)
checkpoint = _numbered(
    "nas_checkpoint",
    *_columns(sa.Text, "run artifact sha256"),
    *_columns(sa.BigInteger, "size"),
    *_columns(sa.Integer, "epochs"),
    *_columns(sa.Double, "created_at"),
)
test_reading = _numbered(
    "nas_test_reading", *_columns(sa.Double, "read_at"), *_columns(sa.Text, "reason")
)
_DOCUMENTS = (
    "protocol",
    "backbone",
    "weights_lost",
    "curve",
    "labels",
    "validation",
    "launch",
    "arithmetic",
)
protocol, backbone, weights_lost, curve, labels, validation, launch, arithmetic = (
    _keyed(f"nas_{name}", "name", *_columns(sa.Text, "name content")) for name in _DOCUMENTS
)

VERSIONS = (
    # schema versions that this program knows, oldest first: the revisions under
    # `migrations/versions`
    "0001",
    "0002",
)

_ADVISORY_LOCK = 0x6E61735F6174746E  # "nas_attn"
_WAL_PATIENCE_S = 30.0
_PATIENCE_S = (
    300.0  # limit for a process to make the tables; thousands of studies need a few seconds
)


def prepare(connector: Connector) -> None:
    """Creates or upgrades our tables; on SQLite with a write-ahead log. StudyError, StorageError:
    it is not possible.
    """
    with connector.read() as connection:
        known = _known_version(connection, connector) == VERSIONS[-1]
        if known and (
            not connector.is_sqlite or connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        ):
            return
    with creation_lock(connector):
        if connector.is_sqlite:
            _use_wal(connector)
        with connector.write() as connection:
            if _known_version(connection, connector) != VERSIONS[-1]:
                _upgrade(connection)


def _known_version(connection: sa.Connection, connector: Connector) -> str | None:
    """Schema version of the database; None if it does not have our tables yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if version is not None and version not in VERSIONS:
        newer = f"a newer nas_attn (schema {version}, this one knows up to {VERSIONS[-1]})"
        raise StorageError(
            f"storage '{connector}' was written by {newer}: upgrade nas_attn to open it"
        )
    return version


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    command.upgrade(config, "head")


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
                with suppress(SQLAlchemyError):  # a cut connection has freed its lock
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
        SELECT a.pid, coalesce(a.client_addr::text, 'this machine'), a.application_name, a.xact_start::timestamp(0)
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = :key
    """
    found = connection.execute(sa.text(query), {"key": _ADVISORY_LOCK}).one_or_none()
    if found is None:
        return "a connection that has just ended"
    pid, client, name, since = found
    return f"the server's process {pid} for {name or 'a client'} on {client}, since {since}"


def _stuck(connector: Connector, holder: str) -> StorageError:
    what = (
        f"storage '{connector}': its tables are being made or read by {holder}, which does not"
        " finish"
    )
    return StorageError(f"{what}: continue it (kill -CONT), or end it, then try again")

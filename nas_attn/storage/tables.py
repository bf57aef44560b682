"""Our tables, beside Optuna's in the same database: prefix `nas_`, own MetaData, no foreign key into Optuna's.

A study's rows carry its number (`study_id`), which is never given out twice, so that a worker of a deleted study cannot
write into a new one of the same name. There are no foreign keys: SQLite enforces them only if every program that opens
the file asks for it, and `Database.delete_study` deletes from all tables in one transaction.

Mappings and tuples are stored as JSON text: PostgreSQL's own JSON type refuses NaN, which a diverged loss is.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    text,
)
from sqlalchemy.exc import SQLAlchemyError

from nas_attn.errors import StorageError
from nas_attn.storage.connection import Connector, TunedConnection, explained
from nas_attn.waiting import Wait, locked

PREFIX = "nas_"
VERSION_TABLE = "nas_alembic_version"

metadata = MetaData()

study = Table(
    "nas_study",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("recipe", Text, nullable=False),
    Column("versions", Text, nullable=False),
    Column("fingerprint", Text),
    Column("created_at", Double, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("artifacts", Text, nullable=False),
    Column("sites", Text),
    Column("confirmed_trials", Integer),
    Column("duels_before", Integer, nullable=False),
    Column("stop_asked_at", Double),
    Column("screen_until", Double),
    Column("test_from", Double),
    Column("ends_at", Double),
    Column("published", Text),
    Column("publish_at", Double),
    Column("swept", Text),
    UniqueConstraint("name", name="nas_study_name"),
    sqlite_autoincrement=True,
)

lease = Table(
    "nas_lease",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("resource", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("released", Boolean, nullable=False),
    Column("ttl_s", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "resource", name="nas_lease_pkey"),
)

worker = Table(
    "nas_worker",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("doing", Text, nullable=False),
    Column("waiting", Text, nullable=False),
    Column("began_at", Double, nullable=False),
    Column("since", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "owner", name="nas_worker_pkey"),
)

candidate = Table(
    "nas_candidate",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("trial", Integer, nullable=False),
    Column("baseline", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("costs", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    PrimaryKeyConstraint("study_id", "key", name="nas_candidate_pkey"),
)

score = Table(
    "nas_score",
    metadata,
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("backbone", Integer, nullable=False),
    Column("rung", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("examples", Integer, nullable=False),
    Column("wall_s", Double, nullable=False),
    Column("device_s", Double, nullable=False),
    Column("correct", LargeBinary),
    PrimaryKeyConstraint("study_id", "key", "way", "seed", "backbone", "rung", name="nas_score_pkey"),
)

run = Table(
    "nas_run",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("way", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("backbone", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("wanted_at", Double, nullable=False),
    UniqueConstraint("study_id", "key", "way", "seed", "backbone", name="nas_run_identity"),
    Index("nas_run_state", "study_id", "state"),
    sqlite_autoincrement=True,
)

session = Table(
    "nas_session",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("started_at", Double, nullable=False),
    Column("document", Text, nullable=False),
    sqlite_autoincrement=True,
)

checkpoint = Table(
    "nas_checkpoint",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("run", Text, nullable=False),
    Column("artifact", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("epochs", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,
)


def _documents(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("study_id", Integer, nullable=False),
        Column("name", Text, nullable=False),
        Column("content", Text, nullable=False),
        PrimaryKeyConstraint("study_id", "name", name=f"{name}_pkey"),
    )


way = _documents("nas_way")
backbone = _documents("nas_backbone")
weights_lost = _documents("nas_weights_lost")
curve = _documents("nas_curve")
labels = _documents("nas_labels")
validation = _documents("nas_validation")
launch = _documents("nas_launch")

test_reading = Table(
    "nas_test_reading",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("read_at", Double, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_autoincrement=True,
)


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

"""A database that is away, as several threads of one process meet it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url, text
from storage_worker import search

from nas_attn.errors import StorageAway, StorageError
from nas_attn.storage import connection, outages, preparing, tables
from nas_attn.storage.connection import engine_arguments
from nas_attn.storage.database import Database
from nas_attn.system.waiting import reporting

WORKER = Path(__file__).with_name("storage_worker.py")


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(WORKER), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_all(processes: list[subprocess.Popen[str]]) -> list[str]:
    """What went wrong in each."""
    failures = []
    for process in processes:
        _, errors = process.communicate(timeout=240)
        if process.returncode != 0:
            failures.append(errors)
    return failures


def test_workers_share_a_database_behind_a_pool_of_transactions(pgbouncer: str) -> None:
    """More workers than the pool has connections. Each repeats its statements more often than the
    driver would without preparing them.
    """
    with ThreadPoolExecutor(4) as pool:
        for worker in [pool.submit(search, pgbouncer, "2") for _ in range(4)]:
            worker.result(timeout=240)
    with Database(pgbouncer) as database:
        rows = database.study("digits").candidates()
        assert [row.trial for row in rows] == list(range(8))
        assert all(row.state == "scored" for row in rows)


@pytest.mark.parametrize(
    ("url", "processes"),
    [
        ("sqlite", 2),
        pytest.param("sqlite", 8, marks=pytest.mark.slow),
        pytest.param("postgresql", 4, marks=pytest.mark.slow),
    ],
    indirect=["url"],
)
def test_many_processes_share_a_new_database_with_optuna(url: str, processes: int) -> None:
    trials = 4 * processes
    assert finish_all([start("search", url, "4") for _ in range(processes)]) == []
    with Database(url) as database:
        rows = database.study("digits").candidates()
        assert [row.trial for row in rows] == list(range(trials))
        assert all(row.state == "scored" for row in rows)
        assert database.study("digits").held() == []
    arguments = engine_arguments(make_url(url))
    storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    found = optuna.load_study(study_name="digits", storage=storage).trials
    if url.startswith("sqlite"):
        with storage.engine.connect() as tuned:
            names = ("journal_mode", "synchronous", "busy_timeout")
            assert [tuned.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names] == [
                "wal",
                1,
                60_000,
            ]
    storage.remove_session()
    storage.engine.dispose()
    assert [trial.state.name for trial in found] == ["COMPLETE"] * trials
    assert [trial.user_attrs["placement"] for trial in found] == [
        str(row.placement) for row in rows
    ]


@pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
def test_a_killed_writer_loses_nothing_it_had_written_and_its_work_is_taken_over(url: str) -> None:
    process = start("write", url)
    lines = [process.stdout.readline() for _ in range(20)]
    process.kill()
    written = [*lines, *process.stdout.read().splitlines()]
    process.communicate()
    last = int(written[-1])
    with Database(url) as database:
        store = database.study("digits")
        found = {row.trial for row in store.candidates()}
        assert set(range(last + 1)) <= found <= set(range(last + 2))
        assert {f"key{number}" for number in range(last + 1)} <= {
            score.key for score in store.scores()
        }
        store.workers.here("killed", device="cpu", doing="trial 1")
        store.workers.gone("killed")
        assert [lease.resource for lease in store.left()] == ["trial/1"]
        heir = store.acquire("trial/1", owner="heir")
        assert heir.number == 2
        if database.path is not None:
            reader = sqlite3.connect(database.path)
            assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            reader.close()


def test_a_writer_waits_for_another_and_then_writes(sqlite_url: str) -> None:
    with Database(sqlite_url) as database:
        store = database.create_study("a", recipe="{}", versions={})
        blocker = sqlite3.connect(str(database.path), isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=store.set, kwargs={"published": "thread"})
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert store.settings.published is None
        blocker.execute("COMMIT")
        blocker.close()
        thread.join()
        assert store.settings.published == "thread"


def test_a_lock_that_is_never_given_back_is_one_sentence(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0)
    with Database(sqlite_url) as database:
        store = database.create_study("a", recipe="{}", versions={})
        blocker = sqlite3.connect(str(database.path), isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="another program"):
            store.set(published="b")
        blocker.close()
        store.set(published="b")


def test_a_program_that_keeps_the_old_mode_is_named(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna alone opens a file without the log; the switch needs a moment in which nobody else has
    it open.
    """
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0)
    monkeypatch.setattr(preparing, "_WAL_PATIENCE_S", 0.0)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("CREATE TABLE theirs (a)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM theirs").fetchall()
    with pytest.raises(StorageError, match="another program"):
        Database(sqlite_url)
    other.close()
    with Database(sqlite_url) as database:
        assert database.studies() == []


def test_a_full_disk_is_one_sentence_and_loses_nothing_that_was_written(sqlite_url: str) -> None:
    Database(sqlite_url).close()
    process = start("fill", sqlite_url, str(2**20))
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    *numbers, sentence = output.splitlines()
    assert sentence.startswith(f"storage '{sqlite_url}': ")
    assert "disk" in sentence
    with Database(sqlite_url) as database:
        found = {score.key for score in database.study("digits").scores()}
        assert found >= {f"key{number}" for number in numbers}
        database.study("digits").set(published="there is room again")


def test_a_lost_connection_is_one_sentence_and_the_next_call_connects_anew(
    postgres_url: str,
) -> None:
    engine = sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool)
    with Database(postgres_url) as database:
        store = database.create_study("lost", recipe="{}", versions={})
        lease = store.acquire("trial/1", owner="me")

        def cut() -> None:
            with engine.begin() as found:
                others = (
                    "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user"
                )
                found.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {others}").all()

        def cut_off_in_the_middle() -> None:
            with store._fenced(lease):
                cut()

        cut()
        store.set(published="between two calls: nobody notices")
        with pytest.raises(
            StorageError, match=r"terminating connection|closed the connection"
        ) as error:
            cut_off_in_the_middle()
        assert "\n" not in str(error.value)
        assert store.settings.published == "between two calls: nobody notices"
        store.check(lease)
        database.delete_study("lost")


HOLD = """
import sys, time
from nas_attn.storage.database import Database
with Database(sys.argv[1]) as database, database.creating():
    print(flush=True)
    time.sleep(60)
"""


def test_tables_that_another_process_makes_are_not_waited_for_without_end(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_PATIENCE_S", 0.1)
    command = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        try:
            with (
                pytest.raises(StorageError, match="end it"),
                Database(url) as database,
                database.creating(),
            ):
                pytest.fail("another process holds it")
        finally:
            process.kill()  # else the failed test would wait for it
    with Database(url) as database, database.creating():
        assert database.studies() == []


@pytest.fixture
def locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Database, sqlite3.Connection]]:
    """A database whose file another connection keeps locked: it can be read, not written."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(outages, "UNREPORTED_S", 0.3)
    monkeypatch.setattr(outages, "LONGEST_PAUSE_S", 0.2)
    database = Database(f"sqlite:///{tmp_path}/nas_attn.db")
    other = sqlite3.connect(tmp_path / "nas_attn.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    yield database, other
    other.close()
    database.close()


def write(database: Database) -> None:
    with database._connector.write() as open_:
        open_.execute(text("SELECT 1"))


def read(database: Database) -> None:
    with database._connector.read() as open_:
        open_.execute(text("SELECT count(*) FROM nas_study"))


def beside(work: Callable[[], None], database: Database) -> None:
    """Does `work` in a thread, while this one reads the same database again and again."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        database._connector.endure(lambda: read(database))
        thread.join(0.02)


def test_reading_meanwhile_does_not_end_a_wait_to_write(
    locked: tuple[Database, sqlite3.Connection],
) -> None:
    database, other = locked
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("waiting for the database"):
            other.rollback()

    def work() -> None:
        with reporting(say, lambda: False, storage_s=600):
            database._connector.endure(lambda: write(database))

    beside(work, database)
    assert [line.split(",")[0].split(" after")[0] for line in said] == [
        "waiting for the database",
        "the database is back",
    ]


def test_reading_meanwhile_does_not_prolong_a_wait_to_write(
    locked: tuple[Database, sqlite3.Connection],
) -> None:
    database, _ = locked
    raised: list[StorageAway] = []

    def work() -> None:
        with reporting(lambda _: None, lambda: False, storage_s=1):
            try:
                database._connector.endure(lambda: write(database))
            except StorageAway as error:
                raised.append(error)

    beside(work, database)
    assert "gave up after 1 s" in str(raised[0])


LATER = {
    "nas_study": ["batches", "exhausted_at", "taking_over"],
    "nas_score": ["arithmetic", "owner", "recorded_at"],
    "nas_session": ["owner", "recorded_at"],
    "nas_worker": ["left_at", "ending"],
}
"""What revisions have added to the tables of the first schema."""
EARLIER = {
    "nas_study": ["publish_at", "prior"],
    "nas_lease": ["expires_at", "ttl_s"],
    "nas_candidate": ["by_prior"],
}
"""What they have dropped."""
KINDS = ("protocol", "backbone", "weights_lost", "curve", "labels", "validation")
"""Of documents, which had a table each."""


@pytest.mark.parametrize("upgraded", [False, True])
def test_the_migrations_end_where_the_tables_are(database: Database, upgraded: bool) -> None:
    engine = sqlalchemy.create_engine(database.url)
    if upgraded:
        with engine.begin() as connection:
            for table, columns in LATER.items():
                for column in columns:
                    connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
            for table, columns in EARLIER.items():
                for column in columns:
                    connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column} FLOAT")
            connection.exec_driver_sql("DROP TABLE nas_document")
            for kind in KINDS:
                connection.exec_driver_sql(
                    f"CREATE TABLE nas_{kind} (study_id INTEGER, name TEXT, content TEXT)"
                )
            connection.exec_driver_sql("CREATE TABLE nas_launch (study_id INTEGER)")
            connection.exec_driver_sql("UPDATE nas_alembic_version SET version_num = '0001'")
        Database(database.url).close()
    options = {
        "version_table": tables.VERSION_TABLE,
        "compare_server_default": True,
        "include_name": (
            lambda name, kind, parents: kind != "table" or name.startswith(tables.TABLE_PREFIX)
        ),
    }
    with engine.connect() as connection:
        assert (
            compare_metadata(
                MigrationContext.configure(connection, opts=options), tables.Base.metadata
            )
            == []
        )
    engine.dispose()


def test_tables_that_cannot_be_made_leave_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "others.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE nas_worker (mine)")
    with pytest.raises(StorageError, match="nas_worker already exists"):
        Database(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == [
            "nas_worker"
        ]
        connection.execute("DROP TABLE nas_worker")
    with Database(f"sqlite:///{path}") as database:
        assert database.studies() == []


def test_a_database_of_another_version_is_refused_and_left_alone(url: str) -> None:
    with Database(url) as database:
        database.create_study("a", recipe="{}", versions={})
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nas_alembic_version SET version_num = '0999'")
    with pytest.raises(StorageError, match=r"newer nas_attn \(schema 0999.*upgrade nas_attn"):
        Database(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE nas_alembic_version SET version_num = '{tables.SCHEMA_VERSIONS[-1]}'"
        )
    with Database(url) as database:
        assert [study.name for study in database.studies()] == ["a"]
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE nas_run DROP COLUMN finished_at")
    engine.dispose()
    with Database(url) as database, pytest.raises(StorageError, match="of another version"):
        database.study("a").queue.rows()


def test_our_tables_come_into_a_database_that_optuna_made(url: str) -> None:
    plain = optuna.storages.RDBStorage(url)
    optuna.create_study(study_name="theirs", storage=plain)
    plain.remove_session()
    plain.engine.dispose()
    with Database(url) as database:
        database.create_study("ours", recipe="{}", versions={})
    arguments = engine_arguments(make_url(url))
    storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    assert optuna.get_all_study_names(storage) == ["theirs"]
    optuna.delete_study(study_name="theirs", storage=storage)
    assert optuna.get_all_study_names(storage) == []
    storage.remove_session()
    storage.engine.dispose()

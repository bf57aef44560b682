"""A database that is away, as several threads of one process meet it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from nas_attn.errors import StorageAway
from nas_attn.storage import Database, connection
from nas_attn.waiting import telling


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, sqlite3.Connection]]:
    """A database whose file another connection keeps locked: it can be read, not written."""
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.1)
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


def test_reading_meanwhile_does_not_end_a_wait_to_write(locked: tuple[Database, sqlite3.Connection]) -> None:
    database, other = locked
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("waiting for the database"):
            other.rollback()

    def work() -> None:
        with telling(say, lambda: False, storage_s=600):
            database._connector.endure(lambda: write(database))

    beside(work, database)
    assert [line.split(",")[0].split(" after")[0] for line in said] == [
        "waiting for the database",
        "the database is back",
    ]


def test_reading_meanwhile_does_not_prolong_a_wait_to_write(locked: tuple[Database, sqlite3.Connection]) -> None:
    database, _ = locked
    raised: list[StorageAway] = []

    def work() -> None:
        with telling(lambda _: None, lambda: False, storage_s=1):
            try:
                database._connector.endure(lambda: write(database))
            except StorageAway as error:
                raised.append(error)

    beside(work, database)
    assert "gave up after 1 s" in str(raised[0])

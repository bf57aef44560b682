from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from nas_attn.errors import StorageError, StudyError
from nas_attn.storage import Database, StudyStore, optuna_engine_arguments

WORKER = Path(__file__).with_name("storage_worker.py")


@pytest.fixture
def here(sqlite_url: str) -> Iterator[Database]:
    with Database(sqlite_url) as database:
        yield database


@pytest.fixture
def filled(here: Database) -> StudyStore:
    store = here.create_study("digits", recipe="{}", versions={})
    store.set(published="text")
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies" / "copy.db"


def test_a_copy_taken_while_another_process_writes_is_whole(sqlite_url: str, here: Database, target: Path) -> None:
    command = [sys.executable, str(WORKER), "write", sqlite_url, "1000"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    try:
        for _ in range(3):
            before = int(writer.stdout.readline())
            assert here.backup(target, overwrite=True) == target
            assert list(target.parent.iterdir()) == [target]
            with Database(f"sqlite:///{target}") as copy:
                keys = [row.key for row in copy.study("digits").candidates()]
                scored = {score.key for score in copy.study("digits").scores(with_correct=True)}
            assert len(scored) > before
            # Candidate and score are two transactions: the copy may lie between them.
            assert scored in ({*keys}, {*keys[:-1]})
    finally:
        writer.kill()
        writer.communicate()


def test_a_copy_holds_optunas_tables_too(here: Database, filled: StudyStore, target: Path) -> None:
    address, arguments = optuna_engine_arguments(here.url)
    study = optuna.create_study(
        study_name="digits", storage=optuna.storages.RDBStorage(address, engine_kwargs=arguments)
    )
    study.tell(study.ask(), 0.5)
    # A bare copy of the file would miss this: it is still in the log.
    here.backup(str(target))
    copied = optuna.load_study(study_name="digits", storage=f"sqlite:///{target}")
    assert [trial.value for trial in copied.trials] == [0.5]
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "text"


def test_an_older_copy_is_replaced_only_when_told(here: Database, filled: StudyStore, target: Path) -> None:
    here.backup(target)
    filled.set(published="newer")
    with pytest.raises(StudyError, match="exists: name another file, or force"):
        here.backup(target)
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "text"
    here.backup(target, overwrite=True)
    with Database(f"sqlite:///{target}") as copy:
        assert copy.study("digits").settings.published == "newer"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nas_attn.db", "is the database itself"),
        ("link.db", "is the database itself"),
        ("notes.txt", "exists and is not a database"),
        ("open.db", "is a database in use"),
        ("copies", "is a folder"),
        ("missing/copy.db", "does not exist or is not writable"),
    ],
)
def test_what_must_not_be_overwritten_is_left_alone(
    here: Database, filled: StudyStore, tmp_path: Path, target: Path, name: str, sentence: str
) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    (tmp_path / "link.db").symlink_to(tmp_path / "nas_attn.db")
    with Database(f"sqlite:///{tmp_path}/open.db") as other:
        other.create_study("other", recipe="{}", versions={})
        with pytest.raises(StudyError, match=sentence):
            here.backup(tmp_path / name, overwrite=True)
        assert [study.name for study in other.studies()] == ["other"]
    assert (tmp_path / "notes.txt").read_text() == "my notes"
    assert filled.settings.published == "text"


def test_a_damaged_database_gives_no_copy_and_keeps_the_last_one(
    here: Database, filled: StudyStore, target: Path
) -> None:
    for i in range(100):
        filled.ways.put(f"name {i}", "text" * 99)
    here.backup(target)
    before = target.read_bytes()
    here.close()
    assert here.path is not None
    content = bytearray(here.path.read_bytes())
    content[-12_288:] = b"\xa5" * 12_288
    here.path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        here.backup(target, overwrite=True)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_postgresql_is_backed_up_by_its_own_means(postgres_url: str, target: Path) -> None:
    with Database(postgres_url) as database, pytest.raises(StudyError, match="pg_dump"):
        database.backup(target)


def test_a_copy_is_one_file(here: Database, filled: StudyStore, target: Path) -> None:
    here.backup(target)
    with closing(sqlite3.connect(f"file:{target}?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT published FROM nas_study").fetchall() == [("text",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)

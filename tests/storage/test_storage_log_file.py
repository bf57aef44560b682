"""SQLite's write-ahead log beside a database: lost, replaced, or left behind by a copy."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nas_attn.errors import StorageAway, StorageError, StudyError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.keeping import back_up
from nas_attn.storage.database import Database
from nas_attn.storage.urls import sqlite_url

GONE = "its log 'x.db-wal', which holds the newest results, was removed or replaced"
READER = """
import sys
from nas_attn.storage.database import Database
try:
    print([study.name for study in Database(sys.argv[1], must_exist=True).studies()])
except Exception as error:
    print(type(error).__name__, error)
"""
KEEPER = """
import sys, signal
from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.database import Database
database = Database(sys.argv[1])
database.create_study("kept", recipe=load_recipe("digits").to_json(), versions={})
print("ready", flush=True)
signal.pause()
"""


def names(url: str) -> list[str]:
    """Of the studies in a database, read here."""
    with Database(url, must_exist=True) as database:
        return [study.name for study in database.studies()]


def read(url: str) -> str:
    """What another process reads: the names of the studies, or the error."""
    command = [sys.executable, "-c", READER, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def created(database: Database, name: str) -> None:
    database.create_study(
        name, recipe=load_recipe("digits").to_json(), versions={}, artifacts="kept"
    )


@pytest.mark.parametrize("replaced", [False, True])
def test_a_log_that_is_removed_in_use_is_said_at_once_and_comes_back(
    tmp_path: Path, replaced: bool
) -> None:
    url = sqlite_url(tmp_path / "x.db")
    log = tmp_path / "x.db-wal"
    with Database(url) as database:
        created(database, "kept")
        log.unlink()
        if replaced:
            log.touch()
        with pytest.raises(StorageError, match=GONE) as error:
            created(database, "lost")
        assert not isinstance(error.value, StorageAway), "or it would be waited for"
        assert "its log 'x.db-wal'" in read(url), "a process that comes meanwhile"
    assert read(url) == "['kept']\n"


def test_other_users_of_a_database_may_come_and_go(tmp_path: Path) -> None:
    """SQLite removes the log with the last connection, and makes another one for the next."""
    url = sqlite_url(tmp_path / "x.db")
    first = Database(url)
    created(first, "a")
    stop = threading.Event()

    def come_and_go() -> int:
        times = 0
        while not stop.is_set():
            with Database(url) as other:
                other.studies()
            times += 1
        return times

    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(come_and_go) for _ in range(2)]
        for number in range(40):
            if number % 4 == 0:
                first.close()
            created(first, f"b{number}")
        stop.set()
        assert all(other.result() for other in others)
    assert len(first.studies()) == 41
    first.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_database_without_its_log_after_a_kill_is_one_sentence(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "x.db")
    command = [sys.executable, "-c", KEEPER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "x.db-wal").stat().st_size > 0
    for suffix in ("", "-shm"):
        shutil.copy(tmp_path / f"x.db{suffix}", tmp_path / f"copy.db{suffix}")
    with pytest.raises(StudyError, match=r"its log 'copy.db-wal' is missing"):
        Database(sqlite_url(tmp_path / "copy.db"), must_exist=True)
    shutil.copy(tmp_path / "x.db-wal", tmp_path / "copy.db-wal")
    assert read(sqlite_url(tmp_path / "copy.db")) == "['kept']\n"


@pytest.mark.parametrize("name", ["a?b.db", "50%.db", "a%20b.db", "a#b&c.db", "ü@:b.db"])
def test_a_file_with_letters_that_urls_use(tmp_path: Path, name: str) -> None:
    url = sqlite_url(tmp_path / name)
    with Database(url) as database:
        created(database, "kept")
        assert database.path == tmp_path / name
        back_up(database, tmp_path / f"copy of {name}")
    assert names(database.url) == names(url) == ["kept"]
    assert names(sqlite_url(tmp_path / f"copy of {name}")) == ["kept"]
    assert sqlite3.connect(tmp_path / name).execute("SELECT name FROM nas_study").fetchall()
    files = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert files <= {f"{of}{name}{end}" for of in ("", "copy of ") for end in ("", "-wal", "-shm")}

"""A database that comes and goes under workers: they wait, lose nothing that it knows, and end with
a sentence.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from told_values import told

from nas_attn.errors import StudyError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker import stopping
from nas_attn.storage import connection, opening
from nas_attn.system import environment

TRIALS, CUTS = 4, 8
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning"
    ),  # connections that were cut
    pytest.mark.filterwarnings(
        "ignore::nas_attn.errors.NasAttnWarning"
    ),  # training goes on without a checkpoint
]


@pytest.fixture
def server(private_server: ModuleType, open_folder: Path, tmp_path: Path) -> Iterator[Any]:
    """A PostgreSQL server on a port of its own, which it keeps when it is started again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with private_server.PrivateServer(
        open_folder / tmp_path.name, port=port, settings={"fsync": "off"}
    ) as found:
        yield found


def begun(url: str) -> opening.OpenStudy:
    return beginning.begin(
        load_recipe("table.toml", overrides={"search.trials": TRIALS, "search.confirm_seeds": 0}),
        url,
    )


def work(opened: opening.OpenStudy, act: Callable[[str], object]) -> tuple[str, list[str]]:
    """One worker of this process; `act` is told each line that it says, at the time."""
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        act(line)

    with stopping.interruptible(stop, say):
        return taking_part.work(opened, taking_part.Options(say=say, stop=stop)), lines


def check_whole(opened: opening.OpenStudy, folder: Path, again: str = "") -> None:
    """Every trial told, nothing but `again` evaluated twice, no lease held, no file lost or left
    for good. Closes what was open.
    """
    rows = opened.store.candidates()
    assert len({row.trial for row in rows}) == len(rows) == TRIALS
    assert all(row.state in ("scored", "pruned") for row in rows)
    assert told(opened.book).keys() == {row.trial for row in rows if row.state == "scored"}
    assert "RUNNING" not in {trial.state.name for trial in opened.book.all()}
    calls = [line.rsplit("|", 1)[0] for line in (folder / "calls.txt").read_text().splitlines()]
    assert Counter(calls) - Counter(set(calls)) <= Counter([again])
    assert not opened.store.held()
    for path in opened.folder.iterdir():
        os.utime(path, (0, 0))
    keeping.clean(
        opened, "all"
    )  # a checkpoint that the database could not be told of is left until then
    kept = {row.artifact for rows in opened.store.all_checkpoints().values() for row in rows}
    assert {path.name for path in opened.folder.iterdir() if path.is_file()} == kept != set()
    opened.database.close()
    opened.book.close()
    gc.collect()  # here, not in the middle of another test


def cut(server: Any) -> None:
    """What an administrator's `pg_terminate_backend` does, to all clients."""
    import psycopg

    with psycopg.connect(server.url().replace("+psycopg", "")) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = 'postgres'"
        )


@pytest.mark.slow
def test_a_server_that_is_started_again(table: Path, server: Any) -> None:
    opened = begun(server.url())

    def act(line: str) -> None:
        if line.startswith("trial 1 "):
            server.stop()
        elif line.startswith("waiting for the database"):
            server.start()

    ended, lines = work(opened, act)
    assert ended == "complete", lines
    for what in (
        "waiting for the database, for up to 30 min: storage 'postgresql",
        "the database is back after ",
    ):
        assert sum(line.startswith(what) for line in lines) == 1, lines
    check_whole(opened, table)


@pytest.mark.slow
def test_connections_that_are_cut(table: Path, server: Any) -> None:
    opened, over = begun(server.url()), threading.Event()

    def saw() -> None:
        for _ in range(CUTS):
            if over.wait(0.3):
                return
            cut(server)

    sawing = threading.Thread(target=saw)
    sawing.start()
    try:
        ended, lines = work(opened, lambda line: None)
    finally:
        over.set()
        sawing.join()
    assert ended == "complete", lines
    check_whole(opened, table)


def worker(url: str, folder: Path, **variables: str) -> tuple[subprocess.Popen[str], Path]:
    """A worker process, and what it prints."""
    said = folder / "said.txt"
    environment = {
        **os.environ,
        "NAS_ATTN_STORAGE": url,
        "PYTHONUNBUFFERED": "1",
        "TABLE_SECONDS": "0.3",
        **variables,
    }
    with said.open("w") as file:
        command = [sys.executable, "-m", "nas_attn.cli.main", "worker", "table"]
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, text=True), said


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["the time", "a signal"])
def test_a_worker_that_cannot_wait_any_longer(table: Path, server: Any, ends: str) -> None:
    """It ends with a sentence; only the evaluation that ended while the database was away is done
    again.
    """
    opened = begun(server.url())
    process, said = worker(
        server.url(), table, **({environment.STORAGE_WAIT: "3"} if ends == "the time" else {})
    )
    calls = table / "calls.txt"
    until(lambda: calls.exists() and len(calls.read_text().splitlines()) >= 3)
    server.stop()
    if ends == "a signal":
        until(lambda: "waiting for the database, for up to 30 min" in said.read_text())
        process.send_signal(signal.SIGTERM)
    status = process.wait(120)
    last = calls.read_text().splitlines()[-1].rsplit("|", 1)[0]
    if ends == "the time":
        assert status == 1
        assert "does not answer (" in said.read_text()
        assert "gave up after 3 s (change it with NAS_ATTN_STORAGE_WAIT)" in said.read_text()
    else:
        assert status == 0, said.read_text()
        assert "done (stopped)" in said.read_text()
    server.start()
    ended, lines = work(opened, lambda line: None)
    assert ended == "complete", lines
    check_whole(opened, table, again=last)


@pytest.mark.slow
def test_a_file_that_others_lock(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.2)
    opened = begun("sqlite:///nas_attn.db")
    locking = sqlite3.connect("nas_attn.db", isolation_level=None, check_same_thread=False)

    def act(line: str) -> None:
        if line.startswith("trial 1 "):
            locking.execute("BEGIN EXCLUSIVE")
        elif (
            "keeps the file locked" in line
        ):  # held until the worker has met it, however slow it is
            threading.Timer(2.0, locking.close).start()

    ended, lines = work(opened, act)
    assert ended == "complete", lines
    assert sum("database is locked" in line for line in lines) == 1, lines
    check_whole(opened, table)


def test_a_wait_that_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.STORAGE_WAIT, "soon")
    with pytest.raises(StudyError, match=r"NAS_ATTN_STORAGE_WAIT .*'soon'"):
        environment.storage_wait_s()

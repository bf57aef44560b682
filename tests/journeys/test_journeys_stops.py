"""Every way in which a search is stopped, and that it goes on from there; also in PostgreSQL, and
beside one that sleeps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from answers import DIGITS, finished, kept_files, settings
from shell import Running, Shell, patience

pytestmark = pytest.mark.slow
LONG = settings(DIGITS, training__rungs="[2,40]", training__start="scratch", search__pruner="none")
"""Trainings of seconds: most stops come in the middle of one."""


SIGNALS = [
    ("SIGINT", 1),
    ("SIGTERM", 2),  # a machine shuts down
    ("SIGHUP", 2),  # the terminal is closed
    ("SIGUSR1", 1),  # a scheduler's warning
]


@pytest.mark.parametrize(("name", "workers"), SIGNALS)
def test_stopped_three_times(shell: Shell, name: str, workers: int) -> None:
    if (number := getattr(signal, name, None)) is None:
        pytest.skip(f"there is no {name} here")
    run = f"--workers {workers} --threads 1"
    shell.begins(f"search digits --trials 8 {run} {LONG}").until("trial 0 ").ctrl_c(number).ends(
        130
    )
    for _ in range(2):
        shell.begins(f"resume digits {run}").until(r"candidates.*trial \d+[ :]").ctrl_c(
            number
        ).ends(130)
        status = shell.types("status digits --json").json
        assert (status["leases"], status["workers"], status["finished"] < 8) == (
            [],
            [],
            True,
        ), "nobody is at work"
    shell.types(f"resume digits {run}")
    kept_files(shell, finished(shell, "digits", trials=8))


@pytest.fixture
def database(shell: Shell, private_server, open_folder) -> Iterator[str]:
    """The URL of an empty database, exported as docs/how-to/run-anywhere.md says."""
    with private_server.PrivateServer(open_folder / "journey", settings={"fsync": "off"}) as server:
        shell.variables["NAS_ATTN_STORAGE"] = server.url()
        yield server.url()


def test_workers_on_a_server_stopped_killed_and_joined_by_hand(shell: Shell, database: str) -> None:
    tiny = settings(DIGITS, training__rungs="[1,3]")
    search = shell.begins(
        f"search digits --workers 2 --threads 1 --trials 12 --artifacts kept {tiny}"
    )
    stopped = search.until(r"trial 2 \(").ctrl_c().ends(130)
    assert stopped.err.count("done (stopped)") == 2
    password = database.split(":")[2].split("@")[0]
    assert password not in stopped.out + stopped.err
    assert "nas-attn resume digits" in stopped.err

    killed = shell.begins("resume digits --workers 2 --threads 1").until(r"trial \d+")
    killed.kill()  # its workers notice that their parent is gone, and stop in order

    joined = shell.begins("worker digits --threads 1")
    shell.types("resume digits --workers 1 --threads 1")
    assert "done (complete)" in joined.ends().out
    answer = finished(shell, "digits", trials=12)
    kept_files(shell, answer, "kept")
    assert not list(shell.folder.glob("*.db*"))
    assert "digits" in shell.types("status").out
    assert password not in shell.types("status digits").out
    shell.types("report digits -o page.html")
    shell.types("export digits --placement none")
    assert shell.files() == {
        "kept",
        "digits.html",
        "page.html",
        "digits.pt",
        "digits.pt.json",
        "digits.pt.md",
    }
    assert "pg_dump" in shell.types("backup copy.db", status=2).error


TRAINING = settings(
    DIGITS, training__rungs="[2000]", training__start="scratch", latency__threads="2"
)
"""One training that takes minutes; latencies for which a measurer wants the device alone."""


@pytest.fixture
def asleep(shell: Shell) -> Iterator[Running]:
    """A search of a study `first`, stopped in the middle of a training."""
    search = shell.begins(
        f"search digits --name first --trials 2 --workers 1 --threads 1 {TRAINING}"
    )
    for _ in patience("the first checkpoint of the training"):
        if any((shell.folder / "nas_attn.artifacts").glob("*")):
            break
    yield search
    os.killpg(search.process.pid, signal.SIGCONT)


def test_another_study_is_completed_meanwhile(shell: Shell, asleep: Running) -> None:
    os.killpg(asleep.process.pid, signal.SIGSTOP)
    second = settings(DIGITS, latency__threads="2")
    ended = shell.types(f"search digits --name second --trials 7 --workers 1 --threads 1 {second}")
    assert str(asleep.process.pid) in ended.err, "it says whom it waits for"
    finished(shell, "second", trials=7)

"""Waits that explain themselves: they say for whom, hear the request to stop, and end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from nas_attn.system import processes, waiting
from nas_attn.system.waiting import Interrupted, Wait, locked, reporting

HOLD = """
import sys, time
from pathlib import Path
from nas_attn.system.waiting import Wait, locked
with Wait("data") as wait, locked(Path(sys.argv[1]), wait, 60.0):
    print(flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lines() -> Iterator[list[str]]:
    said: list[str] = []
    with reporting(said.append, lambda: False):
        yield said


def test_a_wait_says_after_a_while_what_for_and_how_long_it_was(
    lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wait("the bus") as wait:
        wait.pause(0.01, lambda: "it is late")
    assert lines == []
    monkeypatch.setattr(waiting, "REPORTED_AFTER_S", 0.0)
    with Wait("the bus") as wait:
        for _ in range(3):
            wait.pause(0.01, lambda: "it is late")
    begun, ended = lines
    assert "the bus" in begun
    assert begun.endswith(": it is late")
    assert "the bus" in ended
    monkeypatch.setattr(waiting, "AGAIN_S", 0.0)
    with Wait("the bus") as wait:
        for number in range(3):
            wait.pause(0.01, partial("it is {} stops away".format, number))
    assert [line.rpartition(": ")[2] for line in lines[2:5]] == [
        f"it is {n} stops away" for n in range(3)
    ]


def test_a_wait_ends_when_the_search_is_to_stop() -> None:
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with (
        reporting(lambda line: None, stop.is_set),
        pytest.raises(Interrupted),
        Wait("runs") as wait,
    ):
        wait.pause(60, lambda: "")
    assert time.monotonic() - began < 30


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock on `tmp_path/lock`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_lock_is_waited_for_until_its_holder_ends(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "lock"
    with Wait("tables") as wait:
        with locked(path, wait, 0.1) as mine:
            assert not mine
        holder.kill()
        holder.wait()
        with locked(path, wait, 60.0) as mine:
            assert mine
            with locked(path, wait, 0.1) as second:
                assert not second, "nor does another thread get it"
    assert list(tmp_path.iterdir()) == [], "no lock file stays behind"


def test_owners_of_this_machine_that_are_gone_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = processes.owner_name()
    host, boot, namespace, pid, started, random = mine.split("/")
    assert not processes.is_dead(mine, local=True)
    assert str(os.getpid()) in mine
    gone = "/".join([host, boot, namespace, pid, "1", random])
    assert processes.is_dead(gone)
    assert not processes.is_dead(mine.replace(started, f"{float(started) + 1}")), (
        "the clock may have been set"
    )
    before_the_last_start = "/".join([host, "0123abcd", namespace, pid, started, random])
    assert processes.is_dead(before_the_last_start, local=True)
    assert not processes.is_dead(before_the_last_start), "two machines may have one name"
    elsewhere = "/".join(["another", boot, namespace, pid, "1", random])
    assert not processes.is_dead(elsewhere, local=True)
    assert processes.owner_shown(elsewhere) == f"pid {pid} on another"
    in_a_container = "/".join([host, boot, "1", pid, "1", random])
    assert not processes.is_dead(in_a_container, local=True)
    assert not processes.is_dead("somebody", local=True)

"""Signals and waits: the first signal ends a search in order, the second at once; a worker that
waits says for whom.
"""

from __future__ import annotations

import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from typing_extensions import override

from nas_attn.errors import OperationError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import local, taking_part
from nas_attn.searching.run.worker_process import Told
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.presence import Presence, stop_workers
from nas_attn.searching.worker.stopping import (
    STOP_SIGNALS,
    TOGETHER_S,
    WHERE_UNUSED,
    interruptible,
)
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.storage.heartbeat import LISTEN_S
from nas_attn.storage.opening import OpenStudy, create_study, open_study
from nas_attn.storage.records import Fingerprint
from nas_attn.storage.rows import Lease
from nas_attn.system import environment, processes, waiting
from nas_attn.system.processes import owner_name
from nas_attn.training.measurer import to_text

URL = "sqlite:///nas_attn.db"
ALL = [*STOP_SIGNALS, *WHERE_UNUSED]
HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
SOME = [getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def hangup_is_unused() -> Iterator[None]:
    """Also where these tests run under `nohup`, which has it ignored: then it stays so, here and in
    what is started.
    """
    before = signal.signal(HANGUP, signal.SIG_DFL)
    yield
    signal.signal(HANGUP, before)


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


@contextmanager
def when(condition: Callable[[], object], act: Callable[[], None]) -> Iterator[None]:
    """Does something from another thread, once the condition is true."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            if condition():
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def search(lines: list[str]) -> str:
    stop = threading.Event()
    with interruptible(stop, lines.append):
        recipe = load_recipe(
            "table.toml", overrides={"search.trials": 3, "search.confirm_seeds": 0}
        )
        return taking_part.work(
            create_study(recipe, URL), taking_part.Options(say=lines.append, stop=stop)
        )


def states() -> list[str]:
    return [trial.state.name for trial in optuna.load_study(study_name="table", storage=URL).trials]


@pytest.mark.parametrize("number", SOME, ids=lambda number: signal.Signals(number).name)
def test_each_signal_ends_a_search_in_order_once(
    table: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.2")
    before = {each: signal.getsignal(each) for each in ALL}
    lines: list[str] = []
    with when(
        lambda: len(calls(table)) == 3, lambda: send(number, number)
    ):  # to the process and to its group
        assert search(lines) == "stopped"
    assert {each: signal.getsignal(each) for each in ALL} == before
    assert sum("stopping" in line and "stop at once" in line for line in lines) == 1
    assert states()[:2] == ["COMPLETE", "RUNNING"], "until it is told"
    assert any(
        line.startswith("trial 1: stopped; it will go on from its last checkpoint")
        for line in lines
    )
    assert open_study("table", URL).store.held() == []
    monkeypatch.setenv("TABLE_SECONDS", "0")
    assert (
        taking_part.work(open_study("table", URL), taking_part.Options(say=lines.append))
        == "complete"
    )
    assert len(calls(table)) == len(set(calls(table))), "what was saved was done again"


def test_what_the_program_around_handles_itself_is_left_to_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        stop = threading.Event()
        with interruptible(stop, lambda line: None):
            send(signal.SIGUSR1, signal.SIGHUP)
            time.sleep(0.1)
            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        signal.signal(signal.SIGHUP, ignored)
    assert heard == [signal.SIGUSR1]


@pytest.mark.parametrize("saved", [False, True])
def test_a_second_signal_ends_at_once_and_says_what_was_saved(
    table: Path, saved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 2 if saved else 1  # the call of the evaluator, one per rung, in which the signals come
    monkeypatch.setenv("TABLE_SECONDS", "0,30" if saved else "30")
    lines: list[str] = []

    def twice() -> None:
        send(signal.SIGTERM)
        while not any(line.startswith("stopping") for line in lines):
            time.sleep(0.01)
        time.sleep(TOGETHER_S + 0.1)
        send(signal.SIGUSR1)

    with when(lambda: len(calls(table)) == number, twice), pytest.raises(KeyboardInterrupt):
        search(lines)
    assert len(calls(table)) == number
    if saved:
        assert "trial 0: stopped; it will go on from its last checkpoint" in lines[-1]
    else:
        assert lines[-1].startswith("trial 0: stopped; it will go on")
    assert states()[0] == "RUNNING"
    assert open_study("table", URL).store.held() == []


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nas_attn.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_second_signal_has_the_workers_say_what_they_leave(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "30")
    process = start("search", "table.toml", "--workers", "2")
    wait_until(lambda: len(calls(table)) == 2, process)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(TOGETHER_S + 0.1)
    os.kill(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "stopping on SIGTERM" in output
    assert output.count(": stopped; it will go on from its last checkpoint") == 2, output
    assert "stopped at once; go on with: nas-attn resume table" in output
    assert set(states()) <= {"WAITING", "RUNNING"}


@pytest.mark.parametrize("done", [True, False])
def test_a_worker_that_is_done_but_slow_to_leave_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: bool
) -> None:
    """A machine with much else to do takes long to end a process; all that it did is in the
    database then.
    """
    monkeypatch.setattr(local, "WORKERS_GRACE_S", 2.0)
    report = tmp_path / "ended"
    if done:
        report.write_text(Ending.STOPPED)
    program = "print('worker 1: done (stopped)', flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    said: list[str] = []
    options = taking_part.Options(say=said.append)
    children = [local.Child(Told("worker 1", str(report), {}), process, said.append)]
    with when(lambda: said, options.stop.set):
        if done:
            assert local._attend(children, options) == "stopped"
        else:
            with pytest.raises(OperationError, match="workers did not stop within 2 s"):
                local._attend(children, options)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_workers_stop_when_the_process_that_started_them_is_killed(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.2")
    process = start("search", "table.toml", "--workers", "2")
    wait_until(lambda: len(calls(table)) >= 3, process)
    workers = {int(line.split("|")[3]) for line in calls(table)}
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert open_study("table", URL).store.held() == []


@pytest.mark.slow
def test_a_terminal_that_closes_does_not_end_a_search_in_an_error(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.2")
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "nas_attn.cli.main", "search", "table.toml", "--workers", "1"]
    terminal: dict[str, Any] = {
        "stdin": theirs,
        "stdout": theirs,
        "stderr": theirs,
        "start_new_session": True,
    }
    with subprocess.Popen(program, **terminal) as process:
        os.close(theirs)
        wait_until(lambda: len(calls(table)) >= 3, process)
        os.kill(process.pid, signal.SIGHUP)
        time.sleep(0.05)
        os.close(ours)
        assert process.wait(timeout=60) == 130
    assert open_study("table", URL).store.held() == []


def work(opened: OpenStudy, lines: list[str], stop: threading.Event) -> str:
    """As a command does it."""
    with interruptible(stop, lines.append):
        return taking_part.work(opened, taking_part.Options(say=lines.append, stop=stop))


def test_a_worker_waits_for_its_turn_says_whose_it_is_and_hears_the_first_ctrl_c(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REPORTED_AFTER_S", 0.0)
    opened = create_study(load_recipe("table.toml"), URL)
    other = "/".join(["another", *processes.owner_name().split("/")[1:]])
    assert opened.store.acquire("scheduling", owner=other) is not None
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        stop.set()

    with interruptible(stop, say):
        assert taking_part.work(opened, taking_part.Options(say=say, stop=stop)) == "stopped"
    (line,) = (line for line in lines if line.startswith("waiting for the runs of other workers"))
    assert line.endswith("so far")
    assert opened.store.candidates() == []


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_free_at_once(table: Path) -> None:
    opened = create_study(
        load_recipe("table.toml", overrides={"search.trials": 1, "search.confirm_seeds": 0}), URL
    )
    host, boot, namespace, _, _, _ = processes.owner_name().split("/")
    killed = "/".join([host, boot, namespace, str(2**22 + 1), "1", "x"])
    before_a_power_cut = "/".join([socket.gethostname(), "01234567", namespace, "1", "1", "x"])
    assert opened.store.acquire("scheduling", owner=killed) is not None
    assert opened.store.acquire("run/1", owner=before_a_power_cut) is not None
    lines: list[str] = []
    assert work(opened, lines, threading.Event()) == "complete"
    assert not any("waiting" in line for line in lines)


def test_latencies_that_no_other_machine_measures_are_not_waited_for_without_end(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.WORK_WAIT, "0.5")
    monkeypatch.setattr(waiting, "REPORTED_AFTER_S", 0.0)
    changes = {"objectives": ["score", "latency"], "search.trials": 2, "search.confirm_seeds": 0}
    space = {"name": "one", "sites": {"include": ["stage3"]}, "choices": {"eca": {}}}
    opened = create_study(load_recipe("table.toml", overrides={**changes, "space": space}), URL)
    opened.store.set_fingerprint_once(to_text(Fingerprint("cpu", "A far machine", ())))
    lines: list[str] = []
    with pytest.raises(OperationError, match=r"'A far machine' .*nas-attn worker table"):
        work(opened, lines, threading.Event())
    assert any(line.startswith("waiting for") and "A far machine" in line for line in lines)
    assert [row.state for row in opened.store.candidates()] == ["scored", "running"]
    assert opened.store.scores(), "what was trained is kept"


class TakenOver(TaskSource):
    """Its worker is silent once for so long that another, which has died since, took its lock."""

    purpose = "search"
    asked = 0

    @override
    def want(self, lease: Lease) -> bool:
        self.asked += 1
        if self.asked == 1:
            parts = owner_name().split("/")
            gone = "/".join([*parts[:3], str(2**22 + 1), *parts[4:]])
            with sqlite3.connect("nas_attn.db") as database:
                database.execute(
                    "update nas_lease set owner = ?, number = number + 1 where resource = ?",
                    (gone, lease.resource),
                )
            self.store.set_cost("no network", {}, lease)
        return False


def test_a_worker_whose_scheduling_was_taken_over_goes_on(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    sources: list[TakenOver] = []

    def do(worker: Worker) -> Ending:
        sources.append(TakenOver(worker))
        return worker.run(sources)

    options = taking_part.Options(say=lambda line: None)
    assert taking_part.with_worker(opened, options, do) is Ending.COMPLETE
    assert sources[0].asked == 2


def test_workers_stop_where_the_clock_was_set_back(table: Path) -> None:
    opened = create_study(load_recipe("table.toml"), URL)
    stop_workers(opened)
    stop = threading.Event()
    with Presence(opened, "it", "cpu", stop).shown():
        assert not stop.wait(1.5 * LISTEN_S), "an earlier request is not for it"
        # what `nas-attn stop` writes by a clock that is an hour behind
        opened.store.set(stop_asked_at=opened.database.now() - 3600)
        assert stop.wait(5 * LISTEN_S)

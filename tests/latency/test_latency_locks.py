"""The device lock, with real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas_attn import errors
from nas_attn.latency import locks
from nas_attn.recipe import recipe
from nas_attn.system import waiting

# Processes come from a server that has imported torch once, so that starting one takes
# milliseconds.
SERVER: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
SERVER.set_forkserver_preload(["nas_attn.latency.locks"])
PATIENCE_S = 60.0


def use(folder: str, body: Callable[[Connection], None], pipe: Connection) -> None:
    os.environ["NAS_ATTN_LOCK_DIR"] = folder
    body(pipe)


def hold_exclusive(pipe: Connection) -> None:
    with locks.DeviceLock("gpu").exclusive():
        pipe.send("holds")
        time.sleep(PATIENCE_S)


def hold_shared(pipe: Connection) -> None:
    with locks.DeviceLock("gpu").shared():
        pipe.send("holds")
        time.sleep(PATIENCE_S)


def hold_and_fork(pipe: Connection) -> None:
    """Its child lives on when it is killed."""
    with locks.DeviceLock("gpu").exclusive():
        child = os.fork()
        if child:
            pipe.send(child)
        time.sleep(PATIENCE_S)


def measure_once(pipe: Connection) -> None:
    with locks.DeviceLock("gpu").exclusive():
        pipe.send("measured")


def train(pipe: Connection) -> None:
    """Trains until told to end; answers how often it gave way."""
    settled = []
    with locks.DeviceLock("gpu").shared(lambda: settled.append(1)) as hold:
        pipe.send("trains")
        yields = 0
        while not pipe.poll():
            time.sleep(0.002)
            yields += hold.yield_()
    pipe.send((yields, len(settled)))


def measure_again_and_again(pipe: Connection) -> None:
    lock = locks.DeviceLock("gpu")
    for _ in range(20):
        with lock.exclusive():
            time.sleep(0.01)
    pipe.send("done")


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[multiprocessing.process.BaseProcess] = []

    def start(
        self, body: Callable[[Connection], None]
    ) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        mine, theirs = SERVER.Pipe()
        process = SERVER.Process(target=use, args=(str(self.folder), body, theirs), daemon=True)
        process.start()
        theirs.close()
        self.all.append(process)
        return process, mine

    def can_measure(self, wait_s: float = PATIENCE_S) -> bool:
        """Whether another process gets the device to itself within this time."""
        _, pipe = self.start(measure_once)
        return pipe.poll(wait_s) and pipe.recv() == "measured"


@pytest.fixture
def lock_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def processes(lock_dir: Path) -> Iterator[Processes]:
    started = Processes(lock_dir)
    yield started
    for process in started.all:
        process.kill()
        process.join()


@pytest.mark.parametrize("holding", [hold_exclusive, hold_shared])
def test_the_kernel_frees_a_killed_holders_lock(
    holding: Callable[[Connection], None], processes: Processes
) -> None:
    holder, pipe = processes.start(holding)
    assert pipe.recv() == "holds"
    assert not processes.can_measure(wait_s=0.5)
    holder.kill()
    assert processes.can_measure()


def test_devices_do_not_exclude_each_other(processes: Processes) -> None:
    _, pipe = processes.start(hold_exclusive)
    assert pipe.recv() == "holds"
    with locks.DeviceLock("another gpu").exclusive():
        pass


def test_training_gives_way_to_a_measurer_and_goes_on(processes: Processes) -> None:
    _, pipe = processes.start(train)
    assert pipe.recv() == "trains"
    assert processes.can_measure()
    pipe.send("end")
    assert pipe.recv() == (1, 1)  # and waited for the device before


@pytest.mark.slow
def test_nobody_starves(processes: Processes) -> None:
    """Two measurers that measure again at once and two trainers: all of them get their turns."""
    trainers = [processes.start(train)[1] for _ in range(2)]
    assert [pipe.recv() for pipe in trainers] == ["trains", "trains"]
    measurers = [processes.start(measure_again_and_again)[1] for _ in range(2)]
    assert [pipe.recv() for pipe in measurers] == ["done", "done"]
    for pipe in trainers:
        pipe.send("end")
    assert min(pipe.recv()[0] for pipe in trainers) >= 2  # of 40 sessions


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_does_not_keep_its_parents_lock(processes: Processes) -> None:
    parent, pipe = processes.start(hold_and_fork)
    child = pipe.recv()
    assert not processes.can_measure(wait_s=0.5)
    parent.kill()
    try:
        assert processes.can_measure()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits speak at once, and are over soon."""
    monkeypatch.setattr(waiting, "REPORTED_AFTER_S", 0.0)
    monkeypatch.setattr(locks, "MEASURING_S", 0.3)
    monkeypatch.setattr(locks, "UNYIELDING_S", 0.3)


def stop(process: multiprocessing.process.BaseProcess) -> int:
    psutil.Process(process.pid).suspend()
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    return process.pid


@pytest.mark.usefixtures("hurry")
def test_a_stopped_training_is_measured_beside_and_joins_again(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, pipe = processes.start(train)
    assert pipe.recv() == "trains"
    pid = stop(process)
    lines: list[str] = []
    lock = locks.DeviceLock("gpu")
    with waiting.reporting(lines.append, lambda: False):
        with lock.exclusive() as beside:
            pass
        assert beside[0].startswith(f"pid {pid} on ")
        assert beside[0] in lines[0]
        assert lines[0].startswith("waiting for the device")
        lines.clear()
        with lock.exclusive() as beside:  # it is still there, and no longer waited for
            assert f"pid {pid}" in beside[0]
        assert lines == []
        psutil.Process(pid).resume()
        monkeypatch.setattr(locks, "UNYIELDING_S", PATIENCE_S)
        with locks.DeviceLock("gpu").exclusive() as beside:
            assert beside == []
    pipe.send("end")
    yields, settled = pipe.recv()
    assert settled == yields >= 1


@pytest.mark.usefixtures("hurry")
def test_a_stopped_measurer_keeps_nobody_from_measuring_or_training(processes: Processes) -> None:
    process, pipe = processes.start(hold_exclusive)
    assert pipe.recv() == "holds"
    stop(process)
    with waiting.reporting(lambda line: None, lambda: False):
        with locks.DeviceLock("gpu").shared() as hold:
            assert not hold.yield_()
        with locks.DeviceLock("gpu").exclusive() as beside:
            assert beside == ["another measurement"]


@pytest.mark.usefixtures("hurry")
def test_a_training_that_does_not_give_way_is_measured_beside(processes: Processes) -> None:
    process, pipe = processes.start(hold_shared)
    assert pipe.recv() == "holds"
    with (
        waiting.reporting(lambda line: None, lambda: False),
        locks.DeviceLock("gpu").exclusive() as beside,
    ):
        assert beside[0].startswith(f"pid {process.pid} on ")
        assert "stopped" not in beside[0]


def test_a_lock_file_that_may_not_be_removed_is_in_nobodys_way(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that belongs to everyone, where the lock file is another user's."""
    process, pipe = processes.start(hold_exclusive)
    assert pipe.recv() == "holds"
    process.kill()
    process.join()

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", unlink)
    with locks.DeviceLock("gpu").exclusive() as beside:
        assert beside == []
    with locks.DeviceLock("gpu").shared() as hold:
        assert not hold.yield_()


def test_a_wait_hears_that_the_search_is_to_stop(processes: Processes) -> None:
    _, pipe = processes.start(hold_exclusive)
    assert pipe.recv() == "holds"
    asked = threading.Event()
    threading.Timer(0.3, asked.set).start()
    with waiting.reporting(lambda line: None, asked.is_set):
        with pytest.raises(waiting.Interrupted), locks.DeviceLock("gpu").exclusive():
            pytest.fail("another process holds it")
        with locks.DeviceLock("gpu").shared() as hold:  # for the checkpoint that is to be written
            hold.yield_()
    assert not list(locks.lock_directory().glob("*.training.*")), "who left the line is gone"


def measure(
    section: recipe.LatencySection, began: threading.Event, done: threading.Event
) -> threading.Thread:
    """A measurer in a thread of its own: `began` once it has the device; it keeps it until
    `done`.
    """

    def run() -> None:
        with locks.DeviceLock.for_section(section).exclusive():
            began.set()
            done.wait(30)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.usefixtures("lock_dir")
@pytest.mark.parametrize("busy", [False, True])
def test_cpu_thread_time_stops_training_only_where_the_cores_do_not_suffice(
    busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "crowded", lambda: busy)
    began, done = threading.Event(), threading.Event()
    with locks.DeviceLock.for_section(recipe.LatencySection()).shared() as hold:
        measurer = measure(recipe.LatencySection(), began, done)
        assert (
            began.wait(0.5 if busy else 30) != busy
        )  # on a crowded machine it waits for training to give way
        if busy:
            threading.Timer(0.5, done.set).start()
        assert hold.yield_() == busy
        assert began.is_set()
        done.set()
        measurer.join()


@pytest.mark.usefixtures("lock_dir")
def test_two_measurers_exclude_each_other_where_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "crowded", lambda: False)
    first, second, done = threading.Event(), threading.Event(), threading.Event()
    one = measure(recipe.LatencySection(), first, done)
    assert first.wait(30)
    other = measure(recipe.LatencySection(), second, done)
    assert not second.wait(0.5)
    done.set()
    assert second.wait(30)
    one.join()
    other.join()


def test_a_machine_with_more_work_than_cores_is_crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "cores", lambda: 0)
    assert locks.crowded(), "this thread alone is more than no core"
    monkeypatch.setattr(locks, "cores", lambda: 10**6)
    assert not locks.crowded()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux names cores")
def test_work_on_cores_that_this_process_may_not_use_is_not_counted() -> None:
    all_cores = os.sched_getaffinity(0)
    if len(all_cores) < 2:
        pytest.skip("one core")
    mine, other, *_ = sorted(all_cores)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]

    def counted(core: int) -> int:
        for process in busy:
            os.sched_setaffinity(process.pid, {core})
        return sorted(locks._wanting() for _ in range(9))[4]

    try:
        os.sched_setaffinity(0, {mine})
        assert counted(mine) - counted(other) >= 5
    finally:
        os.sched_setaffinity(0, all_cores)
        for process in busy:
            process.kill()
            process.wait()


def test_what_training_cannot_disturb_does_not_stop_it() -> None:
    command = recipe.LatencySection(mode="command", command="./phone", threads=2)
    assert not locks.DeviceLock.for_section(command).training_stops
    assert locks.DeviceLock.for_section(recipe.LatencySection(threads=2)).training_stops
    assert not locks.DeviceLock.for_section(recipe.LatencySection(threads=2)).when_crowded


def test_the_folder_can_be_shared_by_users(lock_dir: Path) -> None:
    assert locks.lock_directory() == lock_dir
    with locks.DeviceLock("gpu").exclusive():
        assert lock_dir.stat().st_mode & 0o7777 == 0o1777
        assert {file.stat().st_mode & 0o777 for file in lock_dir.iterdir()} == {0o666}
    assert not list(lock_dir.iterdir()), "nothing stays behind"


def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(file / "locks"))
    wanted = "set NAS_ATTN_LOCK_DIR to a folder that all processes"
    with (
        pytest.raises(errors.MeasurementError, match=wanted),
        locks.DeviceLock("gpu").exclusive(),
    ):
        pass

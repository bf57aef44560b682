"""The device lock, with real processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from nas_attn.errors import MeasurementError
from nas_attn.latency import DeviceLock, lock_directory
from nas_attn.recipe import LatencySection

# Processes come from a server that has imported torch once, so that starting one takes milliseconds.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nas_attn.latency.locks"])
PATIENCE_S = 60.0


def use(folder: str, body: Callable[[Connection], None], pipe: Connection) -> None:
    os.environ["NAS_ATTN_LOCK_DIR"] = folder
    body(pipe)


def hold_exclusive(pipe: Connection) -> None:
    with DeviceLock("gpu").exclusive():
        pipe.send("holds")
        time.sleep(PATIENCE_S)


def hold_shared(pipe: Connection) -> None:
    with DeviceLock("gpu").shared():
        pipe.send("holds")
        time.sleep(PATIENCE_S)


def hold_and_fork(pipe: Connection) -> None:
    """Its child lives on when it is killed."""
    with DeviceLock("gpu").exclusive():
        child = os.fork()
        if child:
            pipe.send(child)
        time.sleep(PATIENCE_S)


def measure_once(pipe: Connection) -> None:
    with DeviceLock("gpu").exclusive():
        pipe.send("measured")


def train(pipe: Connection) -> None:
    """Trains until told to end; answers how often it gave way."""
    with DeviceLock("gpu").shared() as hold:
        pipe.send("trains")
        yields = 0
        while not pipe.poll():
            time.sleep(0.002)
            yields += hold.yield_()
    pipe.send(yields)


def measure_again_and_again(pipe: Connection) -> None:
    lock = DeviceLock("gpu")
    for _ in range(20):
        with lock.exclusive():
            time.sleep(0.01)
    pipe.send("done")


class Processes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[multiprocessing.process.BaseProcess] = []

    def start(self, body: Callable[[Connection], None]) -> tuple[multiprocessing.process.BaseProcess, Connection]:
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
def test_the_kernel_frees_a_killed_holders_lock(holding: Callable[[Connection], None], processes: Processes) -> None:
    holder, pipe = processes.start(holding)
    assert pipe.recv() == "holds"
    assert not processes.can_measure(wait_s=0.5)
    holder.kill()
    assert processes.can_measure()


def test_devices_do_not_exclude_each_other(processes: Processes) -> None:
    _, pipe = processes.start(hold_exclusive)
    assert pipe.recv() == "holds"
    with DeviceLock("another gpu").exclusive():
        pass


def test_training_shares_the_device(processes: Processes) -> None:
    _, pipe = processes.start(hold_shared)
    assert pipe.recv() == "holds"
    with DeviceLock("gpu").shared() as hold:
        assert not hold.yield_()


def test_training_gives_way_to_a_measurer_and_goes_on(processes: Processes) -> None:
    _, pipe = processes.start(train)
    assert pipe.recv() == "trains"
    assert processes.can_measure()
    pipe.send("end")
    assert pipe.recv() == 1


def test_nobody_starves(processes: Processes) -> None:
    """Two measurers that measure again at once and two trainers: all of them get their turns."""
    trainers = [processes.start(train)[1] for _ in range(2)]
    assert [pipe.recv() for pipe in trainers] == ["trains", "trains"]
    measurers = [processes.start(measure_again_and_again)[1] for _ in range(2)]
    assert [pipe.recv() for pipe in measurers] == ["done", "done"]
    for pipe in trainers:
        pipe.send("end")
    assert min(pipe.recv() for pipe in trainers) >= 5  # of 40 sessions


def test_a_forked_child_does_not_keep_its_parents_lock(processes: Processes) -> None:
    parent, pipe = processes.start(hold_and_fork)
    child = pipe.recv()
    assert not processes.can_measure(wait_s=0.5)
    parent.kill()
    try:
        assert processes.can_measure()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.usefixtures("lock_dir")
def test_waiting_for_oneself_is_refused() -> None:
    with DeviceLock("gpu").shared(), pytest.raises(AssertionError, match="give the share back"):
        DeviceLock("gpu").exclusive().__enter__()
    with DeviceLock("gpu").exclusive():
        pass


@pytest.mark.usefixtures("lock_dir")
def test_cpu_thread_time_does_not_stop_training() -> None:
    lock = DeviceLock.for_section(LatencySection())
    with lock.shared() as hold, lock.exclusive():
        assert not hold.yield_()


def test_only_what_training_disturbs_stops_training() -> None:
    assert not DeviceLock.for_section(LatencySection()).training_stops
    assert DeviceLock.for_section(LatencySection(threads=2)).training_stops
    command = LatencySection(mode="command", command="./phone", threads=2)
    assert not DeviceLock.for_section(command).training_stops


def test_the_folder_can_be_shared_by_users(lock_dir: Path) -> None:
    assert lock_directory() == lock_dir
    with DeviceLock("gpu").exclusive():
        assert lock_dir.stat().st_mode & 0o7777 == 0o1777
        assert {file.stat().st_mode & 0o777 for file in lock_dir.iterdir()} == {0o666}


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(file / "locks"))
    lock = DeviceLock("gpu")
    with (
        pytest.raises(MeasurementError, match="set NAS_ATTN_LOCK_DIR to a folder that all processes"),
        lock.exclusive(),
    ):
        pass

"""Workers of one study on this machine: in this process, or several of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from nas_attn.errors import NasAttnError, OperationError, UserError
from nas_attn.study.opening import OpenStudy
from nas_attn.study.searching import Options, threads_each, work
from nas_attn.study.sharing import devices_of, mps, shares_of

GRACE_S = 60.0
"""Seconds that worker processes get to write their checkpoints after the first Ctrl-C."""


def run_workers(opened: OpenStudy, workers: int, options: Options) -> str:
    """Runs workers until the study is complete, or `options.stop` is set. Returns why it ended, as `work` does.

    Several workers share the cores: each gets its part of them as intra-op threads. GPUs are taken in turn, and those on
    one GPU share its memory and compute at the same time through MPS, where it is installed.

    Raises:
        NasAttnError: what stopped the only worker, or all of them.
    """
    options = replace(options, threads=threads_each(workers, opened.recipe, options.threads))
    if workers == 1:
        return work(opened, options)
    command = ["worker", opened.store.name]
    if options.time_limit_s is not None:
        command += ["--time-limit", str(options.time_limit_s)]
    return run_processes(command, opened.database.url, workers, options)


def run_processes(command: Sequence[str], url: str, workers: int, options: Options) -> str:
    """Runs a command of nas-attn in several processes, which share this machine, until all have ended.

    Args:
        command: its name and arguments; what tells a process its part of the machine is added.
        url: of the database.

    Returns:
        `complete`, or `stopped` where `options.stop` was set.

    Raises:
        NasAttnError: what stopped all of them.
    """
    devices = devices_of(options.device, workers)
    with mps(devices if options.mps else [], options.say) as clients:
        children = [
            _start(command, url, replace(options, device=device, share=share), f"worker {number}", clients)
            for number, (device, share) in enumerate(zip(devices, shares_of(devices), strict=True), 1)
        ]
        return _attend(children, options)


def _attend(children: list[subprocess.Popen[str]], options: Options) -> str:
    """Passes on what the workers say until they have ended, and why they did."""
    readers = [threading.Thread(target=_read, args=(child, options.say), daemon=True) for child in children]
    for reader in readers:
        reader.start()
    try:
        _wait(children, options)
    finally:
        for child in children:
            child.kill()  # only those that are left after an exception here
        for reader in readers:
            reader.join(timeout=5)
    return _ended([child.wait() for child in children], options)


@contextmanager
def interruptible(stop: threading.Event, say: Callable[[str], None]) -> Iterator[None]:
    """Ctrl-C (or SIGTERM) once: finish the step, checkpoint, leave the trial resumable. Twice: now."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping: finishing the step and writing a checkpoint; once more to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_parent(pid: int, stop: threading.Event) -> None:
    """Stops this worker when the process that started it is gone."""

    def watch() -> None:
        while not stop.wait(1.0):
            if os.getppid() != pid:
                stop.set()

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _start(
    command: Sequence[str], url: str, options: Options, name: str, clients: Mapping[str, str]
) -> subprocess.Popen[str]:
    part = ["--threads", str(options.threads), "--device", options.device]
    part += ["--sharing", str(options.share.machine), "--per-gpu", str(options.share.device)]
    part += ["--parent", str(os.getpid()), "--name", name]
    return subprocess.Popen(
        [sys.executable, "-m", "nas_attn.cli.main", *command, *part],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            **clients,
            "NAS_ATTN_STORAGE": url,  # not an argument: everyone may read those, passwords included
            "OMP_NUM_THREADS": str(options.threads),
            "PYTHONUNBUFFERED": "1",
        },
        start_new_session=True,  # Ctrl-C reaches them through us, once
    )


def _read(child: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            say(line.rstrip())


def _wait(children: list[subprocess.Popen[str]], options: Options) -> None:
    """Until all have ended; passes the wish to stop on, and ends those that do not follow it in time."""
    asked: float | None = None
    while any(child.poll() is None for child in children):
        time.sleep(0.1)
        if options.stop.is_set() and asked is None:
            asked = time.monotonic()
            for child in children:
                if child.poll() is None:
                    child.send_signal(signal.SIGINT)
        if asked is not None and time.monotonic() - asked > GRACE_S:
            raise OperationError(
                f"workers did not stop within {GRACE_S:.0f} s and were killed; the study can be resumed"
            )


def _ended(codes: list[int], options: Options) -> str:
    if options.stop.is_set():
        return "stopped"
    if 0 in codes:
        for code in codes:
            if code:
                options.say(f"a worker ended with status {code}; the others went on without it")
        return "complete"
    error: type[NasAttnError] = UserError if set(codes) == {UserError.exit_status} else OperationError
    raise error(f"all {len(codes)} workers ended with an error (above); the study can be resumed")

"""How a search is asked to stop, how its workers learn it, what remains of a run; and the list of
workers.
"""

from __future__ import annotations

import _thread
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import IO

from nas_attn.errors import OperationError, StudyError, several, shorten
from nas_attn.evaluation.output import leave_terminal, on_terminal
from nas_attn.storage import CheckpointRow
from nas_attn.study.opening import OpenStudy
from nas_attn.waiting import StopNow, impatient, reporting, waits

ALWAYS = (signal.SIGINT, signal.SIGTERM)
WHERE_UNUSED = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
"""Signals of a closed terminal and of schedulers before they take the machine away. Left alone if
the surrounding program handles or ignores them, as `nohup` does.
"""
TOGETHER_S = (
    0.5  # signals this close are one: `timeout` and schedulers send to a process and to its group
)
STOP, NOW = b"s", b"n"
STORAGE_WAIT = "NAS_ATTN_STORAGE_WAIT"  # environment variable: seconds to wait for a database
STORAGE_WAIT_S = 1800.0  # a server can be updated and restarted in this time


@contextmanager
def interruptible(
    stop: threading.Event, say: Callable[[str], None], *, orders: bool = False
) -> Iterator[None]:
    """First signal: finish the step, write a checkpoint, leave the trial resumable. Second: stop
    now, by a KeyboardInterrupt. `say` reports waits inside; they end when `stop` is set. With
    `orders`, standard input says when to stop (`Orders`).
    """
    ear = _Ear(stop, say)
    if orders:
        words = os.dup(0)  # not inherited: an evaluator reads another file
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        threading.Thread(target=ear.follow, args=(words,), name="orders", daemon=True).start()
    if threading.current_thread() is not threading.main_thread():
        with reporting(say, stop.is_set, storage_wait_s()):
            yield
        return
    speaker = threading.Thread(target=ear.speak, name="signals", daemon=True)
    speaker.start()
    unused = [number for number in WHERE_UNUSED if signal.getsignal(number) == signal.SIG_DFL]
    before = {number: signal.signal(number, ear.hear) for number in (*ALWAYS, *unused)}
    try:
        with reporting(say, stop.is_set, storage_wait_s()):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ear.heard.put(None)
        speaker.join(timeout=5)


def storage_wait_s() -> float:
    """Seconds to wait for a silent database; StudyError if the variable is not a number of
    seconds.
    """
    text = os.environ.get(STORAGE_WAIT, "")
    try:
        seconds = float(text or STORAGE_WAIT_S)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise StudyError(
            f"{STORAGE_WAIT} is '{shorten(text)}': give a number of seconds, or 0 to wait not"
            " at all"
        )
    return seconds


class _Ear:
    """Receives signals and orders. A signal's handler takes no lock: the interrupted thread may
    hold it.
    """

    def __init__(self, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._stop, self._say = stop, say
        self._first = 0.0  # time of the first signal, by time.monotonic(); 0 before it
        self._now = False
        self.heard = SimpleQueue[int | None]()

    def hear(self, number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name == "SIGHUP":
            leave_terminal()
        if self._now or (self._first and time.monotonic() - self._first > TOGETHER_S):
            raise StopNow
        if not self._first:
            self._first = time.monotonic()
            self.heard.put(number)

    def speak(self) -> None:
        while (number := self.heard.get()) is not None:
            why = "" if number == signal.SIGINT else f" on {signal.Signals(number).name}"
            try:
                with on_terminal():
                    self._say(
                        f"stopping{why}: finishing the step and writing a checkpoint; repeat to"
                        " stop at once"
                    )
            finally:  # even if the output is closed
                self._stop.set()

    def follow(self, orders: int) -> None:
        while word := os.read(orders, 1):
            self._stop.set()
            if word == NOW:
                self._now, main = True, threading.main_thread().ident
                if sys.platform == "win32" or main is None:
                    _thread.interrupt_main()
                else:
                    signal.pthread_kill(main, signal.SIGINT)  # ends its sleep, too
        self._stop.set()


class Orders:
    """A worker's standard input, which says when to stop. A signal would not do: schedulers send
    theirs to the worker, too, and so it would count twice.
    """

    def __init__(self, pipe: IO[bytes] | None) -> None:
        """`pipe` is the worker's standard input."""
        assert pipe is not None
        self._pipe = pipe

    def send(self, word: bytes) -> None:
        """Tells the worker STOP or NOW; does nothing if it has ended."""
        with suppress(OSError):
            self._pipe.write(word)
            self._pipe.flush()

    def close(self) -> None:
        """Ends the orders; a worker that still runs then stops."""
        with suppress(OSError):
            self._pipe.close()


def left_behind(checkpoint: CheckpointRow | None, *, in_order: bool, told: bool = True) -> str:
    """What remains of an unfinished run. `told`: the database knows; otherwise others wait until
    the lease expires.
    """
    begin = "stopped" if in_order else "stopped at once"
    if not told:
        return (
            f"{begin}; the database does not answer; it will go on from its last recorded"
            " checkpoint"
        )
    if checkpoint is None:
        return f"{begin} before its first checkpoint; it will start again"
    done = (
        f"{several(checkpoint.epochs, 'epoch')} trained"
        if checkpoint.epochs
        else "in its first epoch"
    )
    return f"{begin}; it will go on from its checkpoint ({done})"


BEAT_S = 15.0  # seconds between signs of life
LISTEN_S = 3.0  # seconds between two checks for a request to stop
STARTING = "starting"
IDLE = "looking for work"


def stop_workers(opened: OpenStudy) -> None:
    """Tells all current workers of a study, on any machine, to finish and stop. Workers that start
    later are not affected.
    """
    opened.store.set(stop_asked_at=opened.database.now())


class Presence:
    """One worker's line in the study's list. It is not updated while the database is away; nothing
    depends on it.
    """

    def __init__(self, opened: OpenStudy, owner: str, device: str, stop: threading.Event) -> None:
        """`stop` is set when the study's workers are told to stop."""
        self._store, self._owner, self._device = opened.store, owner, device
        self._stop, self._came_at = stop, opened.database.now()
        self._doing, self._waiting, self._told_at = STARTING, "", 0.0
        self._over = threading.Event()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the worker is listed, together with what it waits for."""
        self._tell()
        common = waits()

        def say(line: str) -> None:
            self._hear(line)
            common.say(line)

        listener = threading.Thread(
            target=self._listen, args=(common.say,), name="presence", daemon=True
        )
        listener.start()
        try:
            with reporting(say, common.stop, common.storage_s):
                yield
        finally:
            self._over.set()
            listener.join()
            with impatient(), suppress(OperationError):
                self._store.workers.gone(self._owner)

    def at(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self._tell()

    def _listen(self, say: Callable[[str], None]) -> None:
        while not self._over.wait(LISTEN_S):
            with suppress(OperationError, ValueError):
                if time.monotonic() - self._told_at > BEAT_S:
                    self._tell()
                if (
                    self._store.settings.stop_asked_at or 0.0
                ) > self._came_at and not self._stop.is_set():
                    self._stop.set()
                    with on_terminal():
                        say(
                            "stopping, as requested by nas-attn stop: finishing the step and"
                            " writing a checkpoint"
                        )

    def _hear(self, line: str) -> None:
        if line.startswith(("waiting for ", "waited ", "the database is back")):
            self._waiting = line if line.startswith("waiting for ") else ""
            self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        with impatient(), suppress(OperationError):
            self._store.workers.here(
                self._owner, device=self._device, doing=self._doing, waiting=self._waiting
            )

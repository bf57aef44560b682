"""How a search is asked to stop, and how its workers learn it."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from nas_attn.searching.worker.presence import FINISHING
from nas_attn.system.environment import storage_wait_s
from nas_attn.system.waiting import StopNow, reporting

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
WHERE_UNUSED = tuple(
    getattr(signal, name)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
"""Signals of a closed terminal and of schedulers before they take the machine away. Left alone if
the surrounding program handles or ignores them, as `nohup` does.
"""
# signals this close are one: `timeout` and schedulers send to a process and to its group
TOGETHER_S = 0.5
STOP = b"s"
NOW = b"n"


@contextmanager
def interruptible(
    stop: threading.Event, say: Callable[[str], None], *, orders: bool = False
) -> Iterator[None]:
    """First signal: finish the step, write a checkpoint, leave the trial resumable. Second: stop
    now, by a KeyboardInterrupt. `say` reports waits inside; they end when `stop` is set. With
    `orders`, standard input says when to stop.
    """
    ear = _Ear(stop, say)
    if orders:
        # not inherited: an evaluator reads another file
        words = os.dup(0)
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
    before = {number: signal.signal(number, ear.hear) for number in (*STOP_SIGNALS, *unused)}
    try:
        with reporting(say, stop.is_set, storage_wait_s()):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ear.heard.put(None)
        speaker.join(timeout=5)


def _leave_terminal() -> None:
    """Discards output to a closed terminal, for all copies of its descriptor."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in range(256):
        if os.isatty(descriptor):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


class _Ear:
    """Receives signals and orders. A signal's handler takes no lock: the interrupted thread may
    hold it.
    """

    def __init__(self, stop: threading.Event, say: Callable[[str], None]) -> None:
        self._stop = stop
        self._say = say
        # time of the first signal, by time.monotonic(); 0 before it
        self._first = 0.0
        self._now = False
        self.heard = SimpleQueue[int | None]()

    def hear(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's
        if signal.Signals(number).name == "SIGHUP":
            _leave_terminal()
        if self._now or (self._first and time.monotonic() - self._first > TOGETHER_S):
            raise StopNow
        if not self._first:
            self._first = time.monotonic()
            self.heard.put(number)

    def speak(self) -> None:
        while (number := self.heard.get()) is not None:
            why = "" if number == signal.SIGINT else f" on {signal.Signals(number).name}"
            try:
                self._say(f"stopping{why}: {FINISHING}; repeat to stop at once")
            finally:
                # even if the output is closed
                self._stop.set()

    def follow(self, orders: int) -> None:
        while word := os.read(orders, 1):
            self._stop.set()
            if word == NOW:
                self._now = True
                main = threading.main_thread().ident
                if sys.platform == "win32" or main is None:
                    _thread.interrupt_main()
                else:
                    # ends its sleep, too
                    signal.pthread_kill(main, signal.SIGINT)
        self._stop.set()

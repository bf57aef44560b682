"""Waits that report themselves: after some seconds they say what they wait for. They end by a
request to stop, or a time limit.

A command says once where its waits report and what ends them: `with reporting(say, stop):`. Code
inside waits by `with Wait("the runs of other workers") as wait:` and `wait.pause(0.5)`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from filelock import FileLock

# Seconds after which a wait is reported
REPORTED_AFTER_S = 10.0
# Seconds after which it is reported again
AGAIN_S = 60.0
# Seconds between checks that a wait is over, or shall stop
CHECK_S = 0.2
# Seconds between two attempts to take a lock
LOCK_POLL_S = 0.05


class Interrupted(Exception):
    """`stop()` became true. Unfinished work is left in order, so that another worker can continue
    it.
    """


class StopNow(KeyboardInterrupt):
    """A person's second request to stop, unlike a KeyboardInterrupt that a user's code raises."""


def ignore(text: str) -> None:
    """Says nothing: in place of a function that takes a line for people."""


@dataclass(frozen=True)
class Waits:
    """Common settings of a search's waits."""

    say: Callable[[str], None]
    stop: Callable[[], bool]
    # Seconds to wait for a database that does not answer
    storage_s: float = 0.0
    # Told the sentence of a wait, and an empty text once it is over
    waiting: Callable[[str], None] = ignore

    def report(self, sentence: str) -> None:
        """Says what is waited for."""
        self.waiting(sentence)
        self.say(sentence)

    def report_end(self, sentence: str) -> None:
        """Says that a wait is over."""
        self.waiting("")
        self.say(sentence)


def _log(line: str) -> None:
    logging.getLogger("nas_attn").warning(line)


def _never() -> bool:
    return False


# Outside of a search: reports to the log, by default standard error
OUTSIDE_A_SEARCH = Waits(_log, _never)
_waits: ContextVar[Waits | None] = ContextVar("waits", default=None)


@contextmanager
def reporting(
    say: Callable[[str], None],
    stop: Callable[[], bool],
    storage_s: float = 0.0,
    waiting: Callable[[str], None] = ignore,
) -> Iterator[None]:
    """Sets how waits of this thread report and end, inside.

    Args:
        say: takes each sentence.
        stop: ends a wait with Interrupted once it is true.
        storage_s: seconds that a database gets which does not answer.
        waiting: takes what is waited for, and an empty text once it is over.
    """
    before = _waits.set(Waits(say, stop, storage_s, waiting))
    try:
        yield
    finally:
        _waits.reset(before)


@contextmanager
def impatient() -> Iterator[None]:
    """Inside, there is no wait for a database that does not answer."""
    before = _waits.set(replace(waits(), storage_s=0.0))
    try:
        yield
    finally:
        _waits.reset(before)


def waits() -> Waits:
    """The common settings of this thread's waits."""
    return _waits.get() or OUTSIDE_A_SEARCH


class Wait:
    """One wait. As a context manager it also reports how long it took, if the wait was reported."""

    def __init__(self, what: str) -> None:
        """`what` completes "waiting for"."""
        self._what = what
        self._waits = waits()
        self._began = time.monotonic()
        self._next = self._began + REPORTED_AFTER_S
        self._spoke = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.over()

    def pause(self, seconds: float, who: Callable[[], str] = str) -> None:
        """Lets some time pass, or raises Interrupted. `who` names the holder of what it waits for,
        or why it is not there, when this is reported; empty: nobody knows.
        """
        end = time.monotonic() + seconds
        while True:
            if self._waits.stop():
                raise Interrupted
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, CHECK_S))
        now = time.monotonic()
        if now >= self._next:
            self._next = now + AGAIN_S
            self._spoke = True
            sentence = f"waiting for {self._what}, {now - self._began:.0f} s so far"
            self._waits.report(": ".join(filter(None, (sentence, who()))))

    def over(self) -> None:
        """Ends the wait; the next pause begins another one."""
        if self._spoke:
            seconds = time.monotonic() - self._began
            self._waits.report_end(f"waited {seconds:.0f} s for {self._what}")
        self._began = time.monotonic()
        self._next = self._began + REPORTED_AFTER_S
        self._spoke = False


@contextmanager
def locked(path: Path, wait: Wait, limit_s: float) -> Iterator[bool]:
    """Holds a lock file, which is freed when its holder ends. Yields whether it is held: not if the
    time was over first. Interrupted, OSError.
    """
    lock = file_lock(path)
    end = time.monotonic() + limit_s
    while not taken(lock):
        if time.monotonic() > end:
            yield False
            return
        wait.pause(LOCK_POLL_S)
    try:
        wait.over()
        yield True
    finally:
        give_back(lock)


def file_lock(path: Path) -> FileLock:
    """A system lock on a file, which any user of the machine can take."""
    from filelock import FileLock

    return FileLock(path, mode=0o666, thread_local=False)


def taken(lock: FileLock) -> bool:
    """Takes a lock if it is free."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def give_back(lock: FileLock) -> None:
    """Frees a lock and removes its file."""
    # another user's; Windows removes a lock file at its release
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()

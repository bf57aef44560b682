"""Waiting that explains itself: after some seconds it says for whom, it ends when the user asks to stop, and it has an end.

Whoever runs a search says once whom its waits tell and what ends them, `with telling(say, stop):`; whatever waits inside,
in whichever room, does so through a `Wait`:

    with Wait("the backbone") as wait:
        while not trained():
            wait.pause(0.5, lambda: "worker 2 trains it")
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from nas_attn.processes import Process, flock_holders, shown

QUIET_S = 10.0
"""Seconds after which a wait says what for."""
AGAIN_S = 60.0
"""Seconds after which it says so again."""
TICK_S = 0.2
"""Seconds within which a wait notices that it is over, or that it is asked to stop."""
STOPPED_S = 5.0
"""Seconds that are waited for a process that is stopped: it may be continued at once."""

_open_files: set[int] = set()


class Interrupted(Exception):
    """`stop()` said so: what was under way is left in order, for whoever goes on with it."""


@dataclass(frozen=True)
class Waits:
    """What the waits of a search have in common."""

    say: Callable[[str], None]
    stop: Callable[[], bool]
    storage_s: float = 0.0
    """Seconds for which a database that does not answer is waited for."""


def _log(line: str) -> None:
    logging.getLogger("nas_attn").warning(line)


def _never() -> bool:
    return False


ALONE = Waits(_log, _never)
"""For what no search runs: says to the log, which is standard error unless told otherwise."""
_waits: ContextVar[Waits | None] = ContextVar("waits", default=None)


@contextmanager
def telling(say: Callable[[str], None], stop: Callable[[], bool], storage_s: float = 0.0) -> Iterator[None]:
    """Inside, waits of this thread tell `say`, and end by `Interrupted` once `stop()` is true.

    Args:
        storage_s: seconds for which a database that does not answer is waited for; 0: it is an error at once.
    """
    before = _waits.set(Waits(say, stop, storage_s))
    try:
        yield
    finally:
        _waits.reset(before)


@contextmanager
def impatient() -> Iterator[None]:
    """Inside, a database that does not answer is not waited for."""
    before = _waits.set(replace(waits(), storage_s=0.0))
    try:
        yield
    finally:
        _waits.reset(before)


def waits() -> Waits:
    """What the waits of this thread have in common."""
    return _waits.get() or ALONE


class Wait:
    """One wait. As a context manager it also says how long it took, where it had said that it waits."""

    def __init__(self, what: str, stop: Callable[[], bool] = _never) -> None:
        """Args:
        what: completes "waiting for …".
        stop: ends the wait, beside what ends all of them.
        """
        self._what, self._stop, self._waits = what, stop, waits()
        self._began = time.monotonic()
        self._next = self._began + QUIET_S
        self._spoke = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.over()

    @property
    def stopping(self) -> bool:
        """Whether the wait is asked to end."""
        return self._stop() or self._waits.stop()

    def pause(self, seconds: float, who: Callable[[], str]) -> None:
        """Lets some time pass.

        Args:
            who: asked when there is something to say: who is waited for, and what is known of them.

        Raises:
            Interrupted: the search is asked to stop.
        """
        end = time.monotonic() + seconds
        while True:
            if self.stopping:
                raise Interrupted
            left = end - time.monotonic()
            if left <= 0:
                break
            time.sleep(min(left, TICK_S))
        self.explain(who)

    def explain(self, who: Callable[[], str]) -> None:
        """Says who is waited for, where it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next, self._spoke = now + AGAIN_S, True
            self._waits.say(f"waiting for {self._what}, {now - self._began:.0f} s so far: {who()}")

    def say(self, line: str) -> None:
        """Says something about this wait."""
        self._waits.say(line)

    def over(self) -> None:
        """The wait has ended; what comes is another one."""
        if self._spoke:
            self._waits.say(f"waited {time.monotonic() - self._began:.0f} s for {self._what}")
        self._began = time.monotonic()
        self._next, self._spoke = self._began + QUIET_S, False


class Patience:
    """How long a lock's holders are waited for: each by itself, since a lock that passes from one to the next is in use."""

    def __init__(self, living_s: float, passed_by: Collection[Process] = ()) -> None:
        """Args:
        passed_by: where these are stopped, they are not waited for again.
        """
        self._living_s, self._passed_by = living_s, passed_by
        self._since: dict[tuple[Process | None, bool], float] = {}

    def over(self, holders: Sequence[Process]) -> bool:
        """Whether it has been long enough for all of them. None to be seen count as one that lives."""
        now = time.monotonic()
        found: list[tuple[Process | None, bool]] = [(holder, holder.stopped) for holder in holders]
        self._since = {one: self._since.get(one, now) for one in found or [(None, False)]}
        return all(now - since >= self._limit_s(*one) for one, since in self._since.items())

    def _limit_s(self, holder: Process | None, stopped: bool) -> float:
        if not stopped:
            return self._living_s
        return 0.0 if holder in self._passed_by else STOPPED_S


def flock(descriptor: int, operation: int, wait: Wait, patience: Patience) -> list[Process] | None:
    """Locks an open file. Returns None when it is locked, or whom it was waited for in vain.

    Waits in line, as flock does: trying again and again, others would always be quicker.

    Raises:
        Interrupted: the search is asked to stop.
    """
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        pass
    taker = _Taker(descriptor, operation)
    try:
        looked, holders = 0.0, flock_holders(descriptor)
        while not taker.taken.wait(TICK_S):
            if wait.stopping:
                raise Interrupted
            if time.monotonic() - looked > 1.0:
                looked, holders = time.monotonic(), flock_holders(descriptor)
            if patience.over(holders):
                return holders
            wait.explain(lambda: shown(flock_holders(descriptor)))
        taker.keep()
        return None
    finally:
        taker.leave()


class _Taker(threading.Thread):
    """Stands in line for a lock, in the place of a thread that has to listen meanwhile."""

    def __init__(self, descriptor: int, operation: int) -> None:
        super().__init__(name="lock", daemon=True)
        self._copy = private(os.dup(descriptor))  # of the same open file: what one locks, the other has locked
        self._operation, self._mutex = operation, threading.Lock()
        self._kept = self._left = False
        self.taken = threading.Event()
        self.start()

    def run(self) -> None:
        fcntl.flock(self._copy, self._operation)
        with self._mutex:
            if self._left:  # nobody waits any more: the last copy's closing frees the lock
                close(self._copy)
            self.taken.set()

    def keep(self) -> None:
        self._kept = True

    def leave(self) -> None:
        """The wait is over. A lock that comes later is given back."""
        with self._mutex:
            self._left = True
            if self.taken.is_set():
                if not self._kept:
                    fcntl.flock(self._copy, fcntl.LOCK_UN)
                close(self._copy)


def private(descriptor: int) -> int:
    """Keeps an open file from forked children: they would share its lock. To be closed by `close`."""
    _open_files.add(descriptor)
    return descriptor


def close(descriptor: int) -> None:
    """Closes a file that is `private`, which frees its lock."""
    _open_files.discard(descriptor)
    os.close(descriptor)


def _close_in_child() -> None:
    """A forked child shares its parent's locks; closing its copies leaves them to the parent alone."""
    for descriptor in _open_files:
        os.close(descriptor)
    _open_files.clear()


os.register_at_fork(after_in_child=_close_in_child)

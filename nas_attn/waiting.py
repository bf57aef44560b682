"""Waits that report themselves: after some seconds they say what they wait for. They end when the user asks to stop, or in time.

A command says once where its waits report and what ends them: `with reporting(say, stop):`. Code inside waits by
`with Wait("the backbone") as wait:` and `wait.pause(0.5, lambda: "worker 2 trains it")`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nas_attn.processes import is_stopped, owner_name, owner_shown

if TYPE_CHECKING:
    from filelock import FileLock

QUIET_S = 10.0  # Seconds after which a wait says what for
AGAIN_S = 60.0  # Seconds after which it says so again
TICK_S = 0.2  # Seconds within which a wait notices that it is over, or that it is asked to stop
STOPPED_S = 5.0  # Seconds that are waited for a process that is stopped: it may be continued at once
POLL_S = 0.05  # Seconds between two attempts to take a lock


class Interrupted(Exception):
    """`stop()` became true. Unfinished work is left in order, so that another worker can continue it."""


@dataclass(frozen=True)
class Waits:
    """What the waits of a search have in common."""

    say: Callable[[str], None]
    stop: Callable[[], bool]
    storage_s: float = 0.0  # Seconds for which a database that does not answer is waited for


def _log(line: str) -> None:
    logging.getLogger("nas_attn").warning(line)


def _never() -> bool:
    return False


ALONE = Waits(_log, _never)  # For what no search runs: says to the log, which is standard error unless told otherwise
_waits: ContextVar[Waits | None] = ContextVar("waits", default=None)


@contextmanager
def reporting(say: Callable[[str], None], stop: Callable[[], bool], storage_s: float = 0.0) -> Iterator[None]:
    """Inside, waits of this thread report to `say`, raise Interrupted once `stop()` is true, and give a database `storage_s` seconds."""
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
        """`what` completes "waiting for …"; `stop` ends the wait, beside what ends all of them."""
        self._what, self._stop, self._waits = what, stop, waits()
        self._began = time.monotonic()
        self._next = self._began + QUIET_S
        self._spoke = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.over()

    @property
    def stopping(self) -> bool:
        """Whether the wait is asked to end."""
        return self._stop() or self._waits.stop()

    def pause(self, seconds: float, who: Callable[[], str]) -> None:
        """Lets some time pass, or raises Interrupted. `who` is asked for whom it is waited, when there is something to say."""
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

    def __init__(self, living_s: float) -> None:
        self._living_s = living_s
        self._since: dict[tuple[str, bool], float] = {}

    def over(self, owners: Collection[str]) -> bool:
        """Whether it has been long enough for all of them. An owner that cannot be seen counts as one that lives."""
        now = time.monotonic()
        found = [(owner, is_stopped(owner)) for owner in owners]
        self._since = {one: self._since.get(one, now) for one in found}
        limits = {True: STOPPED_S, False: self._living_s}
        return all(now - since >= limits[stopped] for (_, stopped), since in self._since.items())


@contextmanager
def locked(path: Path, wait: Wait, living_s: float) -> Iterator[str]:
    """Holds a lock file, freed when its holder ends. Yields "", or for whom it was waited in vain. Interrupted, OSError."""
    lock, patience = file_lock(path), Patience(living_s)
    while not taken(lock):
        owner = _owner_in(path)
        if patience.over([owner]):
            yield owner_shown(owner)
            return
        wait.pause(POLL_S, lambda: owner_shown(_owner_in(path)))
    try:
        with path.open("r+b", buffering=0) as file:
            file.seek(1)  # Windows lets nobody read or write the first byte, which is locked
            file.write(owner_name().encode())
            file.truncate()
        wait.over()
        yield ""
    finally:
        with suppress(OSError):  # Windows does it at the release
            path.unlink()
        lock.release()


def file_lock(path: Path) -> FileLock:
    """A lock of the system on a file, which any user of the machine may take."""
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


def _owner_in(path: Path) -> str:
    """Who holds a lock; empty where that cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(1)
            return file.read().decode()
    except (OSError, UnicodeDecodeError):
        return ""

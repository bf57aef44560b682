"""Outages of a study database: a lost connection, a restart, too many connections, a full or locked
file.

Inside `waiting.reporting(…, storage_s=…)`, methods that are marked `@repeatable` wait for the end
of an outage, and are called again. A connection may be cut after the database has committed and
before it has confirmed this. So what is marked must have the same effect if it is done twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from nas_attn.errors import StorageAway, shown_s
from nas_attn.system.environment import STORAGE_WAIT
from nas_attn.system.waiting import CHECK_S, Interrupted, impatient, waits

T = TypeVar("T")
P = ParamSpec("P")
Owner = TypeVar("Owner")

# first and longest pause between attempts, each varied at random by a third
FIRST_S = 0.1
LONGEST_PAUSE_S = 10.0
# shorter outages are not reported: a cut connection is opened again at once
UNREPORTED_S = 2.0
# seconds to wait after a request to stop, so that results can still be written
STOPPING_S = 5.0


class Outage:
    """Whether a database is away, for all its users in this process."""

    def __init__(self, where: str) -> None:
        """`where`: names the database, without its password."""
        self._where = where
        # time of the last failure, or of the end of a wait
        self._away_at: float | None = None
        # `.work`: whether this thread is in `endure`
        self._inside = threading.local()
        # held by the one who reports the outage; others wait without a word
        self._reporter = threading.Lock()

    def just_over(self, seconds: float) -> bool:
        """Whether the database was away within the last `seconds`: other processes may not have
        given a sign of life since.
        """
        return self._away_at is not None and time.monotonic() - self._away_at < seconds

    def endure(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        """Repeats `work` until it succeeds, with `renew` before each further attempt; inside
        another `endure`, that one repeats. Raises StorageAway, Interrupted: it gave up.
        """
        if getattr(self._inside, "work", False):
            return work()
        self._inside.work = True
        try:
            try:
                return work()
            except StorageAway:
                self._away_at = time.monotonic()
                if waits().storage_s <= 0:
                    raise
            return self._repeat(work, renew)
        finally:
            self._inside.work = False

    def _repeat(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        began = time.monotonic()
        pause = FIRST_S
        stopping_at: float | None = None
        reports = False
        try:
            while True:
                stopping_at = _pause(pause * random.uniform(0.67, 1.33), stopping_at)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                renew()
                try:
                    result = work()
                    break
                except StorageAway as error:
                    self._away_at = time.monotonic()
                    self._check_limits(error, began, stopping_at)
                    if not reports and self._away_at - began >= UNREPORTED_S:
                        reports = self._report(error)
        finally:
            self._away_at = time.monotonic()
            if reports:
                self._reporter.release()
        if reports:
            lasted = shown_s(time.monotonic() - began)
            waits().report_end(f"the database is back after {lasted}: '{self._where}'")
        return result

    def _check_limits(self, error: StorageAway, began: float, stopping_at: float | None) -> None:
        now = time.monotonic()
        if stopping_at is not None and now - stopping_at > STOPPING_S:
            raise Interrupted from error
        limit_s = waits().storage_s
        if now - began > limit_s:
            raise StorageAway(
                f"{error}; gave up after {shown_s(limit_s)} (change it with {STORAGE_WAIT})"
            ) from error

    def _report(self, error: StorageAway) -> bool:
        """Says what is waited for, unless another thread does. Returns whether it was said."""
        if not self._reporter.acquire(blocking=False):
            return False
        common = waits()
        # reporting itself must not wait
        with impatient():
            limit = shown_s(common.storage_s)
            common.report(f"waiting for the database, for up to {limit}: {error}")
        return True


def _pause(seconds: float, stopping_at: float | None) -> float | None:
    """Lets time pass until a request to stop; returns when that came. Later pauses are short."""
    if stopping_at is not None:
        time.sleep(min(seconds, 1.0))
        return stopping_at
    end = time.monotonic() + seconds
    while not waits().stop():
        left = end - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(left, CHECK_S))
    return time.monotonic()


class Enduring(Protocol):
    """Repeats work while a database is away: a `Connector`, or Optuna's storage."""

    def endure(self, work: Callable[[], T]) -> T: ...


class _Connected(Protocol):
    @property
    def _connector(self) -> Enduring: ...


def repeatable(
    method: Callable[Concatenate[Owner, P], T],
) -> Callable[Concatenate[Owner, P], T]:
    """Marks a method that has the same effect if it is done again: it waits while the database is
    away, and is then called again. Its first call may have been committed, with the answer lost. A
    method of a class with a `_connector` that is not marked is no single transaction, or takes care
    of itself; it says how.
    """

    @wraps(method)
    def call(self: Owner, /, *given: P.args, **named: P.kwargs) -> T:
        return cast(_Connected, self)._connector.endure(lambda: method(self, *given, **named))

    return call

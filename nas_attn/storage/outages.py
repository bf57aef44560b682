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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from nas_attn.errors import StorageAway, shown_s
from nas_attn.system.environment import STORAGE_WAIT
from nas_attn.system.waiting import (
    CHECK_S,
    Interrupted,
    Waits,
    impatient,
    waits,
)

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
    """Whether a database is away, for all its users in this process. It is over when nobody waits
    any more: reading may work while writing does not.
    """

    def __init__(self, where: str) -> None:
        """`where`: names the database, without its password."""
        self._where = where
        self._mutex = threading.Lock()
        self._waiting = 0
        # when the first wait began, by time.monotonic()
        self._since = 0.0
        self._said = False
        # time of the last wait, or of the last failure
        self._away_at: float | None = None
        # `.work`: whether this thread is in `endure`
        self._inside = threading.local()

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
            with self._awaited():
                return self._repeat(work, renew)
        finally:
            self._inside.work = False

    def _repeat(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        common = waits()
        began = time.monotonic()
        pause = FIRST_S
        stopping_at = None
        while True:
            if common.stop() and stopping_at is None:
                stopping_at = time.monotonic()
            _sleep(pause * random.uniform(0.67, 1.33), common)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            renew()
            try:
                return work()
            except StorageAway as error:
                self._away_at = now = time.monotonic()
                if stopping_at is not None and now - stopping_at > STOPPING_S:
                    raise Interrupted from error
                if now - began > common.storage_s:
                    waited = shown_s(common.storage_s)
                    raise StorageAway(
                        f"{error}; gave up after {waited} (change it with {STORAGE_WAIT})"
                    ) from error
                self._tell(common, str(error))

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """Counts a waiting caller; when the last one has succeeded, the database is back."""
        with self._mutex:
            self._since = self._since if self._waiting else time.monotonic()
            self._waiting += 1
        back = False
        try:
            yield
            back = True
        finally:
            with self._mutex:
                self._waiting -= 1
                over = self._waiting == 0
                since = self._since
                self._away_at = time.monotonic()
                announced = self._said
                self._said = self._said and not over
            if back and over and announced:
                lasted = shown_s(time.monotonic() - since)
                waits().report_end(f"the database is back after {lasted}: '{self._where}'")

    def _tell(self, common: Waits, reason: str) -> None:
        with self._mutex:
            if self._said or time.monotonic() - self._since < UNREPORTED_S:
                return
            self._said = True
        # reporting itself must not wait
        with impatient():
            limit = shown_s(common.storage_s)
            common.report(f"waiting for the database, for up to {limit}: {reason}")


def _sleep(seconds: float, common: Waits) -> None:
    """Pauses without a message. After a request to stop, it tries again at once, then each
    second.
    """
    if common.stop():
        time.sleep(min(seconds, 1.0))
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not common.stop():
        time.sleep(min(left, CHECK_S))


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

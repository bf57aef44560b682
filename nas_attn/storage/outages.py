"""Outages of a study database: a lost connection, a restart, too many connections, a full or locked
file.

Inside `waiting.reporting(…, storage_s=…)`, methods that are marked `@repeatable` wait for the end
of an outage, and are called again. A connection may be cut after the database has committed and
before it has confirmed this. So what is marked must have the same effect if it is done twice.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from nas_attn.errors import StorageAway, shown_s
from nas_attn.system.environment import STORAGE_WAIT
from nas_attn.system.waiting import CHECK_S, Interrupted, Waits, impatient, waits

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
            return self._repeated(work, renew)
        finally:
            self._inside.work = False

    def _repeated(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        common = waits()
        limit = shown_s(common.storage_s)
        began = time.monotonic()
        # monotonic time, once it is asked to stop
        stops_by = math.inf
        pause_s = FIRST_S
        said = False
        while True:
            try:
                result = work()
                break
            except StorageAway as error:
                now = self._away_at = time.monotonic()
                if common.storage_s <= 0:
                    raise
                if common.stop():
                    stops_by = min(stops_by, now + STOPPING_S)
                if now > stops_by:
                    raise Interrupted from error
                if now - began > common.storage_s:
                    gave_up = f"gave up after {limit} (change it with {STORAGE_WAIT})"
                    raise StorageAway(f"{error}; {gave_up}") from error
                if now - began >= UNREPORTED_S and not said:
                    said = True
                    # reporting itself must not wait
                    with impatient():
                        common.report(f"waiting for the database, for up to {limit}: {error}")
            _pause(pause_s * random.uniform(0.67, 1.33), common)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._away_at = time.monotonic()
            renew()
        if said:
            lasted = shown_s(time.monotonic() - began)
            common.report_end(f"the database is back after {lasted}: '{self._where}'")
        return result


def _pause(seconds: float, common: Waits) -> None:
    """Lets time pass; only a little once a stop is asked for."""
    end = time.monotonic() + seconds
    while True:
        time.sleep(min(seconds, CHECK_S))
        if common.stop() or time.monotonic() >= end:
            return


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

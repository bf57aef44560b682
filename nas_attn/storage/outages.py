"""A database that is away for a while: a lost connection, a restart, too many connections, a full or locked file.

Whoever works inside `waiting.telling(…, storage_s=…)` waits for it: each transaction is repeated, with growing pauses that
differ from worker to worker, until it succeeds or the time is over. Said are the beginning and the end, once each in a
process. A connection may be cut after the database has committed and before it has said so: what is repeated must
therefore be the same done twice.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from nas_attn.errors import StorageAway
from nas_attn.waiting import TICK_S, Interrupted, Waits, impatient, waits

T = TypeVar("T")
C = TypeVar("C", bound=type)

FIRST_S, LONGEST_S = 0.1, 10.0
"""Pauses between two attempts: the first, and the longest, each within a third of it by chance."""
QUIET_S = 2.0
"""An outage as short as this is not worth a line: a connection that was cut is opened again at once."""
STOPPING_S = 5.0
"""Seconds that one who is asked to stop still waits, so that what it has done may be written down."""


class Outage:
    """Whether a database is away, as this process sees it; one for all that use it here. It is over when nobody here
    waits for it any longer. That another call succeeds says little: from an SQLite file that another program keeps
    locked, one can still read.
    """

    def __init__(self, where: str) -> None:
        """`where`: names the database, without its password."""
        self._where = where
        self._mutex = threading.Lock()
        self._waiting = 0
        self._since = 0.0  # when the first of those who wait began to, by time.monotonic()
        self._said = False
        self._away_at: float | None = None  # when somebody last waited for it, or found it away

    def just_over(self, seconds: float) -> bool:
        """Whether the database was away within the last so many seconds: others may not have had the time to say a word."""
        return self._away_at is not None and time.monotonic() - self._away_at < seconds

    def endure(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        """Does `work` until the database lets it, `renew` before each further attempt. Raises StorageAway: this thread
        does not wait for databases, or has waited long enough. Raises Interrupted: the search is asked to stop.
        """
        try:
            return work()
        except StorageAway:
            self._away_at = time.monotonic()
            if waits().storage_s <= 0:
                raise
        with self._awaited():
            return self._repeat(work, renew)

    def _repeat(self, work: Callable[[], T], renew: Callable[[], None]) -> T:
        common, began, pause, stopping_at = waits(), time.monotonic(), FIRST_S, None
        while True:
            if common.stop() and stopping_at is None:
                stopping_at = time.monotonic()
            _sleep(pause * random.uniform(0.67, 1.33), common)
            pause = min(2 * pause, LONGEST_S)
            renew()
            try:
                return work()
            except StorageAway as error:
                self._away_at = now = time.monotonic()
                if stopping_at is not None and now - stopping_at > STOPPING_S:
                    raise Interrupted from error
                if now - began > common.storage_s:
                    raise StorageAway(
                        f"{error}; gave up after {shown_s(common.storage_s)} (change it with NAS_ATTN_STORAGE_WAIT)"
                    ) from error
                self._tell(common, str(error))

    @contextmanager
    def _awaited(self) -> Iterator[None]:
        """One more who waits; when the last one no longer has to, the database is back."""
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
                over, since, self._away_at = self._waiting == 0, self._since, time.monotonic()
                said, self._said = self._said, self._said and not over
            if back and over and said:
                waits().say(f"the database is back after {shown_s(time.monotonic() - since)}: '{self._where}'")

    def _tell(self, common: Waits, reason: str) -> None:
        with self._mutex:
            if self._said or time.monotonic() - self._since < QUIET_S:
                return
            self._said = True
        with impatient():  # whatever else is said with it
            common.say(f"waiting for the database, for up to {shown_s(common.storage_s)}: {reason}")


def _sleep(seconds: float, common: Waits) -> None:
    """Pauses, in silence: what is waited for has been said. Who is asked to stop tries again at once, then each second."""
    if common.stop():
        time.sleep(min(seconds, 1.0))
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not common.stop():
        time.sleep(min(left, TICK_S))


def enduring(kind: C) -> C:
    """Makes the public methods of a class, each a transaction that may be repeated, wait for a database that is away.
    The class has a `_connector`.
    """
    for name, method in list(vars(kind).items()):
        if name.startswith("_"):
            continue
        if isinstance(method, property) and method.fget is not None:
            setattr(kind, name, property(_enduring(method.fget), doc=method.__doc__))
        elif callable(method):
            setattr(kind, name, _enduring(method))
    return kind


def _enduring(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        return self._connector.endure(lambda: method(self, *arguments, **named))

    return call


def shown_s(seconds: float) -> str:
    """`40 s`, `30 min`."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

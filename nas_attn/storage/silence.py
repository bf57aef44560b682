"""When a lease is over: by the database's clock where it has one, else by how long its holder has been silent.

SQLite has no clock of its own: it takes that of the process that asks. One that is an hour ahead would find every lease
expired, and take work away from those that are at it. So there each process watches: a lease whose row has not changed for
as long as it lasts is over, whatever the clocks say. Its holder renews it several times in that span.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from sqlalchemy import Row

TICK_S = 0.001
"""By how much a renewal changes a lease at least, where the clock has not moved on."""


class Silence:
    """What one process has seen of leases."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, str], tuple[int, float, float]] = {}
        self._mutex = threading.Lock()

    def is_over(self, study: int, lease: Row[Any]) -> bool:
        """Whether a lease has been as it is now for as long as it lasts.

        Args:
            lease: has `resource`, `number`, `expires_at` and `ttl_s`.
        """
        now = time.monotonic()
        with self._mutex:
            seen = self._seen.get((study, lease.resource))
            if seen is None or seen[:2] != (lease.number, lease.expires_at):
                seen = self._seen[study, lease.resource] = (lease.number, lease.expires_at, now)
        return bool(now - seen[2] >= lease.ttl_s)

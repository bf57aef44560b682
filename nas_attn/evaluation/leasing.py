"""Keeps a lease alive while its work goes on, and notices when it is lost."""

from __future__ import annotations

import threading
from types import TracebackType

from nas_attn.errors import LeaseLost, OperationError
from nas_attn.storage import Lease, StudyStore

TTL_S = 60.0
"""Seconds after which a silent owner's work may be taken over."""
RENEWALS = 4
"""Renewals within one TTL: three may fail before the lease does."""


class LeaseKeeper:
    """Renews a lease from a thread of its own until left; releases it then.

    After the lease has passed to someone else `lost` is true: stop, write nothing more (the store refuses it anyway).
    """

    def __init__(self, store: StudyStore, lease: Lease, *, ttl_s: float = TTL_S) -> None:
        self._store, self.lease, self._period = store, lease, ttl_s / RENEWALS
        self._left, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {lease.resource}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another worker has taken this work over."""
        return self._lost.is_set()

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()
        if not self.lost:
            try:
                self._store.release(self.lease)
            except OperationError:
                self._lost.set()

    def _renew(self) -> None:
        while not self._left.wait(self._period):
            try:
                self._store.renew(self.lease)
            except LeaseLost:
                self._lost.set()
                return
            except OperationError:
                continue  # the database may come back before the lease expires

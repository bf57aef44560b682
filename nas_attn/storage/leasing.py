"""Leases of workers: renewed during their work, freed when their holder has died; and a text about
holders.
"""

from __future__ import annotations

import random
import threading

from nas_attn.errors import LeaseLost, OperationError
from nas_attn.storage.rows import Lease
from nas_attn.storage.store import StudyStore
from nas_attn.system.processes import is_dead, owner_shown
from nas_attn.system.waiting import Interrupted

# seconds after which a silent owner's work may be taken over
TTL_S = 60.0
# renewals within one TTL: three may fail before the lease does
RENEWALS = 4
# random pause in seconds between attempts while the database is away
AWAY_S = (1.0, 3.0)


class LeaseKeeper:
    """Inside, a thread renews the lease; at the end it is released. `lost`: another worker has it,
    so stop.
    """

    def __init__(self, store: StudyStore, lease: Lease) -> None:
        self._store = store
        self.lease = lease
        self._period = TTL_S / RENEWALS
        self._left = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(
            target=self._renew, name=f"lease {lease.resource}", daemon=True
        )

    @property
    def lost(self) -> bool:
        """Whether another worker has taken this work over."""
        return self._lost.is_set()

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        if not self.lost:
            try:
                self._store.release(self.lease)
            except (OperationError, Interrupted):
                self._lost.set()

    def _renew(self) -> None:
        pause = self._period
        while not self._left.wait(pause):
            try:
                self._store.renew(self.lease)
                pause = self._period
            except LeaseLost:
                self._lost.set()
                return
            except OperationError:
                # the database may come back before the lease expires
                pause = min(self._period, random.uniform(*AWAY_S))


def release_dead(store: StudyStore, prefix: str) -> bool:
    """Frees leases of this machine's dead processes on resources with this prefix; returns whether
    one is still held.
    """
    held = False
    for row in store.leases(released=False):
        if row.state != "held" or not row.resource.startswith(prefix):
            continue
        if is_dead(row.owner, local=store.is_local):
            store.release(Lease(row.resource, row.owner, row.number, TTL_S, row.expires_at))
        else:
            held = True
    return held


def holders(store: StudyStore, mine: str, *, besides: str = "") -> list[str]:
    """The other holders of a study's leases (not the owner `mine`) and their work, in words;
    `besides`: a resource that does not count.
    """
    return [
        f"{owner_shown(row.owner)} holds '{row.resource}'"
        for row in store.leases(released=False)
        if row.state == "held" and row.owner != mine and row.resource != besides
    ]

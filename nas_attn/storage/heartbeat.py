"""The signs of life of a process that holds leases of a study."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nas_attn.errors import OperationError
from nas_attn.storage.store import StudyStore
from nas_attn.storage.work import NO_DEVICE
from nas_attn.system.waiting import impatient, reporting, waits

# seconds between signs of life
BEAT_S = 15.0
# seconds between two looks at the study, also for a request to stop
LISTEN_S = 3.0


class Heartbeat:
    """One process's line in a study's list of workers, renewed by a thread. It is not updated while
    the database is away; nothing depends on it then.
    """

    def __init__(
        self, store: StudyStore, owner: str, *, doing: str, device: str = NO_DEVICE
    ) -> None:
        """Makes the line of a process that is not listed yet.

        Args:
            store: of the study.
            owner: the process's name in leases.
            doing: its task.
            device: that it trains on.
        """
        self._store = store
        self._owner = owner
        self._device = device
        self._doing = doing
        self._waiting = ""
        self._told_at = 0.0
        self._over = threading.Event()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the process is listed, together with what it waits for, and keeps its leases."""
        self._tell()
        common = waits()
        beat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        beat.start()
        try:
            with reporting(common.say, common.stop, common.storage_s, self._wait):
                yield
        finally:
            self._over.set()
            beat.join()
            with impatient(), suppress(OperationError):
                self._store.workers.gone(self._owner)

    def at(self, doing: str) -> None:
        """Says what the process does now."""
        if doing != self._doing:
            self._doing = doing
            self._tell()

    def listen(self) -> None:
        """Called every few seconds, in the thread."""

    def _beat(self) -> None:
        while not self._over.wait(LISTEN_S):
            with suppress(OperationError, ValueError):
                if time.monotonic() - self._told_at > BEAT_S:
                    self._tell()
                self.listen()

    def _wait(self, sentence: str) -> None:
        self._waiting = sentence
        self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        with impatient(), suppress(OperationError):
            self._store.workers.here(
                self._owner, device=self._device, doing=self._doing, waiting=self._waiting
            )

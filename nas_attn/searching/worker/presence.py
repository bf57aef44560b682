"""The list of a study's workers, and the request to stop that they read there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from nas_attn.errors import OperationError
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.waiting import impatient, reporting, waits

# seconds between signs of life
BEAT_S = 15.0
# seconds between two checks for a request to stop
LISTEN_S = 3.0
STARTING = "starting"
IDLE = "looking for work"
FINISHING = "finishing the step and writing a checkpoint"


def stop_workers(opened: OpenStudy) -> None:
    """Tells all current workers of a study, on any machine, to finish and stop. Workers that start
    later are not affected.
    """
    opened.store.set(stop_asked_at=opened.database.now())


class Presence:
    """One worker's line in the study's list. It is not updated while the database is away; nothing
    depends on it.
    """

    def __init__(self, opened: OpenStudy, owner: str, device: str, stop: threading.Event) -> None:
        """Makes the line of a worker that is not listed yet.

        Args:
            opened: the study.
            owner: the worker's name in leases.
            device: that it trains on.
            stop: is set when the study's workers are told to stop.
        """
        self._store = opened.store
        self._owner = owner
        self._device = device
        self._stop = stop
        # Not the time at which it came: a clock may be set back.
        self._asked_before = opened.store.settings.stop_asked_at
        self._doing = STARTING
        self._waiting = ""
        self._told_at = 0.0
        self._over = threading.Event()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the worker is listed, together with what it waits for."""
        self._tell()
        common = waits()
        listener = threading.Thread(
            target=self._listen, args=(common.say,), name="presence", daemon=True
        )
        listener.start()
        try:
            with reporting(common.say, common.stop, common.storage_s, self._wait):
                yield
        finally:
            self._over.set()
            listener.join()
            with impatient(), suppress(OperationError):
                self._store.workers.gone(self._owner)

    def at(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self._tell()

    def _listen(self, say: Callable[[str], None]) -> None:
        while not self._over.wait(LISTEN_S):
            with suppress(OperationError, ValueError):
                if time.monotonic() - self._told_at > BEAT_S:
                    self._tell()
                asked = self._store.settings.stop_asked_at
                if asked != self._asked_before and not self._stop.is_set():
                    self._stop.set()
                    say(f"stopping, as requested by nas-attn stop: {FINISHING}")

    def _wait(self, sentence: str) -> None:
        self._waiting = sentence
        self._tell()

    def _tell(self) -> None:
        self._told_at = time.monotonic()
        with impatient(), suppress(OperationError):
            self._store.workers.here(
                self._owner, device=self._device, doing=self._doing, waiting=self._waiting
            )

"""A worker in the list of its study's, and the request to stop that it reads there."""

from __future__ import annotations

import threading

from typing_extensions import override

from nas_attn.storage.heartbeat import Heartbeat
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.waiting import waits

STARTING = "starting"
IDLE = "looking for work"
FINISHING = "finishing the step and writing a checkpoint"


def stop_workers(opened: OpenStudy) -> None:
    """Tells all current workers of a study, on any machine, to finish and stop. Workers that start
    later are not affected.
    """
    opened.store.set(stop_asked_at=opened.database.now())


class Presence(Heartbeat):
    """A worker's heartbeat, which also hears that the study's workers shall stop."""

    def __init__(self, opened: OpenStudy, owner: str, device: str, stop: threading.Event) -> None:
        """Makes the line of a worker that is not listed yet.

        Args:
            opened: the study.
            owner: the worker's name in leases.
            device: that it trains on.
            stop: is set when the study's workers are told to stop.
        """
        super().__init__(opened.store, owner, doing=STARTING, device=device)
        self._stop = stop
        self._say = waits().say
        # Not the time at which it came: a clock may be set back.
        self._asked_before = opened.store.settings.stop_asked_at

    @override
    def listen(self) -> None:
        asked = self._store.settings.stop_asked_at
        if asked != self._asked_before and not self._stop.is_set():
            self._stop.set()
            self._say(f"stopping, as requested by nas-attn stop: {FINISHING}")

"""Curves of trainings that are for use, kept in the study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from nas_attn.records import EpochPoint
from nas_attn.storage import Lease, Run, StudyStore


def keep_curve(store: StudyStore, run: Run, lease: Lease) -> Callable[[EpochPoint], None]:
    """What notes each point of a run's curve; a curve that was begun is continued.

    Points of later epochs, from before a run went back to its checkpoint, are dropped. It raises `LeaseLost` where another worker
    has taken the run over.
    """
    text = store.curves.get(run.files)
    points = [] if text is None else [EpochPoint(**point) for point in json.loads(text)]

    def add(point: EpochPoint) -> None:
        points[:] = [*(p for p in points if p.epochs < point.epochs), point]
        store.renew(lease)
        store.curves.put(run.files, json.dumps([asdict(p) for p in points]))

    return add

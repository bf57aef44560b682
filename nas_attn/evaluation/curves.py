"""Curves of trainings that are for use: kept in the study, and as TensorBoard's events where that is installed."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from nas_attn.records import EpochPoint
from nas_attn.storage import Lease, Run, StudyStore

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
"""Beside a study's artifacts: a folder per run."""


class Curve:
    """Writes one run's curve, point by point; one that was begun is gone on with."""

    def __init__(self, store: StudyStore, run: Run, lease: Lease, folder: Path) -> None:
        """Args:
        folder: of the study's artifacts.
        """
        self._store, self._lease, self._name = store, lease, run.files
        text = store.curves.get(self._name)
        self._points = [] if text is None else [EpochPoint(**point) for point in json.loads(text)]
        self._folder = folder / FOLDER / store.name / run.files.replace(":", "-")
        self._writer: SummaryWriter | None = None

    def add(self, point: EpochPoint) -> None:
        """Notes a point; what was noted of later epochs, before a run went back to its checkpoint, goes.

        Raises:
            LeaseLost: another worker has taken the run over.
        """
        self._points = [*(p for p in self._points if p.epochs < point.epochs), point]
        self._store.renew(self._lease)
        self._store.curves.put(self._name, json.dumps([asdict(p) for p in self._points]))
        if importlib.util.find_spec("tensorboard") is not None:
            self._event(point)

    def close(self) -> None:
        """Nothing more comes."""
        if self._writer is not None:
            self._writer.close()

    def _event(self, point: EpochPoint) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=point.epochs)
        scalars = {"loss/training": point.train_loss, **{f"validation/{n}": v for n, v in point.metrics.items()}}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, point.epochs)
        self._writer.flush()

"""What the estimates of a study are about: they change their meaning when targets are trained."""

from __future__ import annotations

from enum import Enum, auto

from nas_attn.answer.snapshot import Snapshot
from nas_attn.model import TARGET_RUNG, TESTED


class Provenance(Enum):
    """The training and the images that estimates are about."""

    SEARCH = auto()
    """The search's own training, on the validation images."""
    TARGET = auto()
    """Training as the target says, on the validation images."""
    TESTED = auto()
    """Training as the target says, on the test images."""


def provenance(now: Snapshot, metric: str) -> Provenance:
    """Of the estimates of a metric."""
    model = now.evidence.get(metric)
    if model is None or model.rung < TARGET_RUNG:
        return Provenance.SEARCH
    return Provenance.TESTED if model.rung >= TESTED else Provenance.TARGET

"""Networks trained for use (`nas-attn retrain`): their curves, and what they score on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_attn.records import EpochPoint

PURPOSE = "retrain"


@dataclass(frozen=True, slots=True)
class Retrained:
    """One such training."""

    key: str
    placement: str
    way: str
    """`target`, or another that the study keeps."""
    seed: int
    state: str
    """As in the queue: `waiting` until it has ended."""
    reason: str
    curve: tuple[EpochPoint, ...]
    """Epoch by epoch; an evaluator's trainings have none."""
    metrics: Mapping[str, float] | None
    """Of the trained network on the validation split; None before the end."""

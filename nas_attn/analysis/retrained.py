"""Networks trained for use (`nas-attn retrain`): their curves, and what they score on the validation split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nas_attn.records import EpochPoint
from nas_attn.storage import StudyStore

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


def retrained(store: StudyStore) -> tuple[Retrained, ...]:
    """All that were ordered, in the order of the orders."""
    rows = sorted(store.queue.rows(purposes=[PURPOSE]), key=lambda row: row.id)
    if not rows:
        return ()
    curves = store.curves.all()
    scores = {(s.key, s.way, s.score.seed, s.backbone): s.score.metrics for s in store.scores()}
    found = []
    for row in rows:
        points = json.loads(curves.get(row.run.files, "[]"))
        found.append(
            Retrained(
                key=row.run.key,
                placement=row.run.placement,
                way=row.run.way,
                seed=row.run.seed,
                state=row.state,
                reason=row.reason,
                curve=tuple(EpochPoint(**point) for point in points),
                metrics=scores.get((row.run.key, row.run.way, row.run.seed, row.run.backbone)),
            )
        )
    return tuple(found)

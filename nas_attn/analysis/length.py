"""How long the bare network needs: full trainings of n, 2n, 4n … epochs, compared.

A learning rate that falls to zero makes a network look finished at any length, so one training
cannot be stopped early to find out. Each length is therefore a training of its own, with its own
schedule, on the same seeds. The length that is needed is the first whose double is not clearly
better.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# a clearly better length takes so much of what is left to gain: of the smaller of p and 1 - p for a
# share p (an accuracy), else of the value
CLEAR = 0.05


@dataclass(frozen=True, slots=True)
class LengthScore:
    """The bare network's scores after so many epochs, the means over its seeds."""

    epochs: int
    seeds: int
    value: float  # of the study's metric
    loss: float | None  # mean log-loss of an image; None where none is known


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What the rule has to know of a metric."""

    share: bool  # from 0 to 1, higher is better
    lower_is_better: bool


def length_scores(
    metrics: Mapping[int, Iterable[Mapping[str, float]]], metric: str
) -> list[LengthScore]:
    """The scores by length, from each run's metrics by its epochs; the shortest first."""
    scores = []
    for epochs, runs in sorted(metrics.items()):
        known = [run for run in runs if metric in run]
        if not known:
            continue
        losses = [run["loss"] for run in known if "loss" in run]
        value = statistics.fmean(run[metric] for run in known)
        loss = statistics.fmean(losses) if losses else None
        scores.append(LengthScore(epochs, len(known), value, loss))
    return scores


def clearly_better(longer: LengthScore, shorter: LengthScore, kind: MetricKind) -> bool:
    """Whether a longer training has a clearly better metric or a clearly lower loss."""
    if (
        longer.loss is not None
        and shorter.loss is not None
        and shorter.loss - longer.loss > CLEAR * abs(shorter.loss)
    ):
        return True
    gain = (shorter.value - longer.value) if kind.lower_is_better else longer.value - shorter.value
    room = min(shorter.value, 1 - shorter.value) if kind.share else abs(shorter.value)
    return gain > CLEAR * room


def needed_length(scores: Sequence[LengthScore], kind: MetricKind) -> int | None:
    """The first length whose double is known and is not clearly better; None without one."""
    by_epochs = {score.epochs: score for score in scores}
    for score in scores:
        double = by_epochs.get(2 * score.epochs)
        if double is not None and not clearly_better(double, score, kind):
            return score.epochs
    return None

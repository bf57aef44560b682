"""What a choice gains at a site in two networks: alone, and next to the other choices of the recommended placement.

Gains are the model's, as in `pareto`; beside them stands what was measured: the mean difference of runs of the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.model.latencies import with_predictions
from nas_attn.recipe import lower_is_better

Choices = frozenset[tuple[str, str]]
"""(site, choice in notation) of a placement."""
Pair = tuple[Choices, Choices]
"""A network with a choice, and the same without it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A gain: positive is better, or slower where it is of latency."""

    mean: float
    low: float
    """95 % interval."""
    high: float
    measured: float | None
    """Mean difference of the runs of equal seeds; None where the two networks have none in common."""
    runs: int
    """Pairs of runs behind that."""

    @property
    def half(self) -> float:
        """Half of the 95 % interval."""
        return (self.high - self.low) / 2

    @property
    def sure(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class InPlace:
    """One choice at one site."""

    site: str
    choice: str
    alone: Part | None
    """Against the bare backbone."""
    beside: Part | None
    """Next to the recommended choices at the other sites, against nothing at this one; None where there are none."""


def in_place(taken: Snapshot, of: str) -> dict[tuple[str, str], InPlace]:
    """(site, choice) -> what it gains, for each choice of a candidate; empty where nothing can be said of differences.

    Args:
        of: a metric; or `latency`, where a gain is what the choice adds as a share of the bare backbone's time.
    """
    known = {_choices(view): view for view in taken.candidates}
    best = taken.recommendation and taken.find(taken.recommendation.key)
    others = _choices(best) if best else Choices()
    wanted = {pair: _networks(pair, others) for pair in sorted({pair for choices in known for pair in choices})}
    asked = {pair for networks in wanted.values() for pair in networks}
    parts = _latencies(known, asked) if of == "latency" else _gains(taken, of, known, asked)
    if not parts:
        return {}
    return {
        pair: InPlace(*pair, parts.get(alone), parts.get(beside) if beside != alone else None)
        for pair, (alone, beside) in wanted.items()
    }


def _gains(
    taken: Snapshot, metric: str, known: Mapping[Choices, CandidateView], asked: Iterable[Pair]
) -> dict[Pair, Part]:
    """What the first network of a pair gains over the second."""
    model = taken.evidence.get(metric)
    if model is None:
        return {}
    keys, new = _keys(known, asked)
    wider, found = model.including(new), {}
    for has, lacks in asked:
        gain = wider.gain(keys[has], keys[lacks])
        if gain is not None:
            differences = _differences(taken, metric, known.get(has), known.get(lacks))
            mean = fmean(differences) if differences else None
            found[has, lacks] = Part(gain.mean, gain.low, gain.high, mean, len(differences))
    return found


def _latencies(known: Mapping[Choices, CandidateView], asked: Iterable[Pair]) -> dict[Pair, Part]:
    """What the first network of a pair takes longer than the second; latencies that were not measured are predicted."""
    keys, new = _keys(known, asked)
    measured = {view.key: view.latency for view in known.values() if view.latency is not None}
    latencies = (
        with_predictions(measured, {keys[choices]: _text(choices) for choices in known} | new) if measured else {}
    )
    found = {}
    for has, lacks in asked:
        mine, other = latencies.get(keys[has]), latencies.get(keys[lacks])
        if mine is not None and other is not None:
            mean, half = mine.ratio - other.ratio, math.hypot(mine.high - mine.low, other.high - other.low) / 2
            found[has, lacks] = Part(mean, mean - half, mean + half, None, 0)
    return found


def _keys(known: Mapping[Choices, CandidateView], asked: Iterable[Pair]) -> tuple[dict[Choices, str], dict[str, str]]:
    """Key of each network that is asked for, and (key -> notation) of those that are no candidates."""
    keys = {choices: view.key for choices, view in known.items()}
    new = {choices for pair in asked for choices in pair} - keys.keys()
    keys |= {choices: f"in place/{_text(choices)}" for choices in new}
    return keys, {keys[choices]: _text(choices) for choices in new}


def _choices(view: CandidateView) -> Choices:
    return Choices(view.choices.items())


def _text(choices: Choices) -> str:
    return " ".join(f"{site}={choice}" for site, choice in sorted(choices)) or "none"


def _networks(pair: tuple[str, str], best: Choices) -> tuple[Pair, Pair]:
    """(with the choice, without it): alone, and next to the recommended choices at other sites."""
    site = pair[0].partition("@")[0]
    others = Choices((where, choice) for where, choice in best if where.partition("@")[0] != site)
    return (Choices([pair]), Choices()), (others | {pair}, others)


def _differences(taken: Snapshot, metric: str, has: CandidateView | None, lacks: CandidateView | None) -> list[float]:
    """Differences of runs of equal seeds at the last rung."""
    if has is None or lacks is None:
        return []
    mine, other = (_runs(taken, metric, view) for view in (has, lacks))
    sign = -1.0 if lower_is_better(metric) else 1.0
    return [sign * (mine[seed] - other[seed]) for seed in sorted(mine.keys() & other.keys())]


def _runs(taken: Snapshot, metric: str, view: CandidateView) -> Mapping[int, float]:
    last = len(taken.recipe.training.rungs) - 1
    return {p.seed: p.metrics[metric] for p in view.scores if p.rung == last and metric in p.metrics}

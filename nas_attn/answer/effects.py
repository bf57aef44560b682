"""Average effects of each choice at each site, and of each type over all its sites.

An effect on a metric is what a choice adds on average over all placements that have it, by the
model of all runs; one placement's own luck or merit is no part of it. Effects on latency are those
of the additive model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nas_attn.answer.snapshot import Snapshot
from nas_attn.latency.ratios import LEAST_MEASURED, latency_model
from nas_attn.model.features import Feature, features, is_other, placement_of
from nas_attn.model.hypotheses import cdf
from nas_attn.model.solution import Sum
from nas_attn.space.placement import BARE, Placement

Level = Literal["choice", "type"]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a choice adds at its site, or a type at any site, compared with nothing there. In the
    metric's unit: positive is better; on latency positive is slower, relative to the bare backbone.
    """

    mean: float
    # 95 % interval
    low: float
    high: float
    level: Level
    # `stage2`, with `@position` where it was written; empty for a type: all its sites
    site: str
    type: str
    # `reduction=8`, as in notation; empty for a type
    knobs: str
    # probability that it helps; the rest to 1 with `worse` is a tie
    better: float
    worse: float
    # candidates that have exactly this
    observations: int
    # candidates that have the type without having exactly this
    elsewhere: int

    @property
    def name(self) -> str:
        """`se(reduction=8)`."""
        if self.knobs:
            return f"{self.type}({self.knobs})"
        return self.type

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def sure(self) -> bool:
        """Whether the 95 % interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects on one metric, or on latency."""

    of: str
    # by level, site and choice
    rows: tuple[Effect, ...]
    cv_error: float | None = None
    """Leave-one-out root mean square error of the additive model; only for latency."""

    def at(self, level: Level) -> tuple[Effect, ...]:
        return tuple(row for row in self.rows if row.level == level)

    @property
    def sure(self) -> list[Effect]:
        """The choices whose interval excludes zero, the largest effect first."""
        return sorted(
            (row for row in self.at("choice") if row.sure), key=lambda row: -abs(row.mean)
        )


def both_effects(now: Snapshot) -> list[Effects]:
    """The effects on the optimized metric and on latency, as far as they are known."""
    wanted = [now.primary, "latency"]
    found = (average_effects(now, what) for what in wanted if what is not None)
    return [effects for effects in found if effects is not None]


def average_effects(now: Snapshot, what: str) -> Effects | None:
    """The effects on `latency` (relative to the bare backbone's) or on a metric (in its unit); None
    with too few candidates.
    """
    if what == "latency":
        return _on_latency(now)
    return _on_metric(now, what)


def _on_latency(now: Snapshot) -> Effects | None:
    own = (view for view in now.candidates if not is_other(view.placement))
    latencies = {view.key: view.latency for view in own if view.latency is not None}
    placements = {view.key: view.placement for view in now.candidates}
    model = latency_model(latencies, placements)
    if model is None:
        return None
    asked = _asked(placements[key] for key, latency in latencies.items() if latency.measured)
    rows = []
    for (_, of), (mean, error) in zip(asked, model.sums([sum_ for sum_, _ in asked]), strict=True):
        faster = float(cdf(-mean / error)) if error > 0 else float(mean < 0)
        half = 1.96 * error
        rows.append(Effect(mean, mean - half, mean + half, better=faster, worse=1 - faster, **of))
    return Effects("latency", tuple(rows), model.cv_error)


def _on_metric(now: Snapshot, metric: str) -> Effects | None:
    model = now.evidence.get(metric)
    ran = [v for v in now.candidates if v.scores and not is_other(v.placement)]
    if model is None or len(ran) < LEAST_MEASURED:
        return None
    asked = {str(number): one for number, one in enumerate(_asked(view.placement for view in ran))}
    gains = model.effects({name: sum_ for name, (sum_, _) in asked.items()})
    rows = [
        Effect(g.mean, g.low, g.high, better=g.probability, worse=g.worse, **asked[n][1])
        for n, g in gains.items()
    ]
    if rows:
        return Effects(metric, tuple(rows))
    return None


def _asked(placements: Iterable[Placement]) -> list[tuple[Sum, dict[str, Any]]]:
    """All effects that can be estimated: each as a weighted sum over placements, with its site,
    type and knobs.
    """
    users = Counter[Feature]()
    kinds = Counter[str]()
    for placement in placements:
        users.update(features(placement))
        kinds.update({feature.type for feature in features(placement)})
    questions = []
    for f, count in sorted(users.items()):
        of = {"level": "choice", "site": f.site, "type": f.type, "knobs": f.knobs}
        counts = {"observations": count, "elsewhere": kinds[f.type] - count}
        questions.append((_sum_of([f]), of | counts))
    for kind, count in sorted(kinds.items()):
        of = {"level": "type", "site": "", "type": kind, "knobs": ""}
        counts = {"observations": count, "elsewhere": 0}
        questions.append((_sum_of([f for f in sorted(users) if f.type == kind]), of | counts))
    return questions


def _sum_of(choices: Sequence[Feature]) -> Sum:
    return (*((placement_of([choice]), 1 / len(choices)) for choice in choices), (BARE, -1.0))

"""Effects of each choice at each site, and of each type over all its sites.

An effect on a metric is what a choice adds on average over all placements that have it, by the
model of all runs; one placement's own luck or merit is no part of it. Effects on latency are those
of the additive model. Each effect is shown with the choice's gain in two networks: alone, and next
to the other choices of the recommended placement.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from nas_attn.answer.answer import Answer
from nas_attn.answer.arithmetic import pairing
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.latency.ratios import LEAST_MEASURED, latency_model, with_predictions
from nas_attn.model.features import Feature, features, is_other, placement_of
from nas_attn.model.hypotheses import cdf
from nas_attn.model.solution import Sum
from nas_attn.space.placement import BARE, Placement

Level = Literal["choice", "type"]
Column = Literal["average", "alone", "beside"]
EFFECT_COLUMNS: tuple[Column, ...] = ("average", "alone", "beside")


@dataclass(frozen=True, slots=True)
class Part:
    """A difference in the metric's unit: positive is better; on latency positive is slower,
    relative to the bare backbone.
    """

    mean: float
    # 95 % interval
    low: float
    high: float
    # mean difference of runs with equal seeds; None if there are none
    measured: float | None = None
    # pairs of runs behind that
    runs: int = 0

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def sure(self) -> bool:
        """Whether the 95 % interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect(Part):
    """The average effect of a choice at its site, or of a type at any site, compared with nothing
    there.
    """

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
    # of a choice: the network with it alone against the bare backbone
    alone: Part | None = None
    beside: Part | None = None
    """Of a choice: next to the recommended choices at the other sites, against nothing at this one;
    None if there are none.
    """

    @property
    def name(self) -> str:
        """`se(reduction=8)`."""
        if self.knobs:
            return f"{self.type}({self.knobs})"
        return self.type

    def part(self, column: Column) -> Part | None:
        """The difference in one of the columns of a table of effects."""
        return {"average": self, "alone": self.alone, "beside": self.beside}[column]


@dataclass(frozen=True, slots=True)
class Together:
    """Choices of one placement whose sum is known, while no single one is shown to help: the study
    cannot separate them.
    """

    label: str
    """Of the candidate, as in all tables."""
    choices: tuple[Feature, ...]
    gain: Part
    """Over the bare backbone."""


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects on one metric, or on latency."""

    of: str
    # by level, site and choice
    rows: tuple[Effect, ...]
    cv_error: float | None = None
    """Leave-one-out root mean square error of the additive model; only for latency."""
    prices: Mapping[tuple[str, str], Effect] = field(default_factory=dict)
    """(site, choice) -> its effect on the latency; empty where that is not known."""
    together: Together | None = None
    """The choices of the recommended placement, if only their sum is known."""

    def at(self, level: Level) -> tuple[Effect, ...]:
        return tuple(row for row in self.rows if row.level == level)

    def informative(self, level: Level) -> tuple[Column, ...]:
        """The columns in which at least one interval excludes zero; the others say nothing."""
        columns: list[Column] = []
        for column in EFFECT_COLUMNS:
            parts = [row.part(column) for row in self.at(level)]
            if any(part is not None and part.sure for part in parts):
                columns.append(column)
        return tuple(columns)


def both_effects(answer: Answer) -> list[Effects]:
    """The effects on the optimized metric and on latency, as far as they are known."""
    latency = fit_effects(answer, "latency")
    effects = None
    if answer.now.primary:
        effects = fit_effects(answer, answer.now.primary, latency)
    return [fitted for fitted in (effects, latency) if fitted is not None]


def fit_effects(answer: Answer, what: str, latency: Effects | None = None) -> Effects | None:
    """The effects on `latency` (relative to the bare backbone's) or on a metric (in its unit); None
    with too few candidates.

    `latency`: the effects on latency, if they are known.
    """
    now = answer.now
    effects = average_effects(now, what)
    if effects is None:
        return None
    best = None if answer.best is None else now.find(answer.best.key)
    placed = _in_place(now, what, best)
    rows = []
    for row in effects.rows:
        if row.level == "choice":
            alone, beside = placed.get((row.site, row.type, row.knobs), (None, None))
            rows.append(replace(row, alone=alone, beside=beside))
        else:
            rows.append(row)
    prices = {} if what == "latency" else _prices(latency or fit_effects(answer, "latency"))
    together = together_of(best, what, rows)
    return replace(effects, rows=tuple(rows), prices=prices, together=together)


def _prices(latency: Effects | None) -> dict[tuple[str, str], Effect]:
    """(site, choice) -> its effect on the latency."""
    if latency is None:
        return {}
    return {(row.site, row.name): row for row in latency.at("choice")}


def together_of(best: CandidateView | None, what: str, rows: Sequence[Effect]) -> Together | None:
    """The choices of the recommended placement, where the study knows their sum only."""
    gain = None if best is None or what == "latency" else best.gains.get(what)
    if best is None or gain is None:
        return None
    choices = features(best.placement)
    whole = Part(gain.mean, gain.low, gain.high)
    by_choice = {(row.site, row.type, row.knobs): row for row in rows if row.level == "choice"}
    mine = [by_choice.get((feature.site, feature.type, feature.knobs)) for feature in choices]
    separable = any(
        part is not None and part.low > 0
        for row in mine
        if row is not None
        for part in (row, row.alone, row.beside)
    )
    if len(choices) < 2 or separable or not whole.low > 0:
        return None
    return Together(best.label, choices, whole)


def average_effects(now: Snapshot, what: str) -> Effects | None:
    """The same without gains in single networks and without prices: for maps, which are drawn
    often.
    """
    if what == "latency":
        return _on_latency(now)
    return _on_metric(now, what)


def _on_latency(now: Snapshot) -> Effects | None:
    latencies = {}
    for v in now.candidates:
        if v.latency is not None and not is_other(v.placement):
            latencies[v.key] = v.latency
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
    users = defaultdict[Feature, set[int]](set)
    kinds = defaultdict[str, set[int]](set)
    for number, placement in enumerate(placements):
        for feature in features(placement):
            users[feature].add(number)
            kinds[feature.type].add(number)

    def sum_of(choices: Sequence[Feature]) -> Sum:
        return (*((placement_of([choice]), 1 / len(choices)) for choice in choices), (BARE, -1.0))

    questions = list[tuple[Sum, dict[str, Any]]]()
    for f in sorted(users):
        seen = {"observations": len(users[f]), "elsewhere": len(kinds[f.type]) - len(users[f])}
        questions.append(
            (
                sum_of([f]),
                {"level": "choice", "site": f.site, "type": f.type, "knobs": f.knobs, **seen},
            )
        )
    for kind, all_ in sorted(kinds.items()):
        of = {
            "level": "type",
            "site": "",
            "type": kind,
            "knobs": "",
            "observations": len(all_),
            "elsewhere": 0,
        }
        questions.append((sum_of([f for f in sorted(users) if f.type == kind]), of))
    return questions


# ---------------------------------------------------------------------------------- in two networks

_Choices = frozenset[Feature]
# a network with a choice, and the same without it
_Pair = tuple[_Choices, _Choices]


def _in_place(
    now: Snapshot, of: str, best: CandidateView | None
) -> dict[tuple[str, str, str], tuple[Part | None, Part | None]]:
    """(site, type, knobs) -> gain alone, and next to the recommended choices; empty if differences
    are unknown.
    """
    views = {
        frozenset(features(v.placement)): v for v in now.candidates if not is_other(v.placement)
    }
    recommended = features(best.placement) if best else ()
    pairs: dict[Feature, tuple[_Pair, _Pair]] = {}
    for feature in set().union(*views):
        others = frozenset(f for f in recommended if f.place != feature.place)
        pairs[feature] = (frozenset([feature]), frozenset()), (others | {feature}, others)
    networks = {choices for both in pairs.values() for pair in both for choices in pair}
    keys = {
        choices: views[choices].key if choices in views else str(placement_of(choices))
        for choices in networks
    }
    asked = {pair for both in pairs.values() for pair in both}
    if of == "latency":
        parts = _latencies(views, keys, asked)
    else:
        parts = _gains(now, of, views, keys, asked)
    if not parts:
        return {}
    return {
        (f.site, f.type, f.knobs): (
            parts.get(alone),
            parts.get(beside) if beside != alone else None,
        )
        for f, (alone, beside) in pairs.items()
    }


def _gains(
    now: Snapshot,
    metric: str,
    views: Mapping[_Choices, CandidateView],
    keys: Mapping[_Choices, str],
    asked: Iterable[_Pair],
) -> dict[_Pair, Part]:
    """Gain of the first network of a pair over the second: by the model, and as measured."""
    model = now.evidence.get(metric)
    if model is None:
        return {}
    wider = model.about({key: placement_of(choices) for choices, key in keys.items()})
    by_second = defaultdict[_Choices, list[_Choices]](list)
    parts_by_cell = {}
    for has, lacks in asked:
        by_second[lacks].append(has)
    sign = sign_of(now.recipe, metric)
    for lacks, several in by_second.items():
        gains = wider.gains(keys[lacks], [keys[has] for has in several])
        for has in several:
            differences = []
            if has in views and lacks in views:
                mine, other = (_runs(now, metric, views[choices]) for choices in (has, lacks))
                differences = [
                    sign * (mine[block] - other[block]) for block in mine.keys() & other.keys()
                ]
            mean = None
            if differences:
                mean = fmean(differences)
            gain = gains.get(keys[has])
            if gain is not None:
                parts_by_cell[has, lacks] = Part(
                    gain.mean, gain.low, gain.high, mean, len(differences)
                )
    return parts_by_cell


def _runs(
    now: Snapshot, metric: str, view: CandidateView
) -> Mapping[tuple[int, str | None], float]:
    """Seed and arithmetic -> value of the run."""
    last = len(now.recipe.training.rungs) - 1
    return {
        (p.seed, p.arithmetic and pairing(p.arithmetic)): p.metrics[metric]
        for p in view.scores
        if p.rung == last and metric in p.metrics
    }


def _latencies(
    views: Mapping[_Choices, CandidateView], keys: Mapping[_Choices, str], asked: Iterable[_Pair]
) -> dict[_Pair, Part]:
    """Extra latency of the first network of a pair over the second; latencies that were not
    measured are predicted.
    """
    measured = {view.key: view.latency for view in views.values() if view.latency is not None}
    placements = {v.key: v.placement for v in views.values()}
    placements |= {key: placement_of(choices) for choices, key in keys.items()}
    latencies = with_predictions(measured, placements) if measured else {}
    parts_by_cell = {}
    for has, lacks in asked:
        mine = latencies.get(keys[has])
        other = latencies.get(keys[lacks])
        if mine is not None and other is not None:
            mean = mine.ratio - other.ratio
            half = math.hypot(mine.high - mine.low, other.high - other.low) / 2
            parts_by_cell[has, lacks] = Part(mean, mean - half, mean + half)
    return parts_by_cell

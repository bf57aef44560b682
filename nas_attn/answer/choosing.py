"""The candidate that criteria choose, and why; or that none does, and which is nearest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from nas_attn.answer.criteria import Criteria
from nas_attn.answer.eligible import finished, latency_ratio
from nas_attn.answer.fronts import minimised, sign_of
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import StudyError, several, shorten
from nas_attn.recipe.tables import is_cost, share_of_images


class Way(Enum):
    """How a candidate was chosen."""

    TRIAL = auto()
    PLACEMENT = auto()
    KNEE = auto()
    """The knee of the front."""
    BEST_WITHIN = auto()
    """The best within a latency limit."""
    CHEAPEST = auto()
    """The cheapest that reaches an accuracy."""
    RECOMMENDED = auto()
    INSTEAD = auto()
    """The control that the answer takes instead of attention."""


@dataclass(frozen=True, slots=True)
class LatencyLimit:
    """A limit of the latency."""

    ratio: float
    """To the bare backbone's latency."""
    ms: float | None = None
    """As it was given, if in milliseconds on the machine that measured."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that criteria choose."""

    view: CandidateView
    way: Way
    limit: LatencyLimit | None = None
    min_accuracy: float | None = None
    cost: str = ""
    """What the cheapest one has least of."""

    @property
    def may_exceed(self) -> bool:
        """Whether the 95 % interval of its latency exceeds the limit."""
        latency = self.view.latency
        return self.limit is not None and latency is not None and latency.high > self.limit.ratio


@dataclass(frozen=True, slots=True)
class Unmet:
    """No candidate meets the criteria."""

    nearest: CandidateView | None
    """None: there were none, and nothing is recommended."""
    limit: LatencyLimit | None = None
    min_accuracy: float | None = None


def choose(now: Snapshot, criteria: Criteria, key_of: Callable[[str], str]) -> Chosen | Unmet:
    """The candidate that the criteria choose; without criteria, the one that the answer takes.

    `key_of`: for `placement` only. StudyError: a criterion does not fit the study.
    """
    if criteria.trial is not None:
        return Chosen(_by_trial(now, criteria.trial), Way.TRIAL)
    if criteria.placement is not None:
        view = _by_key(now, key_of(criteria.placement), criteria.placement)
        return Chosen(view, Way.PLACEMENT)
    if criteria.knee:
        return Chosen(_knee(now), Way.KNEE)
    if criteria.limited:
        return _within(now, criteria)
    best = now.recommendation
    if best is None or now.brief is not None:
        return Unmet(None)
    view = _by_key(now, best.taken, str(best.placement))
    return Chosen(view, Way.INSTEAD if best.instead else Way.RECOMMENDED)


def key_among(now: Snapshot, placement: str) -> str | None:
    """The key of a candidate with exactly this notation or label; does not need the backbone."""
    words = notation(now, placement)
    return next((view.key for view in now.candidates if str(view.placement) == words), None)


def notation(now: Snapshot, text: str) -> str:
    """The notation of a candidate that goes by its label, as the answer calls it (`uniform se`);
    else the text itself.
    """
    words = " ".join(text.split())
    return next((str(view.placement) for view in now.candidates if view.label == words), words)


def _by_trial(now: Snapshot, number: int) -> CandidateView:
    view = next((view for view in now.candidates if view.trial == number), None)
    if view is None:
        trials = [view.trial for view in now.candidates]
        held = "none yet"
        if trials:
            held = f"{min(trials)} to {max(trials)}"
        raise StudyError(f"study '{now.study}' has no trial {number}: it has {held}")
    return view


def _by_key(now: Snapshot, key: str, placement: str) -> CandidateView:
    view = now.find(key)
    if view is None:
        raise StudyError(
            f"study '{now.study}' has not tried '{shorten(placement)}':"
            f" nas-attn resume {now.study} --try '{placement}' tries it"
        )
    return view


def _knee(now: Snapshot) -> CandidateView:
    """The front's member with the smallest sum of objectives, each scaled from 0 (best) to 1
    (worst); never an end of the front.
    """
    front = [view for view in now.front if None not in view.values]
    if len(front) < 3:
        raise StudyError(
            f"the front of study '{now.study}' has no knee, as it has"
            f" {several(len(front), 'member')}: give a latency or a trial"
        )
    costs = np.array([minimised(now.objectives, view.values) for view in front])
    span = np.ptp(costs, axis=0)
    sums = ((costs - costs.min(axis=0)) / np.where(span > 0, span, 1.0)).sum(axis=1)
    best = min(range(len(front)), key=lambda index: (sums[index], front[index].trial))
    if sums[best] >= len(span) - 1 - 1e-9:
        raise StudyError(
            f"the front of study '{now.study}' has no knee: no member lies below the line between"
            " its ends; give a latency or a trial"
        )
    return front[best]


def _within(now: Snapshot, criteria: Criteria) -> Chosen | Unmet:
    """The best within a latency limit; without one, the cheapest that reaches the accuracy."""
    metric = now.metric
    pool = finished(now)
    if not pool:
        raise StudyError(
            f"study '{now.study}' has scored no candidate at the last rung yet: continue the search"
        )
    limit = _latency_limit(now, criteria)
    if limit is not None:
        fast = [view for view in pool if latency_ratio(view) <= limit.ratio]
        if not fast:
            return Unmet(min(pool, key=latency_ratio), limit)
        pool = fast
    least = criteria.min_accuracy
    if least is not None:
        accuracy = share_of_images()
        scored = [view for view in pool if accuracy in view.estimates]
        if not scored:
            raise StudyError(
                f"study '{now.study}' has no accuracy; its metric is {metric}: do not use"
                " min_accuracy"
            )
        pool = [view for view in scored if view.estimates[accuracy].mean >= least]
        if not pool:
            nearest = max(scored, key=lambda view: view.estimates[accuracy].mean)
            return Unmet(nearest, limit, least)
        if limit is None:
            return _cheapest(now, pool, least)
    sign = sign_of(now.recipe, metric)
    best = min(pool, key=lambda view: (-sign * view.estimates[metric].mean, view.trial))
    return Chosen(best, Way.BEST_WITHIN, limit, least)


def _latency_limit(now: Snapshot, criteria: Criteria) -> LatencyLimit | None:
    """The stricter limit."""
    ratio = criteria.max_latency_ratio
    ms = criteria.max_latency_ms
    if now.latency is None and (ratio is not None or ms is not None):
        raise StudyError(
            f"study '{now.study}' has measured no latency: choose by min_accuracy, trial or"
            " placement"
        )
    limits = [] if ratio is None else [LatencyLimit(ratio)]
    if ms is not None and now.latency is not None:
        limits.append(LatencyLimit(ms / now.latency.reference_ms, ms))
    return min(limits, key=lambda limit: limit.ratio, default=None)


def _cheapest(now: Snapshot, pool: Sequence[CandidateView], least: float) -> Chosen:
    """The one with the least latency, else with the least of the first cost among the objectives,
    else of the parameters.
    """
    if now.latency is not None and any(view.latency is not None for view in pool):
        view = min(pool, key=lambda view: (latency_ratio(view), view.trial))
        return Chosen(view, Way.CHEAPEST, None, least, "latency")
    cost = next((objective for objective in now.objectives if is_cost(objective)), None)
    counted = cost or "params"

    def price(view: CandidateView) -> tuple[float, int]:
        return (math.inf if view.cost is None else view.cost[counted]), view.trial

    return Chosen(min(pool, key=price), Way.CHEAPEST, None, least, cost or "parameters")

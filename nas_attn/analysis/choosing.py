"""The words by which a person chooses a candidate, the same in every command and in `study.best`.

Nothing said means the recommended one. Limits look at all candidates that were scored to the end, by today's estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nas_attn.analysis import units
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.recommendation import REQUIRED
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.errors import StudyError, shorten
from nas_attn.recipe import lower_is_better
from nas_attn.tables import is_cost

FEWEST_FOR_A_KNEE = 3


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that criteria mean."""

    view: CandidateView
    rule: str
    """Why this one, as a clause."""
    alike: tuple[CandidateView, ...]
    """Members of the front that it cannot be told apart from in any objective."""
    sentences: tuple[str, ...]
    """The same in plain words."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "key": self.view.key,
            "trial": self.view.trial,
            "placement": self.view.placement,
            "snippet": self.view.snippet,
            "rule": self.rule,
            "alike": [view.key for view in self.alike],
            "sentences": list(self.sentences),
        }


def choose(now: Snapshot, criteria: Criteria, key_of: Callable[[str], str]) -> Chosen:
    """The candidate that is meant.

    Args:
        key_of: the key of a placement in notation; called for `placement` only.

    Raises:
        StudyError: no candidate meets it; the message names the nearest.
    """
    if criteria.trial is not None:
        found, rule = _by_trial(now, criteria.trial), f"trial {criteria.trial}, as given"
    elif criteria.placement is not None:
        found, rule = _by_key(now, key_of(criteria.placement), criteria.placement), "the given placement"
    elif criteria.knee:
        found, rule = _knee(now)
    elif criteria.limited:
        found, rule = _within(now, criteria)
    else:
        if now.recommendation is None:
            raise StudyError(
                f"study '{now.study}': {nothing_recommended(now).rstrip('.')}; choose a trial or a placement ('none' is the bare backbone)"
            )
        found, rule = _by_key(now, now.recommendation.key, now.recommendation.placement), now.recommendation.rule
    alike = tuple(view for view in now.front if view.key in found.tied_with)
    return Chosen(found, rule, alike, tuple(_sentences(now, criteria, found, rule, alike)))


def nothing_recommended(now: Snapshot) -> str:
    """Why there is no recommendation, one sentence."""
    if any(constant.metric == now.primary for constant in now.constants):
        return f"Nothing is recommended: {now.primary} is the same for all candidates."
    if any(view.baseline == "none" and view.state == "running" for view in now.candidates):
        return "No recommendation yet: the bare backbone, with which all others are compared, has not been scored."
    limit, last = now.recipe.limits.max_latency_ratio, now.recipe.training.rungs[-1]
    if limit is not None and (now.counts["scored"] or now.counts["infeasible"]):
        return f"Nothing is recommended: no scored candidate is within limits.max_latency_ratio = {limit:g}."
    return f"No recommendation yet: nothing has been scored at {last} epochs."


def key_among(now: Snapshot, placement: str) -> str | None:
    """The key of a candidate written just so, which needs no look at the backbone."""
    words = " ".join(placement.split())
    return next((view.key for view in now.candidates if view.placement == words), None)


def _by_trial(now: Snapshot, number: int) -> CandidateView:
    found = next((view for view in now.candidates if view.trial == number), None)
    if found is None:
        trials = [view.trial for view in now.candidates]
        held = f"{min(trials)} to {max(trials)}" if trials else "none yet"
        raise StudyError(f"study '{now.study}' has no trial {number}: it has {held}")
    return found


def _by_key(now: Snapshot, key: str, placement: str) -> CandidateView:
    found = now.find(key)
    if found is None:
        raise StudyError(f"study '{now.study}' has not tried '{shorten(placement)}': resume the study and try it")
    return found


# ------------------------------------------------------------------------------------------- the knee


def _knee(now: Snapshot) -> tuple[CandidateView, str]:
    """The member of the front with the smallest sum of objectives, each from 0 (the front's best) to 1 (its worst).

    With two objectives it lies farthest below the line between the front's ends. One end is never it.
    """
    front = [view for view in now.front if None not in view.values]
    if len(front) < FEWEST_FOR_A_KNEE:
        raise StudyError(
            f"the front of study '{now.study}' has no knee, as it has {len(front)} member{'s' if len(front) != 1 else ''}: "
            "give a latency or a trial"
        )
    columns = [_scaled([view.values[i] or 0.0 for view in front], o) for i, o in enumerate(now.objectives)]
    sums = [sum(row) for row in zip(*columns, strict=True)]
    best = min(range(len(front)), key=lambda index: (sums[index], front[index].trial))
    if sums[best] >= len(columns) - 1 - 1e-9:
        raise StudyError(
            f"the front of study '{now.study}' has no knee: none of it lies below the line between its ends; "
            "give a latency or a trial"
        )
    return front[best], "the knee of the front, where more of one objective begins to cost most of the others"


def _scaled(values: Sequence[float], objective: str) -> list[float]:
    sign = 1.0 if lower_is_better(objective) else -1.0
    costs = [sign * value for value in values]
    low, span = min(costs), max(costs) - min(costs)
    return [(cost - low) / span if span else 0.0 for cost in costs]


# ------------------------------------------------------------------------------------------- limits


def _within(now: Snapshot, criteria: Criteria) -> tuple[CandidateView, str]:
    """The best within a latency; of those that reach an accuracy, where no latency is given, the cheapest."""
    metric, last = now.primary or "accuracy", len(now.recipe.training.rungs) - 1
    pool = [view for view in now.candidates if view.state == "scored" and view.rung == last and not view.control]
    pool = [view for view in pool if now.primary is None or now.primary in view.estimates]
    if not pool:
        raise StudyError(f"study '{now.study}' has no candidate scored to the end yet")
    limit, within = _latency_limit(now, criteria)
    if limit is not None:
        fast = [view for view in pool if _ratio(view) <= limit]
        if not fast:
            raise _nothing(now, f"is {within}", min(pool, key=_ratio))
        pool = fast
    if criteria.min_accuracy is not None:
        known = [view for view in pool if "accuracy" in view.estimates]
        if not known:
            raise StudyError(f"study '{now.study}' has no accuracy; its metric is {metric}: do not use min_accuracy")
        pool = [view for view in known if view.estimates["accuracy"].mean >= criteria.min_accuracy]
        reach = f"reaches an accuracy of {units.value('accuracy', criteria.min_accuracy)}"
        if not pool:
            nearest = max(known, key=lambda view: view.estimates["accuracy"].mean)
            raise _nothing(now, f"{reach} {within}".rstrip(), nearest)
        if limit is None:
            what, cost = _cost(now, pool)
            return min(pool, key=lambda view: (cost(view), view.trial)), f"the {what} that {reach}"
    sign = 1.0 if metric == "loss" or f"-{metric}" in now.objectives else -1.0
    best = min(pool, key=lambda view: (sign * view.estimates[metric].mean, view.trial))
    return best, f"the best estimated {metric} {within}"


def _latency_limit(now: Snapshot, criteria: Criteria) -> tuple[float | None, str]:
    """The stricter of the limits as a ratio, and it in words."""
    ratio, ms, limits = criteria.max_latency_ratio, criteria.max_latency_ms, []
    if now.latency is None and (ratio is not None or ms is not None):
        raise StudyError(f"study '{now.study}' has measured no latency: choose by min_accuracy, trial or placement")
    if ratio is not None:
        limits.append((ratio, f"within {ratio:g} times the backbone's latency"))
    if ms is not None and now.latency is not None:
        limits.append((ms / now.latency.reference_ms, f"within {ms:g} ms on {now.latency.machine}"))
    return min(limits, default=(None, ""))


def _cost(now: Snapshot, pool: Sequence[CandidateView]) -> tuple[str, Callable[[CandidateView], float]]:
    """What the cheapest is cheapest in: the latency, else the first cost among the objectives, else parameters."""
    if now.latency is not None and any(view.latency is not None for view in pool):
        return "fastest", _ratio
    cost = next((objective for objective in now.objectives if is_cost(objective)), "params")
    what = "parameters" if cost == "params" and cost not in now.objectives else cost
    return f"one of fewest {what}", lambda view: math.inf if view.cost is None else view.cost[cost]


def _ratio(view: CandidateView) -> float:
    return math.inf if view.latency is None else view.latency.ratio


def _nothing(now: Snapshot, words: str, nearest: CandidateView) -> StudyError:
    text = f"no scored candidate of study '{now.study}' {words}"
    return StudyError(f"{text}: nearest is {nearest.label} with {figures(now, nearest)}")


# ------------------------------------------------------------------------------------------- in plain words


def figures(now: Snapshot, view: CandidateView) -> str:
    """`72.41 %, 1.132 times the latency (4.3 ms)`: what a choice is about."""
    parts = []
    for metric in dict.fromkeys([now.primary or "accuracy", "accuracy"]):
        if metric in view.estimates:
            value = units.value(metric, view.estimates[metric].mean)
            parts.append(value if metric == "accuracy" else f"{metric} {value}")
    if view.latency is not None:
        parts.append(f"{view.latency.ratio:.3f} times the backbone's latency ({view.latency.ms:.3g} ms)")
    return ", ".join(parts) or "no score"


def _sentences(
    now: Snapshot, criteria: Criteria, found: CandidateView, rule: str, alike: Sequence[CandidateView]
) -> list[str]:
    said = [f"{found.label}: {rule}.", f"{figures(now, found)}."]
    if alike:
        said.append(f"Cannot be told apart from it in any objective: {', '.join(view.label for view in alike)}.")
    if found.beats_none is not None and found.beats_none < REQUIRED:
        said.append(
            f"It is better than the bare backbone with a probability of only {units.probability(found.beats_none)}."
        )
    limit = _latency_limit(now, criteria)[0] if criteria.limited else None
    if limit is not None and found.latency is not None and found.latency.high > limit:
        high = f"{found.latency.high:.3f} times ({found.latency.high * found.latency.reference_ms:.3g} ms)"
        said.append(f"The interval of its latency exceeds the limit: it reaches {high}.")
    return said

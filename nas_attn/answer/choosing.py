"""The candidate that a user's criteria choose, and why; or that none does, and which is nearest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas_attn.answer.answer import Answer, required_from
from nas_attn.answer.criteria import Criteria
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.headline import nothing_recommended
from nas_attn.answer.reasons import rule_text
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.errors import StudyError, shorten
from nas_attn.recipe import units
from nas_attn.recipe.tables import is_cost, share_of_images
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement, ResolvedPlacement
from nas_attn.storage.opening import OpenStudy

WHY_TAKEN = {
    Means.LARGER: "it is likely to help, and nothing gains more for its latency",
    Means.SMALLER: "it is faster, and loses nothing that counts",
    Means.LONGER: "a longer training of it gains more than another network",
}
"""Why the answer takes a network that is no placement of attention, as a clause."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate that criteria choose."""

    view: CandidateView
    rule: str
    """Why this one, as a clause."""
    limit: float | None = None
    """Of its latency, in times of the bare backbone's."""


def chosen(opened: OpenStudy, answer: Answer, criteria: Criteria) -> Chosen:
    """The candidate that the criteria choose. Raises StudyError: none does. Raises PlacementError:
    a placement does not fit.
    """

    def key_of(text: str) -> str:
        return key_among(answer.now, text) or _resolved(opened, text).key

    return choose(answer, criteria, key_of)


def named(opened: OpenStudy, answer: Answer, criteria: Criteria) -> tuple[str, Placement]:
    """(key, placement) of a network: as `chosen`, but its placement need not have been tried."""
    if criteria.placement is not None:
        resolved = _resolved(opened, notation(answer.now, criteria.placement))
        return resolved.key, resolved.placement
    view = chosen(opened, answer, criteria).view
    return view.key, view.placement


def _resolved(opened: OpenStudy, text: str) -> ResolvedPlacement:
    # a plan needs torch, which a command that only reads a study does not
    from nas_attn.training.plan import study_plan

    return study_plan(opened.store).resolved(parse(text))


def choose(answer: Answer, criteria: Criteria, key_of: Callable[[str], str]) -> Chosen:
    """The candidate that the criteria choose; without criteria, the one that the answer takes.

    Args:
        answer: of the study.
        criteria: of the user.
        key_of: the key of a placement in notation; called for `criteria.placement` only.

    Raises:
        StudyError: none meets the criteria, or they do not fit the study.
    """
    now = answer.now
    if criteria.trial is not None:
        return Chosen(_by_trial(now, criteria.trial), f"the given trial {criteria.trial}")
    if criteria.placement is not None:
        view = _by_key(now, key_of(criteria.placement), criteria.placement)
        return Chosen(view, "the given placement")
    if criteria.limited:
        return _within(now, criteria)
    if criteria.attention:
        return _with_attention(answer)
    if answer.taken_key is None:
        raise StudyError(
            f"study '{now.study}': {nothing_recommended(answer).rstrip('.')}; choose a trial or a"
            " placement ('none' is the bare backbone)"
        )
    view = _by_key(now, answer.taken_key, "none")
    return Chosen(view, WHY_TAKEN.get(answer.means) or rule_text(answer))


def choice_sentences(now: Snapshot, choice: Chosen) -> list[str]:
    """Why this candidate, its figures, and doubts, in plain words."""
    view = choice.view
    sentences = [f"{view.label}: {choice.rule}.", f"{_main_figures(now, view)}."]
    required = required_from(now.recipe.training.start)
    if view.beats_none is not None and view.beats_none < required:
        sentences.append(
            "It is better than the bare backbone with a probability of only"
            f" {units.probability(view.beats_none)}."
        )
    latency = view.latency
    if choice.limit is not None and latency is not None and latency.high > choice.limit:
        ms = latency.high * latency.reference_ms
        sentences.append(
            "The 95 % interval of its latency exceeds the limit: it reaches"
            f" {latency.high:.3f} times ({ms:.3g} ms)."
        )
    return sentences


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
            f" nas-attn resume {now.study} --placement '{placement}' tries it"
        )
    return view


def _within(now: Snapshot, criteria: Criteria) -> Chosen:
    """The best within the latency limits; without one, the cheapest that reaches the accuracy."""
    metric = now.metric
    pool = [view for view in now.finished if view.attends or not criteria.attention]
    if not pool:
        raise StudyError(
            f"study '{now.study}' has scored no candidate at the last rung yet: continue the search"
        )
    limit, within = _latency_limit(now, criteria)
    if within:
        pool = _able(now, pool, lambda view: limit - view.latency_ratio, f"is {within}")
    least = criteria.min_accuracy
    if least is not None:
        accuracy = share_of_images()
        scored = [view for view in pool if accuracy in view.estimates]
        if not scored:
            raise StudyError(
                f"study '{now.study}' has no accuracy; its metric is {metric}: do not use"
                " min_accuracy"
            )
        reaches = f"reaches an accuracy of {units.value(accuracy, least)}"
        lacks = f"{reaches} {within}".rstrip()
        pool = _able(now, scored, lambda view: view.estimates[accuracy].mean - least, lacks)
        if not within:
            return _cheapest(now, pool, reaches)
    if not any(metric in view.estimates for view in pool):
        raise StudyError(
            f"the candidates of study '{now.study}' have no {metric}, by which the best within a"
            " limit is chosen: choose a trial or a placement"
        )
    sign = sign_of(now.recipe, metric)
    best = min(pool, key=lambda view: (-sign * view.estimates[metric].mean, view.trial))
    return Chosen(best, f"the best estimated {metric} {within}", limit)


def _with_attention(answer: Answer) -> Chosen:
    """The placement that the rule chooses of attention alone; else the most promising one."""
    found = answer.attention
    if found is None:
        raise StudyError(f"study '{answer.now.study}' has scored no attention yet: continue it")
    why = "the best attention" if answer.chosen else "the most promising attention"
    return Chosen(found.view, why)


def _able(
    now: Snapshot,
    pool: Sequence[CandidateView],
    room: Callable[[CandidateView], float],
    lacks: str,
) -> list[CandidateView]:
    """Those with `room` to a limit, 0 or more. Raises StudyError: none has; it names the nearest,
    and what none does, `lacks`.
    """
    able = [view for view in pool if room(view) >= 0]
    if able:
        return able
    nearest = max(pool, key=room)
    label = "the bare backbone" if nearest.is_bare else nearest.label
    raise StudyError(
        f"no scored candidate of study '{now.study}' {lacks}: the nearest is {label} with"
        f" {_main_figures(now, nearest)}"
    )


def _latency_limit(now: Snapshot, criteria: Criteria) -> tuple[float, str]:
    """The stricter limit, in times of the bare backbone's latency, and as it was given; infinite
    and empty without one.
    """
    ratio = criteria.max_latency_ratio
    ms = criteria.max_latency_ms
    if ratio is None and ms is None:
        return math.inf, ""
    if now.latency is None:
        raise StudyError(
            f"study '{now.study}' has measured no latency: choose by min_accuracy, trial or"
            " placement"
        )
    limits = []
    if ratio is not None:
        limits.append((ratio, f"within {ratio:g} times the backbone's latency"))
    if ms is not None:
        text = f"within {ms:g} ms on {now.latency.machine}"
        limits.append((ms / now.latency.reference_ms, text))
    return min(limits)


def _cheapest(now: Snapshot, pool: Sequence[CandidateView], reaches: str) -> Chosen:
    """The one with the least latency, else with the least of the first cost among the objectives,
    else of the parameters.
    """
    if now.latency is not None and any(view.latency is not None for view in pool):
        view = min(pool, key=lambda view: (view.latency_ratio, view.trial))
        return Chosen(view, f"the fastest that {reaches}")
    cost = next((objective for objective in now.objectives if is_cost(objective)), None)
    counted = cost or "params"

    def price(view: CandidateView) -> tuple[float, int]:
        return (math.inf if view.cost is None else view.cost[counted]), view.trial

    fewest = f"the one of fewest {cost or 'parameters'}"
    return Chosen(min(pool, key=price), f"{fewest} that {reaches}")


def _main_figures(now: Snapshot, view: CandidateView) -> str:
    """`72.41 %, 1.132 times the backbone's latency (4.3 ms)`."""
    parts = []
    for metric in dict.fromkeys([now.metric, share_of_images()]):
        if metric in view.estimates:
            value = units.value(metric, view.estimates[metric].mean)
            parts.append(value if units.is_implied(metric) else f"{metric} {value}")
    if view.latency is not None:
        parts.append(
            f"{view.latency.ratio:.3f} times the backbone's latency ({view.latency.ms:.3g} ms)"
        )
    return ", ".join(parts) or "no score"

"""A candidate that criteria chose, and why; or that none meets them."""

from __future__ import annotations

from nas_attn.answer.choosing import Chosen, LatencyLimit, Unmet, Way
from nas_attn.answer.recommendation import REQUIRED
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe import units
from nas_attn.recipe.tables import share_of_images
from nas_attn.words.lacking import nothing_recommended
from nas_attn.words.recommendation import rule_text


def choice_rule(now: Snapshot, choice: Chosen) -> str:
    """Why this candidate, as a clause."""
    match choice.way:
        case Way.TRIAL:
            return f"the given trial {choice.view.trial}"
        case Way.PLACEMENT:
            return "the given placement"
        case Way.KNEE:
            return (
                "the knee of the front: the smallest sum of its objectives, each scaled from 0"
                " (best) to 1 (worst)"
            )
        case Way.BEST_WITHIN:
            metric = now.metric
            return f"the best estimated {metric} {_within(now, choice.limit)}"
        case Way.CHEAPEST:
            fewest = "fastest" if choice.cost == "latency" else f"one of fewest {choice.cost}"
            return f"the {fewest} that {_reaches(choice.min_accuracy)}"
        case Way.INSTEAD:
            return "it is likely to help more than attention (line Capacity)"
        case Way.RECOMMENDED:
            return "" if now.recommendation is None else rule_text(now.recommendation)


def choice_sentences(now: Snapshot, choice: Chosen) -> list[str]:
    """Why this candidate, its figures, and doubts, in plain words."""
    view = choice.view
    sentences = [f"{view.label}: {choice_rule(now, choice)}.", f"{main_figures(now, view)}."]
    if view.beats_none is not None and view.beats_none < REQUIRED:
        sentences.append(
            "It is better than the bare backbone with a probability of only"
            f" {units.probability(view.beats_none)}."
        )
    if choice.may_exceed and view.latency is not None:
        ms = view.latency.high * view.latency.reference_ms
        sentences.append(
            "The 95 % interval of its latency exceeds the limit: it reaches"
            f" {view.latency.high:.3f} times ({ms:.3g} ms)."
        )
    return sentences


def unmet_text(now: Snapshot, unmet: Unmet) -> str:
    """That no candidate meets the criteria, and which is nearest; without a full stop."""
    if unmet.nearest is None:
        return (
            f"study '{now.study}': {nothing_recommended(now).rstrip('.')}; choose a trial or a"
            " placement ('none' is the bare backbone)"
        )
    within = _within(now, unmet.limit)
    lacks = f"is {within}"
    if unmet.min_accuracy is not None:
        lacks = f"{_reaches(unmet.min_accuracy)} {within}".rstrip()
    nearest = unmet.nearest
    label = "the bare backbone" if nearest.is_bare else nearest.label
    return (
        f"no scored candidate of study '{now.study}' {lacks}: the nearest is {label} with"
        f" {main_figures(now, nearest)}"
    )


def main_figures(now: Snapshot, view: CandidateView) -> str:
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


def _within(now: Snapshot, limit: LatencyLimit | None) -> str:
    if limit is None:
        return ""
    if limit.ms is not None and now.latency is not None:
        return f"within {limit.ms:g} ms on {now.latency.machine}"
    return f"within {limit.ratio:g} times the backbone's latency"


def _reaches(accuracy: float | None) -> str:
    return f"reaches an accuracy of {units.value(share_of_images(), accuracy)}"

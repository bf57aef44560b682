"""What is said beside an answer: what separates no candidates, and what else is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean

from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import listed, several
from nas_attn.latency.estimates import Elsewhere
from nas_attn.model import Evidence
from nas_attn.recipe import units
from nas_attn.recipe.recipe import lower_is_better
from nas_attn.recipe.tables import IN_INT8

RECOMMENDED = "the recommended placement"
# seed -> metrics of a run at the last rung
Runs = Mapping[int, Mapping[str, float]]


def remarks(now: Snapshot) -> list[str]:
    """Sentences about what separates no candidates, and about what else is known of them."""
    model = now.evidence.get(now.primary or "")
    return [
        *(constant.sentence for constant in now.constants),
        *(weak.sentence for weak in now.weak_rungs),
        *(_two_values(model) if model else ()),
        *_beyond_front(now),
        *_by_prior(now),
        *_in_int8(now),
        *_on_other_devices(now),
    ]


def _two_values(model: Evidence) -> Iterator[str]:
    """A warning if runs end near one of two values."""
    if model.two_values is None:
        return
    worse, better = (units.value(model.metric, value) for value in model.two_values)
    yield (
        f"Runs end near one of two values, {model.metric} {worse} or {better}, and runs of the same"
        " placement end at both. What counts is how often a placement reaches the better value, and"
        " a few runs say little about that."
    )


def _beyond_front(now: Snapshot) -> Iterator[str]:
    """Why controls that are better than members of the front are no members."""
    beyond = beyond_front(now)
    if not beyond:
        return
    why = "The front compares placements of attention; a control is a larger network without it."
    if len(beyond) > 1:
        better = "Each is better in every objective than a member of it."
        yield f"{listed(list(beyond))} are not on the front. {better} {why}"
        return
    for control, members in beyond.items():
        better = f"{control} is not on the front, though better in every objective than"
        yield f"{better} {listed(members)}. {why}"


def beyond_front(now: Snapshot) -> dict[str, list[str]]:
    """Label of each control that is better in every objective than a member of the front -> the
    labels of these members: it would contradict the front if nobody explained it.
    """
    beyond = {}
    for control in now.controls:
        members = [view.label for view in now.front if _dominates(now, control, view)]
        if members:
            beyond[control.label] = members
    return beyond


def _dominates(now: Snapshot, one: CandidateView, other: CandidateView) -> bool:
    if one.state != "scored":
        return False
    better = False
    for objective, value, against in zip(now.objectives, one.values, other.values, strict=True):
        if value is None or against is None:
            return False
        sign = 1.0 if lower_is_better(objective) else -1.0
        if sign * value > sign * against:
            return False
        better = better or value != against
    return better


def _by_prior(now: Snapshot) -> Iterator[str]:
    """Whether the sampler's prior mattered, if it had one."""
    if now.recipe.search.prior == "none":
        return
    led = {view.key for view in now.candidates if view.by_prior}
    own = sum(view.baseline is None for view in now.candidates)
    best = now.recommendation.key if now.recommendation else None
    there = f"; {RECOMMENDED} is one of them" if best in led else ""
    yield f"The prior ({now.recipe.search.prior}) changed {len(led)} of {own} proposals{there}."


def _in_int8(now: Snapshot) -> Iterator[str]:
    """What a placement changes in int8 and in float32, against the bare backbone."""
    best = now.find(now.recommendation.key) if now.recommendation else None
    who = RECOMMENDED
    # then it is about the best alternative
    if best is now.bare:
        best = next((view for view in now.front if view.baseline is None), None)
        who = best.label if best else ""
    if best is None or now.bare is None or now.primary is None:
        return
    runs = _last_runs(now, best), _last_runs(now, now.bare)
    sentence = int8_sentence(now.primary, now.recipe.latency.mode, who, *runs)
    if sentence:
        yield sentence


def int8_sentence(metric: str, mode: str, who: str, placed: Runs, bare: Runs) -> str:
    """What a placement changes in int8 and in float32 against the bare backbone, paired by seed;
    empty without scores in int8.

    Args:
        metric: in float32 or in int8.
        mode: in which latency is measured.
        who: names the placement.
        placed: its runs.
        bare: those of the bare backbone.
    """
    plain = metric.removesuffix(IN_INT8)
    name = f"{plain}{IN_INT8}"
    seeds = [
        seed for seed in placed.keys() & bare.keys() if name in placed[seed] and name in bare[seed]
    ]
    if not seeds:
        return ""
    in_float = fmean(placed[seed][plain] - bare[seed][plain] for seed in seeds)
    in_int8 = fmean(placed[seed][name] - bare[seed][name] for seed in seeds)
    lost = ". The gain does not survive int8" if in_float > 0 >= in_int8 else ""
    return (
        f"In {mode}, {who} changes {plain} by {units.difference(plain, in_int8)}, in float32 by"
        f" {units.difference(plain, in_float)} (against the bare backbone,"
        f" {several(len(seeds), 'run')}){lost}."
    )


def _last_runs(now: Snapshot, view: CandidateView) -> dict[int, dict[str, float]]:
    """Seed -> metrics at the last rung."""
    last = len(now.recipe.training.rungs) - 1
    return {point.seed: dict(point.metrics) for point in view.scores if point.rung == last}


def _on_other_devices(now: Snapshot) -> Iterator[str]:
    best = now.recommendation.key if now.recommendation else None
    for device in now.elsewhere:
        timed = [view for view in now.ordered(now.candidates) if view.key in device.latencies]
        parts = []
        for view in timed:
            name = RECOMMENDED if view.key == best else view.label
            latency = device.latencies[view.key]
            parts.append(f"{name} {latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f})")
        if parts:
            conditions = ", ".join([device.mode, *_differing(now, device)])
            yield (
                f"On {device.machine} ({conditions}), relative to the bare backbone there:"
                f" {', '.join(parts)}."
            )


def _differing(now: Snapshot, device: Elsewhere) -> list[str]:
    """What tells another device of the same name from the one that measures now: `torch 2.14`."""
    if now.latency is None or now.latency.machine != device.machine:
        return []
    return [
        f"{name} {value}"
        for name, value in device.details.items()
        if now.latency.details.get(name) != value
    ]

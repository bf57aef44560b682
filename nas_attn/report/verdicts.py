"""A validation in words: the only place where "better" stands without "estimated"."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from nas_attn.analysis import units
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.analysis.validation import Family, ValidationResult
from nas_attn.analysis.verdict import Verdict
from nas_attn.records import Latency


def headline(result: ValidationResult) -> str:
    """What was done, in a line."""
    family = result.family
    fresh = "each on a new backbone and seed" if family.fresh_backbones else "each with a new seed"
    done = f"{result.blocks} of {family.blocks} blocks" if result.blocks < family.blocks else f"{family.blocks} blocks"
    by = "" if family.metric == "accuracy" else f"by {units.title(family.metric)} "
    return (
        f"Validation {family.number}: trained as the target says ({family.epochs} epochs), {done}, {fresh}; scored {by}on the "
        "test images"
    )


def sentences(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """One per comparison, then what else has to be said.

    Args:
        now: the study, for the latencies of the networks.
    """
    family = result.family
    if not result.verdicts:
        yield f"No result yet: it comes after {family.blocks} blocks. Run the same command again to continue."
        return
    for verdict in result.verdicts:
        yield _sentence(family, verdict, now)
    yield from _conclusion(result, now)
    for key, runs in result.diverged.items():
        counts = "chance" if family.chance is not None else "the worst value of the comparison"
        yield f"{name(family, key)}: {runs} of {result.blocks} runs diverged and count as {counts}."
    if now.recipe.target_training.start == "pretrained":
        yield "This holds for the given weights; with others it may differ."


def summary(result: ValidationResult) -> list[tuple[str, str, str]]:
    """(role, value with its spread over blocks, placement) of each network."""
    metric = result.family.metric
    rows = []
    for network in result.family.networks:
        values = result.values.get(network.key, ())
        shown = ""
        if values:
            spread = f" ± {units.size(metric, statistics.stdev(values))}" if len(values) > 1 else ""
            shown = f"{units.value(metric, statistics.fmean(values))}{spread}"
        rows.append((network.role, shown, network.placement))
    return rows


def _conclusion(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """What the test means for what the search recommended; nothing where that was not in the family."""
    family = result.family
    recommended = next((n for n in family.networks if n.role == "recommended"), None)
    bare = next((n for n in family.networks if n.placement == "none"), None)
    if recommended is None or bare is None:
        return
    against_none = [v for v in result.verdicts if v.control == bare.key]
    better = sorted((v for v in against_none if v.word == "better"), key=lambda v: -v.difference)
    others = [v for v in better if v.network != recommended.key][:1]
    instead = "".join(f"{name(family, v.network)} is{_at_latency(family, v.network, now)}" for v in others)
    if recommended.key == bare.key:
        if instead:
            yield f"So the test goes beyond the search, which recommended the bare backbone: {instead}, when trained as the target says."
        else:
            yield "So the test agrees with the search: nothing that was tested is shown to be better than the bare backbone."
        return
    word = next((v.word for v in against_none if v.network == recommended.key), "not shown")
    if word == "better":
        rival = next((v for v in result.verdicts if (v.network, v.word) == (recommended.key, "worse")), None)
        but = "" if rival is None else f", but {name(family, rival.control)} is better still"
        yield f"So the test confirms the recommendation: it is better than the bare backbone{but}."
    elif word == "worse":
        yield f"So the test contradicts the recommendation: the bare backbone is better{f', and {instead}' if instead else ''}."
    else:
        yield f"So the recommendation is not confirmed{f'; {instead}' if instead else ''}."


def _at_latency(family: Family, key: str, now: Snapshot) -> str:
    """` better, at 1.28 times the latency`."""
    found = _latency(family, key, now)
    return " better" if found is None else f" better, at {found[0]:.2f} times the latency"


def _sentence(family: Family, verdict: Verdict, now: Snapshot) -> str:
    metric = family.metric
    a, b = name(family, verdict.network), name(family, verdict.control)
    between = f"{units.difference(metric, verdict.low)} to {units.difference(metric, verdict.high)}"
    new = ""
    if verdict.new_low is not None and verdict.new_high is not None:
        new = f"; for new images {units.difference(metric, verdict.new_low)} to {units.difference(metric, verdict.new_high)}"
    word = {"better": "better", "worse": "worse", "not shown": "no difference shown"}[verdict.word]
    text = f"{a} against {b}: {word}, {units.difference(metric, verdict.difference)} ({between}{new})"
    if verdict.not_worse is not None and family.margin is not None:
        text += f"; {'not worse' if verdict.not_worse else 'not shown to be no worse'} by more than {units.size(metric, family.margin)}"
        text += _faster(family, verdict, now) if verdict.not_worse else ""
    return f"{text}."


def _faster(family: Family, verdict: Verdict, now: Snapshot) -> str:
    """`, and faster by 4.1 % (3.2 to 5.0 %)`; empty where the two latencies cannot be told apart, or are not known."""
    mine, other = _latency(family, verdict.network, now), _latency(family, verdict.control, now)
    if mine is None or other is None:
        return ""
    change = math.log(mine[0] / other[0])
    half = math.hypot(mine[1], other[1])
    if abs(change) <= half:
        return ", and about as fast"
    word = "faster" if change < 0 else "slower"
    at, ends = abs(math.expm1(change)), sorted(abs(math.expm1(change + sign * half)) for sign in (-1, 1))
    return f", and {word} by {100 * at:.1f} % ({100 * ends[0]:.1f} to {100 * ends[1]:.1f} %)"


def _latency(family: Family, key: str, now: Snapshot) -> tuple[float, float] | None:
    """(ratio to the bare backbone, half of the 95 % interval of its logarithm); None where it was not measured."""
    if _placement(family, key) == "none":
        return 1.0, 0.0
    view = now.find(key)
    found: Latency | None = None if view is None else view.latency
    if found is None or not found.measured:
        return None
    return found.ratio, math.log(found.high / found.low) / 2


def name(family: Family, key: str) -> str:
    """A network of a family for people."""
    network = next(n for n in family.networks if n.key == key)
    return "the bare backbone" if network.placement == "none" else f"`{network.placement}` ({network.role})"


def _placement(family: Family, key: str) -> str:
    return next(n.placement for n in family.networks if n.key == key)

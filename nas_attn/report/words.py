"""Texts about a study: objective values, counts, and validations in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from nas_attn.analysis import units
from nas_attn.analysis.arithmetic import ArithmeticUse
from nas_attn.analysis.effects import Part
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.units import bare_plus_minus, duration, signed, title, unit, value
from nas_attn.analysis.validation import Family, Network, ValidationResult, Verdict
from nas_attn.errors import several
from nas_attn.model import Estimate
from nas_attn.recipe import objective_name
from nas_attn.records import ASIDE, BARE, Arithmetic


def spread(metric: str, estimate: Estimate) -> str:
    """`± 0.80`: half of the 95 % interval, without its unit; empty where all runs agree."""
    return "" if estimate.sd == 0 else f"± {unit(metric).size((estimate.high - estimate.low) / 2)}"


def heading(snapshot: Snapshot, index: int, *, absolute: bool = False) -> str:
    """The head of an objective's column: `gain in accuracy, points`."""
    objective = snapshot.objectives[index]
    if absolute or not snapshot.compared(objective):
        return objective_name(objective)
    return ", ".join(filter(None, (f"gain in {title(objective)}", unit(objective).of_differences)))


def shown(snapshot: Snapshot, view: CandidateView, index: int, *, absolute: bool = False) -> str:
    """An objective in a table: the gain over the bare backbone with its paired interval, if known;
    for the bare backbone its value.
    """
    objective = snapshot.objectives[index]
    gain = view.gains.get(objective_name(objective))
    if absolute or not snapshot.compared(objective) or (gain is None and _budget(snapshot, view)):
        return with_spread(snapshot, view, index)
    if gain is None:
        return value(objective, view.values[index] if view.baseline == "none" else None)
    return bare_plus_minus(objective, gain.mean, (gain.high - gain.low) / 2)


def with_spread(snapshot: Snapshot, view: CandidateView, index: int) -> str:
    """A candidate's objective as estimated now, with its uncertainty, if any, and the epochs if it
    was not trained to the end.
    """
    objective = snapshot.objectives[index]
    text = value(objective, view.values[index])
    estimate = view.estimates.get(objective_name(objective))
    if estimate is not None and view.values[index] is not None:
        return f"{text} {spread(objective_name(objective), estimate)}".rstrip() + _budget(
            snapshot, view
        )
    if (
        objective == "latency"
        and view.latency is not None
        and view.latency.sessions
        and view.baseline != "none"
    ):
        return f"{text} ± {(view.latency.high - view.latency.low) / 2:.3f}"
    return text


def _budget(snapshot: Snapshot, view: CandidateView) -> str:
    rungs = snapshot.recipe.training.rungs
    if view.rung is None or view.rung >= len(rungs) - 1:
        return ""
    return f" after {rungs[view.rung]} of {rungs[-1]} epochs"


def measured(metric: str, part: Part) -> str:
    """`measured +1.10 in 3 runs`; empty without measurements."""
    if part.measured is None:
        return ""
    return f"measured {signed(metric, part.measured)} in {several(part.runs, 'run')}"


def metrics(found: Mapping[str, float]) -> str:
    """`accuracy 72.41 %, loss 0.61`, without sums that are kept for other purposes."""
    return ", ".join(
        f"{title(name)} {value(name, v)}" for name, v in found.items() if name not in ASIDE
    )


def beside(notes: Sequence[str]) -> str:
    """A sentence about latency sessions that did not have the device alone, from a note of each;
    empty without any.
    """
    if not notes:
        return ""
    others = "; ".join(dict.fromkeys(notes))
    return (
        f"{several(len(notes), 'latency session')} did not have the device alone: next to {others}."
    )


def machine(snapshot: Snapshot) -> str:
    """Where and how latency was measured."""
    record = snapshot.latency
    if record is None:
        return "No latency has been measured."
    text = (
        f"Latency was measured on {record.machine} in {several(record.sessions, 'session')}"
        f" ({duration(record.duration_s)}): {record.reference_ms:.3g} ms for the bare backbone."
        f" {record.dropped} sessions were dropped because two copies of the same network differed"
        f" too much; typically the copies differ by {100 * record.control_spread:.2f} %."
    )
    if "nms" in record.conditions:
        text += (
            " A detector is timed without the selection of boxes (NMS), unless it is part of the"
            " network."
        )
    return f"{text} {beside(record.beside)}".rstrip()


def arithmetic(one: Arithmetic | None) -> str:
    """`bfloat16, channels last, eager steps, fused optimizer, filled batches`."""
    if one is None:
        return "not recorded"
    steps = {"eager": "eager", "compile": "compiled", "cuda-graph": "recorded"}[one.execution]
    batches = {
        "filled": "filled batches",
        "uneven": "batches of uneven sizes",
        "own": "the DataLoader's batches",
    }[one.batches]
    rounded = {"none": "", "convolutions": "TF32 in convolutions", "matmul": "TF32 in products"}
    parts = [
        one.precision,
        one.memory_format.replace("_", " "),
        f"{steps} steps",
        f"{'fused' if one.fused else 'ordinary'} optimizer",
        rounded.get(one.tf32, "TF32"),
        batches,
    ]
    return ", ".join(filter(None, parts))


def arithmetic_lines(uses: Sequence[ArithmeticUse]) -> list[str]:
    """What the runs of a study were computed in, a line for each arithmetic."""
    found = []
    for use in uses:
        runs = several(use.runs, "run")
        said = arithmetic(use.arithmetic)
        if use.arithmetic is None:
            found.append(f"Arithmetic not recorded ({runs}): the study began before it was")
        elif use.devices:
            found.append(f"Arithmetic on {' and '.join(use.devices)}: {said} ({runs})")
        else:
            found.append(f"Another arithmetic: {said} ({runs}, compared only with each other)")
    return found


def label(view: CandidateView) -> str:
    """A candidate's short name."""
    return "bare backbone" if view.baseline == "none" else view.label


def called(view: CandidateView, snapshot: Snapshot) -> str:
    """A candidate by its role in the answer, else by its own name."""
    return "recommended" if view.key == snapshot.taken else label(view)


def validation_headline(result: ValidationResult) -> str:
    """The validation in one line."""
    family = result.family
    planned = max(family.blocks, family.planned or 0)
    over = " (then the search's time was over)" if result.complete else ""
    done = (
        f"{result.blocks} of {planned} blocks{over}"
        if result.blocks < planned
        else several(planned, "block")
    )
    by = "" if family.metric == "accuracy" else f"by {units.title(family.metric)} "
    return (
        f"Validation {family.number}: trained as the target says"
        f" ({several(family.epochs, 'epoch')}), {done}, each with a new seed; scored {by}on the"
        " test images"
    )


def validation_sentences(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """One sentence per comparison, then conclusions and remarks; latencies are the study's."""
    family = result.family
    if result.mixed and not result.verdicts:
        yield (
            f"No result: in {result.mixed} of {several(family.blocks, 'block')}, networks were"
            " computed in different arithmetic, by different machines. Validate again on machines"
            " that compute alike."
        )
        return
    if not result.verdicts:
        yield (
            f"No result yet: it comes after {family.blocks} blocks. Run the same command again to"
            " continue."
        )
        return
    for verdict in result.verdicts:
        yield _sentence(family, verdict, now)
    yield from _conclusion(result, now)
    if result.mixed:
        yield (
            f"{several(result.mixed, 'block')} of {result.blocks} count for nothing: their networks"
            " were computed in different arithmetic, by different machines."
        )
    for key, runs in result.diverged.items():
        counts = (
            "the score of guessing"
            if family.chance is not None
            else "the worst score of the comparison"
        )
        of = result.blocks - result.mixed
        yield f"{network_name(family, key)}: {runs} of {of} runs diverged and get {counts}."
    if now.recipe.target_training.start == "pretrained":
        yield "This holds for the given weights; with others it may differ."


def validation_rows(result: ValidationResult) -> list[tuple[str, str, str]]:
    """(role, value with its spread over blocks, placement) of each network."""
    metric = result.family.metric
    rows = []
    for network in result.family.networks:
        values = result.values.get(network.key, ())
        shown = ""
        if values:
            spread = f" ± {units.size(metric, statistics.stdev(values))}" if len(values) > 1 else ""
            shown = f"{units.value(metric, statistics.fmean(values))}{spread}"
        rows.append((network.role, shown, str(network.placement)))
    return rows


def _conclusion(result: ValidationResult, now: Snapshot) -> Iterator[str]:
    """Relates the test to the search's recommendation; nothing if that was not in the family."""
    family = result.family
    recommended = next((n for n in family.networks if n.role == "recommended"), None)
    bare = next((n for n in family.networks if n.placement == BARE), None)
    if recommended is None or bare is None:
        return
    against_none = [v for v in result.verdicts if v.control == bare.key]
    better = sorted((v for v in against_none if v.word == "better"), key=lambda v: -v.difference)
    other = next((v.network for v in better if v.network != recommended.key), None)
    instead = ""
    if other is not None:
        latency = _latency(family, other, now)
        at = "" if latency is None else f", at {latency[0]:.2f} times the latency"
        instead = f"{network_name(family, other)} is better{at}"
    word = next((v.word for v in against_none if v.network == recommended.key), "not shown")
    if recommended.key == bare.key and instead:
        before = (
            "So the test goes beyond the search, which recommended the bare backbone when the test"
            " began"
        )
        yield f"{before}: {instead}, when trained as the target says."
    elif recommended.key == bare.key:
        yield (
            "So the test agrees with the search: nothing that was tested is shown to be better than"
            " the bare backbone."
        )
    elif word == "better":
        rival = next(
            (v for v in result.verdicts if (v.network, v.word) == (recommended.key, "worse")), None
        )
        but = (
            "" if rival is None else f", but {network_name(family, rival.control)} is better still"
        )
        yield f"So the test confirms the recommendation: it is better than the bare backbone{but}."
    elif word == "worse":
        yield (
            "So the test contradicts the recommendation: the bare backbone is"
            f" better{f', and {instead}' if instead else ''}."
        )
    else:
        yield f"So the recommendation is not confirmed{f'; {instead}' if instead else ''}."


def _sentence(family: Family, verdict: Verdict, now: Snapshot) -> str:
    metric = family.metric
    new = ""
    if verdict.new_low is not None and verdict.new_high is not None:
        new = (
            f"; for new images {units.difference_range(metric, verdict.new_low, verdict.new_high)}"
        )
    between = f"{units.difference_range(metric, verdict.low, verdict.high)}{new}"
    word = "no difference shown" if verdict.word == "not shown" else verdict.word
    names = (
        f"{network_name(family, verdict.network)} against {network_name(family, verdict.control)}"
    )
    text = f"{names}: {word}, {units.difference(metric, verdict.difference)} ({between})"
    if verdict.not_worse is not None and family.margin is not None:
        text += (
            f"; {'not worse' if verdict.not_worse else 'may be worse'} by more than"
            f" {units.size(metric, family.margin)}"
        )
        text += _faster(family, verdict, now) if verdict.not_worse else ""
    return f"{text}."


def _faster(family: Family, verdict: Verdict, now: Snapshot) -> str:
    """`, and faster by 4.1 %`; empty if a latency is unknown."""
    mine, other = _latency(family, verdict.network, now), _latency(family, verdict.control, now)
    if mine is None or other is None:
        return ""
    change = math.log(mine[0] / other[0])
    if abs(change) <= math.hypot(mine[1], other[1]):
        return ", and about as fast"
    return f", and {'faster' if change < 0 else 'slower'} by {100 * abs(math.expm1(change)):.1f} %"


def _latency(family: Family, key: str, now: Snapshot) -> tuple[float, float] | None:
    """(ratio to the bare backbone, half of the 95 % interval of its logarithm); None if it was not
    measured.
    """
    if _network_of(family, key).placement == BARE:
        return 1.0, 0.0
    view = now.find(key)
    if view is None or view.latency is None or not view.latency.measured:
        return None
    return view.latency.ratio, math.log(view.latency.high / view.latency.low) / 2


def network_name(family: Family, key: str) -> str:
    """The name of a family's network for people."""
    network = _network_of(family, key)
    return (
        "the bare backbone"
        if network.placement == BARE
        else f"`{network.placement}` ({network.role})"
    )


def _network_of(family: Family, key: str) -> Network:
    return next(network for network in family.networks if network.key == key)

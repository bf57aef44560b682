"""Objective values and counts as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_attn.analysis.effects import Part, Suggestion
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.units import bare_plus_minus, duration, probability, signed, title, unit, value
from nas_attn.model import Estimate
from nas_attn.recipe import objective_name


def spread(metric: str, estimate: Estimate) -> str:
    """`± 0.80`: half of the 95 % interval, without its unit; empty where all runs agree."""
    return "" if estimate.sd == 0 else f"± {unit(metric).size((estimate.high - estimate.low) / 2)}"


def heading(snapshot: Snapshot, index: int, *, absolute: bool = False) -> str:
    """The head of an objective's column: `gain in accuracy, points`."""
    objective = snapshot.objectives[index]
    if absolute or not snapshot.compared(objective):
        return objective_name(objective)
    return ", ".join(filter(None, (f"gain in {objective_name(objective)}", unit(objective).of_differences)))


def shown(snapshot: Snapshot, view: CandidateView, index: int, *, absolute: bool = False) -> str:
    """An objective in a table: the gain over the bare backbone with its paired interval, where that is known.

    The bare backbone itself is shown by its value.
    """
    objective = snapshot.objectives[index]
    gain = view.gains.get(objective_name(objective))
    if absolute or not snapshot.compared(objective) or (gain is None and view.baseline != "none"):
        return with_spread(snapshot, view, index)
    if gain is None:
        return value(objective, view.values[index])
    return bare_plus_minus(objective, gain.mean, (gain.high - gain.low) / 2)


def with_spread(snapshot: Snapshot, view: CandidateView, index: int) -> str:
    """A candidate's objective as estimated now, with its uncertainty where it has one, and the epochs if not all."""
    objective = snapshot.objectives[index]
    text = value(objective, view.values[index])
    estimate = view.estimates.get(objective_name(objective))
    if estimate is not None and view.values[index] is not None:
        return f"{text} {spread(objective_name(objective), estimate)}".rstrip() + _budget(snapshot, view)
    if objective == "latency" and view.latency is not None and view.latency.sessions and view.baseline != "none":
        return f"{text} ± {(view.latency.high - view.latency.low) / 2:.3f}"
    return text


def _budget(snapshot: Snapshot, view: CandidateView) -> str:
    rungs = snapshot.recipe.training.rungs
    if view.rung is None or view.rung >= len(rungs) - 1:
        return ""
    return f" after {rungs[view.rung]} of {rungs[-1]} epochs"


def measured(metric: str, part: Part) -> str:
    """`measured +1.10 in 3 runs`; empty where nothing was."""
    if part.measured is None:
        return ""
    return f"measured {signed(metric, part.measured)} in {part.runs} run{'' if part.runs == 1 else 's'}"


def metrics(found: Mapping[str, float]) -> str:
    """`accuracy 72.41 %, loss 0.61`, without sums that are kept for other purposes."""
    return ", ".join(f"{title(name)} {value(name, v)}" for name, v in found.items() if name != "train_loss_sum")


def suggestion(one: Suggestion) -> str:
    """What is expected of an untried placement, one sentence."""
    estimate, metric = one.estimate, one.metric
    at = "" if one.latency is None else f" at {one.latency.ratio:.3f} times the backbone's latency"
    known = "the best that is known" + ("" if one.latency is None else " at that latency")
    return (
        f"`{one.placement}` (untried): predicted {metric} {value(metric, estimate.mean)} ({value(metric, estimate.low)} to "
        f"{value(metric, estimate.high)}){at}; better than {known}, `{one.rival}`, with a probability of "
        f"{probability(one.probability)}."
    )


def beside(notes: Sequence[str]) -> str:
    """What is to be known of sessions that had not the device alone; empty where all had.

    Args:
        notes: of each such session, what went on beside it.
    """
    if not notes:
        return ""
    others = "; ".join(dict.fromkeys(notes))
    return f"{len(notes)} latency session{'s' if len(notes) > 1 else ''} did not have the device alone, but next to {others}."


def machine(snapshot: Snapshot) -> str:
    """Where and how latency was measured."""
    record = snapshot.latency
    if record is None:
        return "No latency has been measured."
    text = (
        f"Latency was measured on {record.machine} in {record.sessions} sessions ({duration(record.duration_s)}): "
        f"{record.reference_ms:.3g} ms for the bare backbone. {record.dropped} sessions were dropped because two copies of "
        f"the same network differed too much; typically the copies differ by {100 * record.control_spread:.2f} %."
    )
    if "nms" in record.conditions:
        text += " A detector is timed without the selection of boxes (NMS), unless it is part of the network."
    return f"{text} {beside(record.beside)}".rstrip()


def label(view: CandidateView) -> str:
    """A candidate's short name."""
    return "bare backbone" if view.baseline == "none" else view.label


def called(view: CandidateView, snapshot: Snapshot) -> str:
    """A candidate by what it is to the answer, else by its own name."""
    best = snapshot.recommendation is not None and snapshot.recommendation.key == view.key
    return "recommended" if best else label(view)


def spent(snapshot: Snapshot) -> list[tuple[str, int, float]]:
    """(for what, how many scores or sessions, seconds) that the study took, all workers together."""
    named = {
        "search": "candidates' first runs",
        "confirm": "more seeds of the best",
        "duel": "confirmation rounds of the best",
        "backbone": "backbones",
    }
    points = [*snapshot.backbone, *(point for view in snapshot.candidates for point in view.scores)]
    rows = []
    for purpose, name in named.items():
        mine = [point for point in points if point.purpose == purpose]
        if mine:
            rows.append((name, len(mine), sum(point.wall_s for point in mine)))
    if snapshot.latency is not None:
        rows.append(("latency sessions", snapshot.latency.sessions, snapshot.latency.duration_s))
    return rows

"""Objective values and counts as a person reads them."""

from __future__ import annotations

import math

from nas_attn.analysis.estimates import Estimate
from nas_attn.analysis.recommendation import format_metric
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.records import Latency

TITLES = {
    "accuracy": "accuracy",
    "loss": "log-loss",
    "latency": "latency (times the backbone's)",
    "params": "parameters",
    "macs": "MACs",
    "memory": "activation memory",
}
MISSING = "–"


def title(objective: str) -> str:
    """An objective's name on an axis."""
    return TITLES.get(objective, objective_name(objective))


def direction(objective: str) -> str:
    """`lower is better` or `higher is better`."""
    return "lower is better" if lower_is_better(objective) else "higher is better"


def value(objective: str, number: float | None) -> str:
    """`72.41 %`, `1.132 x`, `1.2 M`, `3.1 MB`."""
    if number is None or math.isnan(number):
        return MISSING
    if objective == "latency":
        return f"{number:.3f} ×"
    if objective in ("params", "macs"):
        return count(number)
    if objective == "memory":
        return f"{count(number)}B"
    return format_metric(objective_name(objective), number)


def count(number: float) -> str:
    """`950`, `12.3 k`, `1.20 M`, `4.1 G`: three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


def spread(metric: str, estimate: Estimate) -> str:
    """`± 0.8`: two posterior standard deviations, in the unit of `format_metric`."""
    return f"± {200 * estimate.sd:.2f}" if metric == "accuracy" else f"± {2 * estimate.sd:.2g}"


def interval(latency: Latency | None) -> str:
    """`1.110 to 1.152`."""
    if latency is None:
        return MISSING
    return f"{latency.low:.3f} to {latency.high:.3f}{'' if latency.measured else ' (predicted)'}"


def with_spread(snapshot: Snapshot, view: CandidateView, index: int) -> str:
    """A candidate's objective as estimated now, with its uncertainty where it has one, and the epochs if not all."""
    objective = snapshot.objectives[index]
    text = value(objective, view.values[index])
    estimate = view.estimates.get(objective_name(objective))
    if estimate is not None and view.values[index] is not None:
        return f"{text} {spread(objective_name(objective), estimate)}{_budget(snapshot, view)}"
    if objective == "latency" and view.latency is not None:
        return f"{text} ({interval(view.latency)})"
    return text


def _budget(snapshot: Snapshot, view: CandidateView) -> str:
    rungs = snapshot.recipe.training.rungs
    if view.rung is None or view.rung >= len(rungs) - 1:
        return ""
    return f" after {rungs[view.rung]} of {rungs[-1]} epochs"


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

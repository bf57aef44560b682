"""An objective's value in its unit: one form wherever it is shown, on a terminal and on a page."""

from __future__ import annotations

import math

from nas_attn.analysis.recommendation import format_metric
from nas_attn.recipe import objective_name

MISSING = "–"


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


def named(objective: str, number: float | None) -> str:
    """`accuracy 70.40 %`, `latency 1.192 ×`."""
    return f"{objective} {value(objective, number)}"

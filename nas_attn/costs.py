"""The table of costs: what a network costs. Each of them is an objective, and lower is better.

A recipe may name a cost of its own among its objectives, as `package.module:function`; it needs no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One cost."""

    name: str
    """As a recipe's objective."""
    title: str
    unit: Literal["ratio", "count", "bytes", "number"]
    """How its values are written: `1.132 ×`, `1.2 M`, `3.1 MB`, `0.1235`."""
    function: str = ""
    """`package.module:function`, which takes an `attachment.counting.Network` and returns a number; empty: it is measured."""


_COUNTING = "nas_attn.attachment.counting"
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            Row("latency", "latency (times the backbone's)", "ratio"),
            Row("params", "parameters", "count", f"{_COUNTING}:parameters"),
            Row("macs", "MACs", "count", f"{_COUNTING}:macs"),
            Row("memory", "activation memory", "bytes", f"{_COUNTING}:activation_bytes"),
        )
    }
)
"""Name -> cost."""


def is_cost(objective: str) -> bool:
    """Whether an objective is a cost, and not a metric of a trained network."""
    return objective in ROWS or is_own(objective)


def is_own(objective: str) -> bool:
    """Whether an objective names a user's own function."""
    return ":" in objective and not objective.startswith("-")


def functions(objectives: Iterable[str]) -> dict[str, str]:
    """Name -> function of all costs that are counted: those of the table, and a user's own among the objectives."""
    counted = {row.name: row.function for row in ROWS.values() if row.function}
    return counted | {name: name for name in objectives if is_own(name)}

"""What stands on a figure's axes: what is measured, and its values as they are written everywhere, `70.4 %`."""

from __future__ import annotations

import html
from typing import Literal

import plotly.graph_objects as go

from nas_attn.analysis import units


def measure(figure: go.Figure, axis: Literal["x", "y"], objective: str, title: str = "") -> None:
    """Puts an objective on an axis whose values have been drawn; shares become per cent.

    Args:
        title: in place of the objective's name and which way is better.
    """
    title = title or html.escape(f"{units.title(objective)} · {units.direction(objective)}")
    if units.unit(objective) is units.SHARE:
        per_cent(figure, axis)
    figure.update_layout({f"{axis}axis": {"title": {"text": title}, "tickformat": units.unit(objective).ticks}})


def per_cent(figure: go.Figure, axis: Literal["x", "y"]) -> None:
    """Turns what was drawn as shares into per cent. plotly's own format of shares has no room before its sign."""
    for trace in figure.data:
        bars = trace[f"error_{axis}"]
        for holder, name in ((trace, axis), (bars, "array"), (bars, "arrayminus")):
            if holder[name] is not None:
                holder[name] = [None if share is None else _times_100(share) for share in holder[name]]
    lines = [(shape, f"{axis}{end}") for shape in figure.layout.shapes for end in (0, 1)]
    for holder, name in [*lines, *((note, axis) for note in figure.layout.annotations)]:
        if holder[f"{axis}ref"] == axis:
            holder[name] = _times_100(holder[name])
    figure.update_layout({f"{axis}axis": {"ticksuffix": " %"}})


def _times_100(share: float) -> float:
    return round(100 * float(share), 4)

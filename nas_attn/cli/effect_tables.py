"""The tables of `nas-attn effects`; numbers whose 95 % interval excludes zero are bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from nas_attn.analysis import units
from nas_attn.analysis.recommendation import format_probability
from nas_attn.cli.common import table
from nas_attn.report import words

if TYPE_CHECKING:
    from nas_attn.analysis.effects import Effect
    from nas_attn.analysis.in_place import InPlace, Part


def choices(heading: str, what: str, rows: Sequence[Effect], placed: Mapping[tuple[str, str], InPlace]) -> Any:
    """Each choice at each site: on average over all placements, alone, and next to the recommended others."""
    numbers = ["on average", "alone", "next to the\nrecommended", "tried"]
    cells: list[list[str | Text]] = []
    for row in rows:
        one = placed.get((row.site, row.name))
        parts = [] if one is None else [_part(what, one.alone), _part(what, one.beside)]
        cells.append([row.site, row.name, _number(what, row.effect, row), *(parts or ["", ""]), str(row.observations)])
    return table(heading, ["site", "choice", *numbers], cells, right=numbers, whole=["site", *numbers])


def others(heading: str, what: str, rows: Sequence[Effect]) -> Any:
    """Types, knobs and positions."""
    numbers = ["adds", "good", "tried"]
    cells: list[list[str | Text]] = [
        [row.name, _number(what, row.effect, row), format_probability(row.better), str(row.observations)]
        for row in rows
    ]
    return table(heading, ["choice", *numbers], cells, right=numbers, whole=numbers)


def _part(what: str, part: Part | None) -> Text | str:
    if part is None:
        return ""
    shown = _number(what, part.mean, part)
    measured = words.measured(what, part)
    return Text.assemble(shown, f"\n{measured}") if measured else shown


def _number(what: str, number: float, interval: Effect | Part) -> Text:
    """A difference and half of its interval, bold where that excludes zero."""
    return Text(units.bare_plus_minus(what, number, interval.half), style="bold" if interval.sure else "")

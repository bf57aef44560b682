"""The columns of candidates' tables, once: page, terminal and note take of them what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nas_attn.answer.candidates import objective_heading, objective_shown
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name

BETTER_THAN_BARE = "better than the bare backbone"


class Column(NamedTuple):
    """What stands in a candidate's row under a head."""

    head: str
    text: str
    # by which rows are sorted; None: it is not known
    value: float | None


def gain_columns(now: Snapshot, view: CandidateView, *, absolute: bool = False) -> list[Column]:
    """One column of each objective: its gain over the bare backbone where that is known, else its
    value; with `absolute`, always its value.
    """
    columns = []
    for index, objective in enumerate(now.objectives):
        value = view.values[index]
        if now.compared(objective) and not absolute:
            gain = view.gains.get(objective_name(objective))
            value = None if gain is None else gain.mean
        head = objective_heading(now, index, absolute=absolute)
        text = objective_shown(now, view, index, absolute=absolute)
        columns.append(Column(head, text, value))
    return columns


def all_columns(now: Snapshot, view: CandidateView) -> list[Column]:
    """The columns of each objective, of a metric with known gains two: the gain and the value; then
    the probability to be better than the bare backbone, and the number of runs.
    """
    columns: list[Column] = []
    both = zip(gain_columns(now, view), gain_columns(now, view, absolute=True), strict=True)
    for gain, value in both:
        columns += [value] if gain.head == value.head else [gain, value]
    odds = units.NO_VALUE if view.beats_none is None else units.probability(view.beats_none)
    columns.append(Column(BETTER_THAN_BARE, odds, view.beats_none))
    estimate = view.estimates.get(now.primary or "")
    runs = None if estimate is None else estimate.seeds
    columns.append(Column("runs", units.NO_VALUE if runs is None else str(runs), runs))
    return columns


def heads(columns: Sequence[Column]) -> list[str]:
    """What stands above columns."""
    return [column.head for column in columns]

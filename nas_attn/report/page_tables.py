"""The tables of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import candidate_label, metrics_shown
from nas_attn.answer.effects import Effects
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.pair_tests import ValidationResult
from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation_text import validation_rows
from nas_attn.recipe import units
from nas_attn.report.columns import Column, columns, judged, tags

# Letters of a reason that has a line of its own
WIDE_LETTERS = 40
TITLES_OF_CLASSES: Mapping[str, str] = {"mean_iou": "IoU", "mean_ap": "average precision"}
"""What is a mean over the classes -> the title of its value for one."""


class Cell(NamedTuple):
    """One cell of a table of the report; templates/parts.html writes and escapes it."""

    text: str = ""
    # Sorting key, if it is not the text; an empty text comes last
    sort: float | str | None = None
    # A placement, to copy
    notation: str = ""
    tags: tuple[str, ...] = ()
    wide: bool = False
    bold: bool = False

    @property
    def says_nothing(self) -> bool:
        return self.text in ("", units.NO_VALUE) and not self.notation and not self.tags


class TableRow(NamedTuple):
    cells: Sequence[Cell]
    front: bool = False


class Table(NamedTuple):
    """A table of the page; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[TableRow]
    # Its id in the page
    name: str = ""
    sortable: bool = False


def number(shown: str, value: float | None) -> Cell:
    """A cell sorted by its number; unknown ones come last."""
    return Cell(shown, value if value is not None and math.isfinite(value) else "")


def measured(name: str, value: float | None) -> Cell:
    """A value in its unit."""
    return number(units.value(name, value), value)


def plain(caption: str, head: Sequence[str], rows: Iterable[Iterable[object]]) -> Table | None:
    """A table of texts; None without rows."""
    made = [TableRow([Cell(str(value)) for value in row]) for row in rows]
    return Table(caption, head, made) if made else None


def tested_table(result: ValidationResult) -> Table | None:
    """The networks of a test, with their scores; None before there is a result."""
    if not result.verdicts:
        return None
    rows = [
        TableRow([Cell(title), Cell(value), Cell(notation=placement, wide=True)])
        for title, value, placement in validation_rows(result)
    ]
    head = ["network", "on the test split, ± over runs", "placement"]
    return Table("The networks of this test", head, rows)


def front_table(answer: Answer) -> Table | None:
    """The front, then the other baselines; None before there is one."""
    now = answer.now
    if not now.front:
        return None
    head = ["candidate", *(one.head for one in judged(answer, now.front[0])), "gains of its runs"]
    rows = [
        TableRow(
            [
                Cell(
                    candidate_label(view), None, str(view.placement), tags(answer, view), wide=True
                ),
                *map(_cell, judged(answer, view)),
                _gains(now, view),
            ],
            view.on_front,
        )
        for view in now.shown
    ]
    return Table("The front, and the baselines beside it", head, rows)


def gains_of_runs(now: Snapshot, metric: str, view: CandidateView) -> list[float]:
    """The gain of each of a candidate's runs at the last rung over the bare backbone's run of the
    same seed, where there is one; positive is better.
    """
    last = now.recipe.training.last_rung

    def scores(of: CandidateView | None) -> dict[int, float]:
        points = () if of is None else of.scores
        ended = (point for point in points if point.rung == last and metric in point.metrics)
        return {point.seed: point.metrics[metric] for point in ended}

    level = scores(now.bare)
    sign = sign_of(now.recipe, metric)
    return [sign * (of - level[seed]) for seed, of in scores(view).items() if seed in level]


def _gains(now: Snapshot, view: CandidateView) -> Cell:
    """From the least to the largest gain of a candidate's runs."""
    metric = now.primary or ""
    gains = [] if view.is_bare else gains_of_runs(now, metric, view)
    if len(gains) < 2:
        return Cell()
    return number(units.difference_range(metric, min(gains), max(gains)), min(gains))


def candidates_table(answer: Answer) -> Table | None:
    """All candidates, sortable; None without any."""
    views = answer.now.candidates
    if not views:
        return None
    shown = [[one for one in columns(answer, view) if one.head] for view in views]
    rows = []
    for view, (trial, *others) in zip(views, shown, strict=True):
        first = Cell(trial.text, trial.value, tags=tags(answer, view))
        rows.append(TableRow([first, *map(_cell, others)], view.on_front))
    head = [one.head for one in shown[0]]
    return Table("All candidates", head, rows, "all-candidates", sortable=True)


def _cell(column: Column) -> Cell:
    if column.name == "placement":
        return Cell(notation=column.text, wide=True)
    if column.name in ("state", "reason"):
        return Cell(column.text, wide=len(column.text) > WIDE_LETTERS)
    return number(column.text, column.value)


def effects_table(effects: Effects) -> Table:
    """The average effects of choices and types."""
    title = effects.of.replace("_", " ")
    rows = [
        TableRow(
            [
                Cell(row.site or "any"),
                Cell(notation=row.name, wide=True),
                Cell(units.plus_minus(effects.of, row.mean, row.half), row.mean, bold=row.sure),
                number(units.probability(row.better), row.better),
                number(str(row.observations), row.observations),
                number(str(row.elsewhere), row.elsewhere),
            ]
        )
        for row in effects.rows
    ]
    head = ["site", "choice", "on average", "good", "candidates", "with the type elsewhere"]
    name = f"effects-{effects.of}"
    return Table(f"All effects on {title}", head, rows, name, sortable=True)


def mistakes_table(summary: Mistakes, names: Sequence[str]) -> Table | None:
    """Each class's share in each network; None for numbers. `names`: of the networks."""
    if not summary.classes:
        return None
    head = ["class", *(["images"] if summary.images else []), *names]
    rows = []
    for at, name in enumerate(summary.classes):
        counts = [number(str(summary.images[at]), summary.images[at])] if summary.images else []
        shares = [measured(summary.what, of[at]) for of in summary.shares]
        rows.append(TableRow([Cell(name), *counts, *shares]))
    title = TITLES_OF_CLASSES.get(summary.what) or units.title(summary.what)
    caption = f"{title[:1].upper()}{title[1:]} of each class on the validation images"
    return Table(caption, head, rows, "by-class", sortable=True)


def retrained_table(now: Snapshot) -> Table | None:
    """The trainings for use, a row for each, with the scores of the network; None without any."""
    if not now.retrained:
        return None
    metrics = metrics_shown([run.metrics or {} for run in now.retrained])
    rows = [
        TableRow(
            [
                Cell(notation=str(run.placement), wide=True),
                Cell(run.protocol),
                number(str(run.seed), run.seed),
                *(measured(name, (run.metrics or {}).get(name)) for name in metrics),
                Cell("" if run.state == "done" else run.reason or run.state),
            ]
        )
        for run in now.retrained
    ]
    head = ["placement", "protocol", "seed", *map(units.title, metrics), "state"]
    caption = "Trainings for use, scored on the validation split"
    return Table(caption, head, rows)

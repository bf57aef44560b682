"""The tables of the report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import (
    SIGNS,
    candidate_label,
    metrics_shown,
)
from nas_attn.answer.columns import Column, all_columns, heads
from nas_attn.answer.effects import Effect, Effects
from nas_attn.answer.facts import Retrained
from nas_attn.answer.per_image import ByClass, Mistakes
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation import ValidationResult
from nas_attn.answer.validation_text import validation_rows
from nas_attn.recipe import units
from nas_attn.recipe.tables import counted_costs
from nas_attn.report.estimates import gains_of_runs

# A loss that falls by less than this share in the last fifth of the epochs has levelled off
STILL_FALLING = 0.03
# Epochs that have a last fifth
FEWEST_EPOCHS = 5

EFFECTS_HEADS = (
    "site",
    "choice",
    "on average",
    "good",
    "candidates",
    "with the type elsewhere",
)


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
    # How dark its ground is, in percent
    shade: int = 0

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
    # Read across and down, so that a phone scrolls it; of others, a phone shows each row as a card
    matrix: bool = False

    def informative(self) -> Table:
        """The same without the columns that say nothing in any row."""
        kept = [
            at
            for at in range(len(self.head))
            if any(not row.cells[at].says_nothing for row in self.rows)
        ]
        rows = [row._replace(cells=[row.cells[at] for at in kept]) for row in self.rows]
        return self._replace(head=[self.head[at] for at in kept], rows=rows)


def number(shown: str, value: float | None) -> Cell:
    """A cell sorted by its number; unknown ones come last."""
    return Cell(shown, value if value is not None and math.isfinite(value) else "")


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


def tested_classes_table(result: ValidationResult) -> Table | None:
    """Their accuracy class by class, where it is known."""
    if not result.by_class:
        return None
    names = {network.key: network.title for network in result.family.networks}
    return classes_table(result.by_class, names)


def front_table(answer: Answer) -> Table | None:
    """The front, then the other baselines; None before there is one."""
    snapshot = answer.now
    if not snapshot.front:
        return None
    columns = heads(all_columns(snapshot, snapshot.front[0]))
    head = ["candidate", *columns, "gains of its runs"]
    rows = [TableRow(_front_row(answer, view), view.on_front) for view in snapshot.shown]
    return Table("The front, and the baselines beside it", head, rows).informative()


def _front_row(answer: Answer, view: CandidateView) -> list[Cell]:
    snapshot = answer.now
    name = Cell(
        candidate_label(view), notation=str(view.placement), tags=_tags(answer, view), wide=True
    )
    metric = snapshot.primary or ""
    gains = [] if view.is_bare else gains_of_runs(snapshot, metric, view)
    of_runs = Cell()
    if len(gains) > 1:
        of_runs = number(units.difference_range(metric, min(gains), max(gains)), min(gains))
    return [name, *_cells(all_columns(snapshot, view)), of_runs]


def _cells(columns: Iterable[Column]) -> list[Cell]:
    return [number(column.text, column.value) for column in columns]


def candidates_table(answer: Answer) -> Table | None:
    """All candidates, sortable; None without any."""
    snapshot = answer.now
    if not snapshot.candidates:
        return None
    more = [*map(units.title, _counted(snapshot)), "time", "training memory", "images/s trained"]
    columns = heads(all_columns(snapshot, snapshot.candidates[0]))
    head = ["trial", "placement", "state", *columns, *more, "reason"]
    rows = [TableRow(_candidate_row(answer, view), view.on_front) for view in snapshot.candidates]
    return Table("All candidates", head, rows, "all-candidates", sortable=True).informative()


def _counted(snapshot: Snapshot) -> list[str]:
    return [name for name in counted_costs(()) if name not in snapshot.objectives]


def _candidate_row(answer: Answer, view: CandidateView) -> list[Cell]:
    snapshot = answer.now
    cost = view.cost or {}
    seconds = sum(point.wall_s for point in view.scores)
    state = view.state
    if state == "pruned" and view.rung is not None:
        state = f"pruned at rung {view.rung}"
    return [
        Cell(str(view.trial), view.trial, tags=_tags(answer, view)),
        Cell(notation=str(view.placement), wide=True),
        Cell(state),
        *_cells(all_columns(snapshot, view)),
        *(number(units.value(name, cost.get(name)), cost.get(name)) for name in _counted(snapshot)),
        number(units.duration(seconds) if seconds else units.NO_VALUE, seconds or None),
        number(units.value("memory", view.train_bytes), view.train_bytes),
        number(
            units.NO_VALUE if view.train_speed is None else f"{view.train_speed:,.0f}",
            view.train_speed,
        ),
        Cell(view.reason, wide=len(view.reason) > 40),
    ]


def effects_table(effects: Effects) -> Table:
    """The average effects of choices and types."""
    of = "latency" if effects.of == "latency" else units.title(effects.of)
    return Table(
        f"All effects on {of}",
        EFFECTS_HEADS,
        [TableRow(_effect_row(effects.of, row)) for row in effects.rows],
        f"effects-{effects.of}",
        sortable=True,
    ).informative()


def _effect_row(metric: str, row: Effect) -> list[Cell]:
    return [
        Cell(row.site or "any"),
        Cell(notation=row.name, wide=True),
        Cell(units.plus_minus(metric, row.mean, row.half), row.mean, bold=row.sure),
        _likely(row.better),
        number(str(row.observations), row.observations),
        number(str(row.elsewhere), row.elsewhere),
    ]


def classes_table(by_class: ByClass, names: Mapping[str, str]) -> Table:
    """Accuracy class by class, sortable. `names`: key -> name of the network."""
    rows = [
        TableRow(
            [
                Cell(name),
                number(str(count), count),
                *(_share(shares[at]) for shares in by_class.values.values()),
            ]
        )
        for at, (name, count) in enumerate(zip(by_class.classes, by_class.images, strict=True))
    ]
    head = ["class", "images", *(names[key] for key in by_class.values)]
    return Table("On the test split, class by class", head, rows, sortable=True)


# with more classes, a matrix has only some of them
MATRIX_CLASSES = 40
TITLES_OF_CLASSES: Mapping[str, str] = {"mean_iou": "IoU", "mean_ap": "average precision"}
"""What is a mean over the classes -> the title of its value for one."""


def role(answer: Answer, key: str) -> str:
    """The name of a compared network."""
    view = answer.now.find(key)
    if key == answer.taken_key:
        return "recommended"
    return "bare" if view is not None and view.is_bare else "runner-up"


def mistakes_table(summary: Mistakes, names: Sequence[str]) -> Table | None:
    """Each class's share in each network; None for numbers. `names`: of the networks."""
    if not summary.classes:
        return None
    head = ["class", *(["images"] if summary.images else []), *names]
    rows = []
    for at, name in enumerate(summary.classes):
        shares = [number(units.value(summary.what, of[at]), of[at]) for of in summary.shares]
        counts = [number(str(summary.images[at]), summary.images[at])] if summary.images else []
        rows.append(TableRow([Cell(name), *counts, *shares]))
    title = TITLES_OF_CLASSES.get(summary.what) or units.title(summary.what)
    caption = f"{title[:1].upper()}{title[1:]} of each class on the validation images"
    return Table(caption, head, rows, "by-class", sortable=True)


def confusions(summary: Mistakes, names: Sequence[str]) -> list[Table]:
    """Each network's confusion matrix, in percent of the true class; of many classes only the most
    confused ones.
    """
    tables = []
    for name, matrix in zip(names, summary.confusion, strict=True):
        if matrix is None:
            continue
        classes = (*summary.classes, "nothing")
        worst = sorted(
            range(len(matrix)), key=lambda at: matrix[at, at] if matrix[at].sum() else math.inf
        )
        kept = sorted(worst[:MATRIX_CLASSES])
        head = ["class \u2193 found \u2192", *(classes[at] for at in kept)]
        rows = [
            TableRow([Cell(classes[i]), *(_taken(float(matrix[i, j]), right=i == j) for j in kept)])
            for i in kept
        ]
        caption = f"What the classes are taken for by {name}, in % of the class"
        tables.append(Table(caption, head, rows, matrix=True))
    return tables


def _taken(share: float, *, right: bool) -> Cell:
    return Cell(
        f"{100 * share:.1f}" if share >= 0.0005 else "",
        share,
        bold=right,
        shade=0 if right else round(100 * share),
    )


def retrained_table(snapshot: Snapshot) -> Table | None:
    """The trainings for use, a row for each; None without any."""
    if not snapshot.retrained:
        return None
    metrics = metrics_shown(_scores(run) for run in snapshot.retrained)
    head = ["placement", "protocol", "seed", "epochs", *map(units.title, metrics)]
    rows = [TableRow(_retrained_row(run, metrics)) for run in snapshot.retrained]
    caption = "Trainings for use, scored on the validation split"
    return Table(caption, [*head, "training loss", "state"], rows).informative()


def _scores(run: Retrained) -> Mapping[str, float]:
    """The scores at the end; of a training under way those of its last epoch."""
    if run.metrics is not None:
        return run.metrics
    return run.curve[-1].metrics if run.curve else {}


def _retrained_row(run: Retrained, metrics: Sequence[str]) -> list[Cell]:
    last = run.curve[-1] if run.curve else None
    scores = _scores(run)
    state = ""
    if not run.metrics:
        state = run.reason or ("under way" if last else "waiting")
    loss = Cell()
    if last is not None:
        falling = still_falling(run)
        end = "" if falling is None else (", still falls" if falling else ", has levelled off")
        loss = number(f"{last.train_loss:.3g}{end}", last.train_loss)
    return [
        Cell(notation=str(run.placement), wide=True),
        Cell(run.protocol),
        number(str(run.seed), run.seed),
        number(str(last.epochs), last.epochs) if last else number(units.NO_VALUE, None),
        *(number(units.value(name, scores.get(name)), scores.get(name)) for name in metrics),
        loss,
        Cell(state),
    ]


def still_falling(run: Retrained) -> bool | None:
    """Whether the training loss still fell at the end, so that a longer training may gain more;
    None with too few epochs, or before the end.
    """
    losses = [point.train_loss for point in run.curve]
    if run.metrics is None or len(losses) < FEWEST_EPOCHS:
        return None
    before = losses[int(0.8 * (len(losses) - 1))]
    return losses[-1] < (1 - STILL_FALLING) * before


def _share(share: float | None) -> Cell:
    return number(units.NO_VALUE if share is None else units.SHARE_UNIT.value(share), share)


def _tags(answer: Answer, view: CandidateView) -> tuple[str, ...]:
    tags = {
        "recommended": view.key == answer.taken_key,
        "front": view.on_front,
        "baseline": view.baseline is not None,
        view.means.value: view.means in SIGNS,
    }
    return tuple(tag for tag, wanted in tags.items() if wanted)


def _likely(probability: float | None) -> Cell:
    return number(
        units.NO_VALUE if probability is None else units.probability(probability), probability
    )

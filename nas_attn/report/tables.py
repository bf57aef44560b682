"""The HTML report's tables. Everything that comes from a study is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from statistics import fmean
from typing import NamedTuple

from nas_attn.analysis.classes import ByClass
from nas_attn.analysis.effects import Effect, Effects
from nas_attn.analysis.recommendation import format_probability
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import objective_name
from nas_attn.report import words

_escaped = lru_cache(maxsize=16_384)(html.escape)
"""Among ten thousand candidates the same is said again and again."""


class Cell(NamedTuple):
    """One cell: trusted HTML, and what it is sorted by where that is not its text."""

    markup: str
    sort: float | None = None
    wide: bool = False


def text(value: object) -> Cell:
    """A cell of plain text."""
    return Cell(_escaped(str(value)))


def notation(placement: str) -> Cell:
    """A placement, to be copied."""
    return Cell(f'<span class="notation">{html.escape(placement)}</span>', wide=True)


def number(shown: str, value: float | None) -> Cell:
    """A cell sorted by its number; unknown ones come last."""
    return Cell(_escaped(shown), math.inf if value is None else value)


def table(
    head: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]], *, name: str = "", sortable: bool = False
) -> str:
    """A table in a box that scrolls sideways.

    Args:
        rows: (the row's class, its cells).
        name: the table's id.
    """
    heads = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in head)
    body = "".join(f'<tr class="{kind}">{"".join(map(_td, cells))}</tr>' for kind, cells in rows)
    attributes = (f' id="{name}"' if name else "") + (' class="sortable"' if sortable else "")
    return f'<div class="scroll"><table{attributes}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _td(cell: Cell) -> str:
    attributes = ' class="wide"' if cell.wide else ""
    if cell.sort is not None:
        attributes += f' data-sort="{cell.sort!r}"' if math.isfinite(cell.sort) else ' data-sort=""'
    return f"<td{attributes}>{cell.markup}</td>"


def front_table(snapshot: Snapshot) -> str:
    """The front beside the baselines, the best in the first objective first."""
    raw = [view for view in snapshot.candidates if view.raw_on_front]
    views = snapshot.ordered({view.key: view for view in (*snapshot.front, *snapshot.baselines, *raw)}.values())
    head = ["candidate", *_titles(snapshot), "on the true front", "better than no attention", "runs"]
    rows = [("front" if view.on_front else "", _front_row(snapshot, view)) for view in views]
    return table(head, rows)


def _front_row(snapshot: Snapshot, view: CandidateView) -> list[Cell]:
    values = [text(words.with_spread(snapshot, view, index)) for index in range(len(snapshot.objectives))]
    name = Cell(f"{_name(snapshot, view)}<br>{notation(view.placement).markup}", wide=True)
    return [name, *values, _likely(view.front_odds), _likely(view.beats_none), _seeds(snapshot, view)]


def candidates_table(snapshot: Snapshot) -> str:
    """All candidates, sortable."""
    costs = ["parameters", "MACs", "time"]
    head = ["trial", "placement", "state", *_titles(snapshot), "better than no attention", "runs", *costs, "reason"]
    rows = [("front" if view.on_front else "", _candidate_row(snapshot, view)) for view in snapshot.candidates]
    return table(head, rows, name="candidates", sortable=True)


def _candidate_row(snapshot: Snapshot, view: CandidateView) -> list[Cell]:
    values = [
        number(words.with_spread(snapshot, view, index), view.values[index])
        for index in range(len(snapshot.objectives))
    ]
    cost, seconds = view.cost, sum(point.wall_s for point in view.scores)
    return [
        Cell(f"{view.trial}{_tags(snapshot, view)}", view.trial),
        notation(view.placement),
        text(view.state if view.state != "pruned" or view.rung is None else f"pruned at rung {view.rung}"),
        *values,
        _likely(view.beats_none),
        _seeds(snapshot, view),
        number(words.count(cost.parameters) if cost else words.MISSING, cost.parameters if cost else None),
        number(words.count(cost.macs) if cost else words.MISSING, cost.macs if cost else None),
        number(words.duration(seconds) if seconds else words.MISSING, seconds or None),
        Cell(_escaped(view.reason), wide=len(view.reason) > 40),
    ]


def effects_table(found: Effects) -> str:
    """What each choice, type, knob and position does."""
    head = ["site", "choice", "adds", "95 % interval", "does good", "candidates", "with the type elsewhere"]
    rows = [("", _effect_row(found.of, row)) for row in found.rows]
    return table(head, rows, name=f"effects-{html.escape(found.of)}", sortable=True)


def _effect_row(metric: str, row: Effect) -> list[Cell]:
    sites = row.site or {"type": "any", "knob": "any, against the type's mean"}.get(row.level, "against the mean")
    return [
        text(sites),
        notation(row.name),
        number(words.difference(metric, row.effect), row.effect),
        text(words.difference_range(metric, row.low, row.high)),
        number(format_probability(row.better), row.better),
        number(str(row.observations), row.observations),
        number(str(row.elsewhere), row.elsewhere),
    ]


def classes_table(found: ByClass, names: Mapping[str, str]) -> str:
    """Accuracy class by class, sortable.

    Args:
        names: key -> what the network is called.
    """
    head = ["class", "images", *(names[key] for key in found.values)]
    rows = [
        ("", [text(name), number(str(count), count), *(_share(shares[at]) for shares in found.values.values())])
        for at, (name, count) in enumerate(zip(found.classes, found.images, strict=True))
    ]
    return table(head, rows, sortable=True)


def balance_table(snapshot: Snapshot, names: Mapping[str, str]) -> str:
    """What the networks shown class by class are worth with every class counted alike: means over runs of the last rung."""
    last = len(snapshot.recipe.training.rungs) - 1
    metrics = ("accuracy", "balanced_accuracy", "macro_f1")
    rows = []
    for key in snapshot.by_class.values if snapshot.by_class else ():
        view = snapshot.find(key)
        points = [] if view is None else [p.metrics for p in view.scores if p.rung == last]
        means = [fmean(found) if (found := [p[m] for p in points if m in p]) else None for m in metrics]
        rows.append(("", [text(names[key]), *(number(words.value("accuracy", mean), mean) for mean in means)]))
    return table(["network", *map(words.title, metrics)], rows)


def _share(share: float) -> Cell:
    return number(words.value("accuracy", share), share)


def _titles(snapshot: Snapshot) -> list[str]:
    return [objective_name(objective) for objective in snapshot.objectives]


def _name(snapshot: Snapshot, view: CandidateView) -> str:
    named = "no attention" if view.baseline == "none" else view.baseline or f"trial {view.trial}"
    return f"{html.escape(named)}{_tags(snapshot, view)}"


def _tags(snapshot: Snapshot, view: CandidateView) -> str:
    best = snapshot.recommendation is not None and snapshot.recommendation.key == view.key
    tags = [('<em class="tag best">recommended</em>', best), ('<em class="tag">front</em>', view.on_front)]
    tags.append(('<em class="tag">front of plain scores</em>', view.raw_on_front and not view.on_front))
    tags.append(('<em class="tag">baseline</em>', view.baseline is not None))
    return "".join(f" {tag}" for tag, wanted in tags if wanted)  # a notebook has no style sheet to tell them apart


def _likely(probability: float | None) -> Cell:
    if probability is None:
        return number(words.MISSING, None)
    return number(format_probability(probability), probability)


def _seeds(snapshot: Snapshot, view: CandidateView) -> Cell:
    estimate = view.estimates.get(snapshot.primary or "")
    return number(str(estimate.seeds), estimate.seeds) if estimate else number(words.MISSING, None)

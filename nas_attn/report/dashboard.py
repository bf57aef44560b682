"""Notes and plots for optuna-dashboard, which then shows a study with no further step of ours.

They are written as the study's system attributes, in the form that optuna-dashboard (0.14 and later) reads, so that they are there
also where it is not installed: the database may be opened elsewhere. A test reads them back by its own functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.recommendation import format_probability
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.analysis.suggestions import suggest
from nas_attn.recipe import objective_name
from nas_attn.report import effect_map, figures, retrained, verdicts, words
from nas_attn.report.answer_study import SUFFIX

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

BELOW = "*nas_attn updates this note. Text below this line stays.*"
_CHUNK = 2045
"""Characters that one attribute holds at most, as in optuna-dashboard (MySQL's limit)."""
_ROUNDS = 3
"""Times that what another worker wrote in between is set right."""
_TITLES = {
    "nas_attn-front": "Front and baselines, as estimated now",
    "nas_attn-learning-curves": "Learning curves",
    "nas_attn-effects-latency": "What each choice adds to the latency at each site, % of the backbone's",
    "nas_attn-effects": "What each choice adds at each site",
    "nas_attn-noise": "Each candidate's runs next to its estimate",
    "nas_attn-retrained": "Trained for use",
}
"""By how a plot's name begins; the first that fits."""
_MOST_ROWS = 40
"""Rows of the study note's table at most."""


def publish(storage: BaseStorage, study: int, identity: Callable[[int], int], snapshot: Snapshot) -> None:
    """Brings the notes of the study and its trials and our plots up to date.

    Cheap enough to be called after each trial: reads once, writes what has changed. Several workers may do so at once.

    Args:
        study: its number in Optuna's storage.
        identity: number of a trial -> its number in the storage.
    """
    views = [(view, identity(view.trial)) for view in snapshot.candidates]
    for _ in range(_ROUNDS):
        known = storage.get_study_system_attrs(study)
        wanted = _note_attributes(known, "dashboard:", study_note(snapshot))
        for view, trial in views:
            wanted |= _note_attributes(known, f"dashboard:{trial}:", note(view, snapshot))
        for name, figure in _plots(snapshot).items():
            wanted |= _chunks(known, f"dashboard:plot_data:{name}:", figure)
        changed = {key: value for key, value in wanted.items() if known.get(key) != value}
        if not changed:
            return
        for key, value in changed.items():
            storage.set_study_system_attr(study, key, value)


def note(view: CandidateView, snapshot: Snapshot) -> str:
    """A trial's note (Markdown): placement, outcome, cost, scores. Current estimates only for front and baselines."""
    lines = [f"`{view.placement}`", f"**{_outcome(view)}**"]
    if view.reason:
        lines.append(" ".join(view.reason.split()))
    if view.on_front or view.baseline is not None:
        now = [
            f"{objective_name(objective)} {words.with_spread(snapshot, view, index)}"
            for index, objective in enumerate(snapshot.objectives)
        ]
        lines.append(f"Estimated now: {', '.join(now)}.")
        if view.beats_none is not None:
            lines.append(f"Probability of being better than the bare backbone: {format_probability(view.beats_none)}.")
    if view.cost is not None:
        lines.append(f"{units.counted(view.cost)}.")
    if view.scores:
        lines.append(_scores(snapshot, view))
    return "\n\n".join(lines)


def study_note(snapshot: Snapshot) -> str:
    """The study's note (Markdown): recommendation, and the front beside the baselines."""
    best = snapshot.recommendation
    lines = [f"# {snapshot.study}"]
    for result in reversed(snapshot.validations):  # what was tested stands before what is estimated
        lines.append(f"**{verdicts.headline(result)}**")
        lines += [f"- {sentence}" for sentence in verdicts.sentences(result, snapshot)]
    answer = "  \n".join(best.answer) if best else nothing_recommended(snapshot)
    lines += [answer, *snapshot.remarks] if best else [*snapshot.remarks, answer]
    if snapshot.front:
        lines.append(_front(snapshot))
    over = snapshot.counts["running"] == 0 and len(snapshot.candidates) >= snapshot.planned
    untried = suggest(snapshot) if over else ()  # too slow for a note that follows a search
    if untried:
        lines.append("Predicted, never tried:")
        lines.append("\n".join(f"- {words.suggestion(one)}" for one in untried))
    lines.append(
        "The Pareto plot here shows the values told to Optuna when a trial ended. The front above also uses the seeds and the "
        f"latency sessions that came later; after the search, the Pareto plot of the study {snapshot.study}{SUFFIX} shows it."
    )
    lines += [*_classes(snapshot), *_spent(snapshot)]
    lines.append("Estimates from brief training on the validation images, with two standard deviations; not a claim.")
    return "\n\n".join(lines)


def _outcome(view: CandidateView) -> str:
    what = f"baseline: {view.baseline}" if view.baseline else "searched"
    return f"{view.state}, {what}{', on the front' if view.on_front else ''}"


def _scores(snapshot: Snapshot, view: CandidateView) -> str:
    metrics = [
        name
        for name in (tasks.of(snapshot.recipe).metric, "loss")
        if any(name in point.metrics for point in view.scores)
    ]
    metrics = metrics or sorted({name for point in view.scores for name in point.metrics})
    rows = [
        [point.purpose, str(point.seed), str(point.epochs)]
        + [units.value(name, point.metrics.get(name)) for name in metrics]
        for point in view.scores
    ]
    return _table(["run", "seed", "epochs", *metrics], rows)


def _front(snapshot: Snapshot) -> str:
    views = snapshot.ordered({view.key: view for view in (*snapshot.front, *snapshot.baselines)}.values())
    rows = [
        [str(view.trial), ", ".join(filter(None, ["front" if view.on_front else "", view.baseline]))]
        + [words.shown(snapshot, view, index) for index in range(len(snapshot.objectives))]
        + [f"`{view.placement}`"]
        for view in views[:_MOST_ROWS]
    ]
    heads = [words.heading(snapshot, index) for index in range(len(snapshot.objectives))]
    return _table(["trial", "", *heads, "placement"], rows)


def _classes(snapshot: Snapshot) -> list[str]:
    """Accuracy class by class; nothing where no results per image are known."""
    found = snapshot.by_class
    if found is None:
        return []
    views = {view.key: view for view in snapshot.candidates}
    rows = [
        [name, str(count), *(units.value("accuracy", shares[at]) for shares in found.values.values())]
        for at, (name, count) in enumerate(zip(found.classes, found.images, strict=True))
    ]
    head = ["class", "images", *(words.called(views[key], snapshot) for key in found.values)]
    return ["Accuracy class by class:", _table(head, rows[:_MOST_ROWS])]


def _spent(snapshot: Snapshot) -> list[str]:
    rows = words.spent(snapshot)
    said = ", ".join(f"{words.duration(seconds)} for {name} ({count})" for name, count, seconds in rows)
    return [f"Time spent, all workers together: {said}."] if rows else []


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _plots(snapshot: Snapshot) -> dict[str, str]:
    """Name -> figure as JSON."""
    drawn = {f"nas_attn-front-{i}": figure for i, figure in enumerate(figures.front_figures(snapshot), start=1)}
    drawn |= {"nas_attn-learning-curves": figures.learning_curves(snapshot)}
    for what, figure in effect_map.effect_maps(snapshot):  # a metric's own name may hold anything
        drawn[f"nas_attn-effects-{'latency' if what == 'latency' else 'metric'}"] = figure
    drawn |= {"nas_attn-noise": figures.noise_figure(snapshot)}
    drawn |= {f"nas_attn-retrained-{i}": figure for i, figure in enumerate(retrained.retraining_curves(snapshot), 1)}
    return {name: _titled(name, figure) for name, figure in drawn.items() if figure is not None}


def _titled(name: str, figure: go.Figure) -> str:
    """A figure as JSON, with the title that the HTML report gives in its headings."""
    title = next(title for prefix, title in _TITLES.items() if name.startswith(prefix))
    figure.update_layout(title={"text": title, "x": 0.02, "y": 0.97, "yanchor": "top"}, margin_t=110)
    return str(figure.to_json())


def _note_attributes(known: dict[str, Any], prefix: str, ours: str) -> dict[str, Any]:
    """A note's attributes; empty where it stands already. The text below our line is the user's and stays."""
    body_prefix, version = f"{prefix}note_str:", f"{prefix}note_ver"
    old = "".join(str(known[key]) for key in _numbered(known, body_prefix))
    mine, marker, below = old.partition(BELOW)
    if not marker:
        mine, below = "", f"\n\n{old}" if old else ""
    if mine == f"{ours}\n\n":
        return {}
    return {version: int(known.get(version, 0)) + 1, **_chunks(known, body_prefix, f"{ours}\n\n{BELOW}{below}")}


def _chunks(known: dict[str, Any], prefix: str, text: str) -> dict[str, Any]:
    """The text in pieces; pieces left over from a longer one become empty."""
    pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    left_over = len(_numbered(known, prefix)) - len(pieces)
    return {f"{prefix}{i}": piece for i, piece in enumerate(pieces + [""] * max(left_over, 0))}


def _numbered(known: dict[str, Any], prefix: str) -> list[str]:
    """The keys `prefix0`, `prefix1`, … that are there."""
    keys: list[str] = []
    while f"{prefix}{len(keys)}" in known:
        keys.append(f"{prefix}{len(keys)}")
    return keys

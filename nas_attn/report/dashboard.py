"""What optuna-dashboard shows of a study: a note, plots, facts of the answer and its table. All of
it is kept with Optuna's study.
"""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name
from nas_attn.report import frames
from nas_attn.report.figures import drawn_figures
from nas_attn.report.figures.drawing import Told, tell, untold
from nas_attn.report.note import BELOW, SHEET, study_note

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

# Letters of a line of a plot's title, which has half of a window of 1280 pixels
PANEL_TITLE_LETTERS = 46
# Begins the names of our user attributes of a study, and of our plots
OURS = "nas_attn"


def publish(study: optuna.Study, answer: Answer) -> None:
    """Updates the study's user attributes, and its note and plots where optuna-dashboard is
    installed. What a person wrote below our part of the note stays.

    Args:
        study: Optuna's.
        answer: of the study as of now.
    """
    told = study.user_attrs
    for name, fact in _facts(answer).items():
        if name not in told or told[name] != fact:
            study.set_user_attr(name, fact)
    if find_spec("optuna_dashboard") is None:
        return
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    before = get_note(study)
    ours, marker, below = before.partition(BELOW)
    if not marker:
        below = f"\n\n{ours}" if ours else ""
    note = f"{study_note(answer)}\n\n{BELOW}{below}"
    if note != before:
        save_note(study, note)
    for name, drawn in drawn_figures(answer).items():
        figure = _plot(drawn.figure, drawn.title)
        save_plotly_graph_object(study, figure, graph_object_id=f"{OURS}-{name}")


def link_sheet(storage: BaseStorage, study: int, artifact: str) -> None:
    """Lists the answer's table among the study's artifacts, as `optuna.artifacts.upload_artifact`
    does, but under one name. Linking the same artifact again changes nothing.
    """
    link = {
        "artifact_id": artifact,
        "filename": SHEET,
        "mimetype": "text/csv",
        "encoding": None,
    }
    key = f"artifacts:{artifact}"
    text = json.dumps(link)
    if storage.get_study_system_attrs(study).get(key) != text:
        storage.set_study_system_attr(study, key, text)


def _plot(figure: go.Figure, title: str) -> go.Figure:
    """A figure, dark on white in both of the dashboard's themes; its title is what it says. The
    dashboard decides the size.
    """
    bare, told = untold(figure)
    bare.update_layout(paper_bgcolor=figure.layout.paper_bgcolor)
    said = told if told.message else Told(title)
    return tell(bare, said, letters=PANEL_TITLE_LETTERS).update_layout(height=None)


def sheet(answer: Answer) -> str:
    """The answer as a table in CSV: every scored candidate, the front first, in the columns of
    `study.rows("trials")`.
    """
    rows = [row for row in frames.rows(answer, "trials") if row["state"] == "scored"]
    rows.sort(key=lambda row: (not row["on_front"], row["baseline"] is None, row["trial"]))
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _facts(answer: Answer) -> dict[str, Any]:
    """The study's user attributes; empty while no candidate is scored. Each has one name from the
    first on, since Optuna deletes none: an early one would stay beside its successor.
    """
    now = answer.now
    if not any(view.state == "scored" for view in now.candidates):
        return {}
    taken = now.find(answer.taken_key or "")
    facts: dict[str, Any] = {
        "recommended": str(taken.placement) if taken else None,
        "recommended_trial": taken.trial if taken else None,
        "front_trials": [view.trial for view in now.front],
    }
    for index, objective in enumerate(now.objectives):
        name = objective_name(objective)
        facts[name] = _rounded(taken.values[index] if taken else None)
        if now.compared(objective):
            gain = taken.gains.get(name) if taken else None
            unit = units.unit(objective)
            head = f"gain in {name}, {unit.of_differences}".rstrip(", ")
            facts[head] = None if gain is None else _rounded(gain.mean * unit.scale)
    return {f"{OURS}:{name}": fact for name, fact in facts.items()}


def _rounded(number: float | None) -> float | None:
    # never -0.0
    return None if number is None else round(number, 6) + 0.0

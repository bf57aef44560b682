"""What optuna-dashboard shows of a study: notes, plots, the answer. All of it is kept with the
study itself.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.candidates import candidate_called, objective_heading
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name
from nas_attn.report.figures import drawn_figures
from nas_attn.report.figures.drawing import Told, tell, untold
from nas_attn.report.note import BELOW, SHEET, study_note, trial_note

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


# Characters that one attribute holds at most, as in optuna-dashboard (MySQL's limit)
_CHUNK = 2045
# Attempts, if another worker writes at the same time
_ROUNDS = 3
# Letters of a line of a plot's title, which has half of a window of 1280 pixels
PANEL_TITLE_LETTERS = 46
# Begins the names of our user attributes of a study
OUR_ATTRIBUTES = "nas_attn:"


def publish(
    storage: BaseStorage, study: int, identity: Callable[[int], int], answer: Answer
) -> None:
    """Updates notes, plots and the study's user attributes; several workers may do so at once.

    Args:
        storage: Optuna's.
        study: the study's id there.
        identity: a trial's number -> its id there.
        answer: of the study as of now.
    """
    snapshot = answer.now
    attributes = storage.get_study_user_attrs(study)
    for name, fact in _user_attributes(answer).items():
        if name not in attributes or attributes[name] != fact:
            storage.set_study_user_attr(study, name, fact)
    notes = {"dashboard:": study_note(answer)}
    for view in snapshot.candidates:
        notes[f"dashboard:{identity(view.trial)}:"] = trial_note(view, snapshot)
    plots = _plots(answer)
    for _ in range(_ROUNDS):
        stored = storage.get_study_system_attrs(study)
        wanted: dict[str, Any] = {}
        for prefix, text in notes.items():
            wanted |= _note_attributes(stored, prefix, text)
        for name, figure in plots.items():
            wanted |= _chunks(stored, f"dashboard:plot_data:{name}:", figure)
        changed = {key: value for key, value in wanted.items() if stored.get(key) != value}
        if not changed:
            return
        for key, value in changed.items():
            storage.set_study_system_attr(study, key, value)


def link_sheet(storage: BaseStorage, study: int, artifact: str) -> None:
    """Lists the answer's table among the study's artifacts, as `optuna.artifacts.upload_artifact`
    does. Linking the same artifact again changes nothing.
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


def _plots(answer: Answer) -> dict[str, str]:
    """Name -> figure as JSON, dark on white in both of the dashboard's themes; its title is what it
    says. The dashboard decides the size.
    """
    plots = {}
    for name, drawn in drawn_figures(answer).items():
        figure, told = untold(drawn.figure)
        if not told.message:
            told = Told(drawn.title)
        figure.update_layout(paper_bgcolor=drawn.figure.layout.paper_bgcolor)
        tell(figure, told, letters=PANEL_TITLE_LETTERS).update_layout(height=None)
        plots[f"nas_attn-{name}"] = str(figure.to_json())
    return plots


def _note_attributes(attributes: dict[str, Any], prefix: str, ours: str) -> dict[str, Any]:
    """A note's attributes; empty if the note is up to date. The text below our line is the user's
    and stays.
    """
    body_prefix = f"{prefix}note_str:"
    version = f"{prefix}note_ver"
    old = "".join(str(attributes[key]) for key in _numbered(attributes, body_prefix))
    mine, marker, below = old.partition(BELOW)
    if not marker:
        mine = ""
        below = f"\n\n{old}" if old else ""
    if mine == f"{ours}\n\n":
        return {}
    return {
        version: int(attributes.get(version, 0)) + 1,
        **_chunks(attributes, body_prefix, f"{ours}\n\n{BELOW}{below}"),
    }


def _chunks(attributes: dict[str, Any], prefix: str, text: str) -> dict[str, Any]:
    """The text in pieces; pieces left over from a longer one become empty."""
    pieces = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    left_over = len(_numbered(attributes, prefix)) - len(pieces)
    return {f"{prefix}{i}": piece for i, piece in enumerate(pieces + [""] * max(left_over, 0))}


def _numbered(attributes: dict[str, Any], prefix: str) -> list[str]:
    keys: list[str] = []
    while f"{prefix}{len(keys)}" in attributes:
        keys.append(f"{prefix}{len(keys)}")
    return keys


def sheet(answer: Answer) -> str:
    """The answer as a table in CSV: every scored candidate, the front first, in display units."""
    snapshot = answer.now
    scored = [view for view in snapshot.candidates if view.state == "scored"]
    scored.sort(key=lambda view: (not view.on_front, view.baseline is None, view.trial))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    headings = [objective_heading(snapshot, index) for index in range(len(snapshot.objectives))]
    writer.writerow(["trial", "candidate", "front", "means", *headings, "placement"])
    for view in scored:
        cells = [_cell(snapshot, view, index) for index in range(len(snapshot.objectives))]
        front = "yes" if view.on_front else "no"
        name = candidate_called(view, answer)
        means = "" if view.is_bare else view.means
        writer.writerow([view.trial, name, front, means, *cells, str(view.placement)])
    return text.getvalue()


def _user_attributes(answer: Answer) -> dict[str, Any]:
    """The study's user attributes; empty while no candidate is scored."""
    snapshot = answer.now
    if not any(view.state == "scored" for view in snapshot.candidates):
        return {}
    taken = snapshot.find(answer.taken_key or "")
    attributes: dict[str, Any] = {
        "recommended": str(taken.placement) if taken else None,
        "recommended_trial": taken.trial if taken else None,
        "front_trials": [view.trial for view in snapshot.front],
    }
    for index in range(len(snapshot.objectives)):
        heading = objective_heading(snapshot, index)
        attributes[heading] = _number(snapshot, taken, index) if taken else None
    return {f"{OUR_ATTRIBUTES}{name}": value for name, value in attributes.items()}


def _cell(snapshot: Snapshot, view: CandidateView, index: int) -> str:
    number = _number(snapshot, view, index)
    return "" if number is None else f"{number:.10g}"


def _number(snapshot: Snapshot, view: CandidateView, index: int) -> float | None:
    """A gain if it is known, else the value, in display units; None if it is missing."""
    objective = snapshot.objectives[index]
    if not snapshot.compared(objective):
        value = view.values[index]
        return None if value is None else round(value, 6)
    gain = view.gains.get(objective_name(objective))
    if gain is not None:
        # never -0.0
        return round(gain.mean * units.unit(objective).scale, 6) + 0.0
    return 0.0 if view.is_bare else None

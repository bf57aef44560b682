"""What optuna-dashboard shows of a study: a note, plots, facts of the answer and its table. All of
it is kept with Optuna's study.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nas_attn.answer.answer import Answer
from nas_attn.recipe.recipe import objective_name
from nas_attn.report.columns import columns, rows
from nas_attn.report.figures import all_figures
from nas_attn.report.figures.drawing import titled
from nas_attn.report.note import SHEET, study_note

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

# Letters of a line of a plot's title, which has half of a window of 1280 pixels
PANEL_TITLE_LETTERS = 46
# Ends our part of a note
BELOW = "*nas_attn updates this note. Text below this line stays.*"


def publish(study: optuna.Study, answer: Answer) -> None:
    """Updates the study's user attributes, and its note and plots where optuna-dashboard is
    installed. What a person wrote below our part of the note stays.

    Args:
        study: Optuna's.
        answer: of the study as of now.
    """
    told = study.user_attrs
    for name, fact in _facts(answer):
        if name not in told or told[name] != fact:
            study.set_user_attr(name, fact)
    if find_spec("optuna_dashboard") is None:
        return
    from optuna_dashboard import get_note, save_note, save_plotly_graph_object

    before = get_note(study)
    ours, marker, below = before.partition(BELOW)
    if not marker and ours:
        below = f"\n\n{ours}"
    note = f"{study_note(answer)}\n\n{BELOW}{below}"
    if note != before:
        # each saving counts as a version
        save_note(study, note)
    for name, figure in all_figures(answer).items():
        # the dashboard decides the height
        plot = titled(figure, letters=PANEL_TITLE_LETTERS).update_layout(height=None)
        save_plotly_graph_object(study, plot, graph_object_id=f"nas_attn-{name}")


def link_sheet(storage: BaseStorage, study: int, artifact: str) -> None:
    """Lists the answer's table among the study's artifacts, as `optuna.artifacts.upload_artifact`
    does, but under one name.
    """
    link = {
        "artifact_id": artifact,
        "filename": SHEET,
        "mimetype": "text/csv",
        "encoding": None,
    }
    storage.set_study_system_attr(study, f"artifacts:{artifact}", json.dumps(link))


def sheet(answer: Answer) -> str:
    """The answer as a table in CSV: every scored candidate, the front first, in the columns of
    `study.rows("trials")`.
    """
    scored = [row for row in rows(answer, "trials") if row["state"] == "scored"]
    scored.sort(key=lambda row: (not row["on_front"], row["baseline"] is None, row["trial"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(scored[0]) if scored else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(scored)
    return text.getvalue()


def _facts(answer: Answer) -> Iterator[tuple[str, Any]]:
    """The study's user attributes; none while no candidate is scored. Each has one name from the
    first on, since Optuna deletes none: an early one would stay beside its successor.
    """
    now = answer.now
    if not now.counts["scored"]:
        return
    taken = now.find(answer.taken_key or "")
    yield "nas_attn:recommended", str(taken.placement) if taken else None
    yield "nas_attn:recommended_trial", taken.trial if taken else None
    yield "nas_attn:front_trials", [view.trial for view in now.front]
    known = {} if taken is None else {one.name: one.value for one in columns(answer, taken)}
    for objective in now.objectives:
        name = objective_name(objective)
        yield f"nas_attn:{name}", known.get(name)
        if now.compared(objective):
            yield f"nas_attn:{name}_gain", known.get(f"{name}_gain")

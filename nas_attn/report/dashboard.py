"""What optuna-dashboard shows of a study: a note, plots, facts of the answer and its table. All of
it is kept with Optuna's study.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import below, drawing_line, is_placement
from nas_attn.answer.answer_text import rows as card_rows
from nas_attn.answer.candidates import candidate_label
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import remarks
from nas_attn.answer.snapshot import Snapshot
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.model import TARGET_RUNG, TESTED
from nas_attn.recipe.recipe import objective_name
from nas_attn.report.columns import columns, compared, rows, tags
from nas_attn.report.figures import all_figures
from nas_attn.report.figures.style import titled
from nas_attn.system.wrapping import Line, glued

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage

# The name of the answer's table among the study's artifacts
SHEET = "answer.csv"
# Rows of the note's table at most
MOST_ROWS = 40
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


def study_note(answer: Answer) -> str:
    """The study's note: the answer, the tests, the front beside the baselines, and what the
    dashboard's own answer means.
    """
    return "\n\n".join(_paragraphs(answer))


def _paragraphs(answer: Answer) -> Iterator[str]:
    now = answer.now
    yield f"# {now.study}"
    yield f"**{headline(answer)}**"
    if answer.drawing:
        yield f"`{drawing_line(answer.drawing)}`"
    yield _table(["", ""], [[f"**{row.label}**", _said(row)] for row in card_rows(answer)])
    yield "\n".join(f"- {row.label}: {_said(row)}" for row in below(answer))
    yield from remarks(answer)
    for result in reversed(now.validations):
        yield f"**{validation_headline(result)}**"
        yield "\n".join(f"- {sentence}" for sentence in validation_sentences(result, now))
    if now.front:
        head = [one.head for one in compared(answer, now.front[0])]
        lines = [
            [
                str(view.trial),
                ", ".join([candidate_label(view), *tags(answer, view)]),
                # a number stays beside its unit
                *(glued(one.text) for one in compared(answer, view)),
                f"`{view.placement}`",
            ]
            for view in now.shown[:MOST_ROWS]
        ]
        yield _table(["trial", "candidate", *head, "placement"], lines)
    told = "the values that Optuna was told when a trial ended, in most cases of one run"
    best = f"*Best trials* in this dashboard, and its Pareto plot, are the front of {told}."
    if len(now.objectives) == 1:
        best = f"*Best* in this dashboard is the best of {told}. The best of many is partly luck."
    yield (
        f"{best} The answer above also uses the seeds and the latency sessions that came later, and"
        f" allows for luck. After the search, the artifact {SHEET} is the table above."
    )
    yield f"Estimates {provenance(now, now.metric)}, with 95 % intervals; not a claim."


def provenance(now: Snapshot, metric: str) -> str:
    """The training and the images that the estimates of a metric are about."""
    model = now.evidence.get(metric)
    if model is None or model.rung < TARGET_RUNG:
        return "from the search's training, on the validation images"
    images = "test" if model.rung >= TESTED else "validation"
    return f"for training as the target says, on the {images} images"


def _said(row: Line) -> str:
    text = f"`{row.text}`" if is_placement(row) else row.text
    return f"{text} `{row.command}`" if row.command else text


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; empty without lines."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    whole = [line(head), line(["---"] * len(head)), *map(line, lines)]
    return "\n".join(whole) if lines else ""

"""The answer of a study as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nas_attn.answer.answer_text import PLACEMENT, below, drawing_line, rows
from nas_attn.answer.candidates import (
    SIGNS,
    candidate_label,
    candidate_signs,
    network_name,
    placed,
)
from nas_attn.answer.choosing import choice_sentences
from nas_attn.answer.drawing import drawing_of
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import WHY_COLUMNS, remarks, why_rows, why_sentences
from nas_attn.answer.validation_text import (
    validation_headline,
    validation_rows,
    validation_sentences,
)
from nas_attn.cli.common import at_storage, table
from nas_attn.cli.terminal import INDENT, show_command, show_prose
from nas_attn.latency.ratios import not_alone
from nas_attn.recipe import tasks, units
from nas_attn.report.columns import BETTER_THAN_BARE, compared
from nas_attn.system.wrapping import LABEL_COLUMNS

if TYPE_CHECKING:
    from nas_attn.answer.answer import Answer
    from nas_attn.answer.choosing import Chosen
    from nas_attn.answer.drawing import DrawnStage
    from nas_attn.answer.pair_tests import ValidationResult
    from nas_attn.answer.snapshot import CandidateView, Snapshot


def show_answer(out: Console, answer: Answer, storage: str) -> None:
    """The answer: headline, drawing, rows; smaller what stands below."""
    at = at_storage(storage)
    show_prose(out, headline(answer), style="bold")
    _show_drawing(out, answer.drawing)
    for some, style in (
        (rows(answer, at), ""),
        (below(answer, at), "dim"),
    ):
        if some:
            out.print()
        for row in some:
            show_prose(out, row.text, label=row.label, indent=INDENT, style=style)
            if row.command:
                show_command(out, row.command, indent=INDENT + " " * LABEL_COLUMNS)


def _show_drawing(out: Console, stages: Sequence[DrawnStage]) -> None:
    """The network."""
    if stages:
        out.print()
        show_prose(out, drawing_line(stages), indent=INDENT)


def show_why(out: Console, answer: Answer) -> None:
    """The reasons behind the answer, and code that builds it."""
    if answer.judged:
        out.print(table("Why", WHY_COLUMNS, why_rows(answer), right=WHY_COLUMNS[2:6]))
        for sentence in why_sentences(answer):
            show_prose(out, sentence)
        _show_snippet(out, answer.now.find(answer.taken_key or ""))


def show_choice(out: Console, now: Snapshot, choice: Chosen) -> None:
    """The card of what was chosen, and code that builds it."""
    view = choice.view
    drawing = drawing_of(now, view.placement)
    if view.is_bare:
        what = "Keep the bare backbone"
    elif drawing:
        what = f"Take {placed(drawing, view.placement)} ({view.label})"
    else:
        what = f"Take {network_name(view)}"
    _, *sentences = choice_sentences(now, choice)
    show_prose(out, f"{what}: {choice.rule}.", style="bold")
    _show_drawing(out, drawing)
    out.print()
    for sentence in sentences:
        show_prose(out, sentence, indent=INDENT)
    show_prose(out, str(view.placement), label=PLACEMENT, indent=INDENT)
    _show_snippet(out, view)


def show_front(out: Console, answer: Answer) -> None:
    """The front and the baselines, their placements, and the validations; nothing before a
    candidate has been scored, which the card says.
    """
    now = answer.now
    if not now.front:
        return
    right = [*(one.head for one in compared(answer, now.front[0])), BETTER_THAN_BARE]
    title = f"Study {now.study}: the front (*) and the baselines"
    others = [
        f"{SIGNS[means]} {means}" for means in SIGNS if any(v.means is means for v in now.controls)
    ]
    if others:
        title += f"; {', '.join(others)} networks"
    rows = [
        [
            candidate_signs(view),
            candidate_label(view),
            *(one.text for one in compared(answer, view)),
            "" if view.beats_none is None else units.probability(view.beats_none),
        ]
        for view in now.shown
    ]
    out.print(table(title, ["", "candidate", *right], rows, right=right))
    searched = [view for view in now.shown if view.baseline is None]
    for view in searched:
        show_prose(out, str(view.placement), label=f"{view.label:>9}")
    if searched:
        out.print()
    if now.latency is not None and now.latency.beside:
        show_prose(out, f"{not_alone(now.latency.beside)}")
        out.print()
    for sentence in remarks(answer):
        show_prose(out, f"Note: {sentence}")
        out.print()
    for result in reversed(now.validations):
        show_validation(out, result, now)


def show_validation(out: Console, result: ValidationResult, now: Snapshot) -> None:
    """What a validation has shown."""
    show_prose(out, validation_headline(result), style="bold")
    if result.verdicts:
        out.print(
            table(
                "",
                ["network", "test split", "placement"],
                validation_rows(result),
                right=["test split"],
            )
        )
    for sentence in validation_sentences(result, now):
        show_prose(out, sentence, indent="  ")
    out.print()


def _show_snippet(out: Console, view: CandidateView | None) -> None:
    """Python code that builds the network, to paste."""
    if view is not None and view.snippet:
        out.print("\nIn your own code", style="bold")
        out.print(view.snippet, markup=False, highlight=False, soft_wrap=True)


def show_next(
    out: Console,
    answer: Answer,
    *,
    storage: str,
    artifacts: Path | None,
    report: Path | None,
    ended: str,
) -> None:
    """Prints where everything is; once the search has ended, how to look at it in a browser, and
    how to begin with one's own data. What comes next in the study, the answer says.

    Args:
        out: Where it goes.
        answer: The study's answer.
        storage: The address of its database.
        artifacts: Its folder of weights; None if they are in a bucket.
        report: The file of the report; None: there is none.
        ended: Why the search ended.
    """
    from nas_attn.storage.urls import shown_url

    now = answer.now
    out.print()
    if report is not None:
        out.print(f"Report    {report}", markup=False)
    out.print(f"Database  {shown_url(storage)}", markup=False)
    if ended in ("stopped", "time"):
        return
    folder = ""
    if artifacts is not None:
        folder = f" --artifact-dir {shlex.quote(str(artifacts))}"
    out.print(
        f"Browse    optuna-dashboard {shown_url(storage)}{folder}", markup=False, soft_wrap=True
    )
    if now.recipe.data.name != "external" and ":" not in now.recipe.data.name:
        # else it is the user's own data already
        own = " ".join(
            f"--{name} {value}" for name, value in tasks.of(now.recipe).hints.own_images.items()
        )
        out.print(f"Own data  nas-attn init {own}", markup=False, soft_wrap=True)

"""The answer of a study as text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nas_attn import tasks
from nas_attn.analysis.decision import NextStep
from nas_attn.cli.common import at_storage, table
from nas_attn.words import units
from nas_attn.words.answer import command, lines_of_answer
from nas_attn.words.candidates import candidate_label, objective_heading, objective_shown
from nas_attn.words.choosing import choice_sentences
from nas_attn.words.machine import not_alone
from nas_attn.words.recommendation import reasons
from nas_attn.words.remarks import remarks
from nas_attn.words.validation import validation_headline, validation_rows, validation_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas_attn.analysis.choosing import Chosen
    from nas_attn.analysis.snapshot import CandidateView, Snapshot
    from nas_attn.analysis.validation import ValidationResult

ODDS = "better than\nthe bare backbone"


def show_answer(out: Console, now: Snapshot, storage: str) -> None:
    """The recommendation, in at most eight lines; lines that begin with a label are indented."""
    for line in lines_of_answer(now, at_storage(storage)):
        out.print(
            f"  {line}" if line.label else str(line),
            style="" if line.label else "bold",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def show_why(out: Console, now: Snapshot) -> None:
    """The reasons behind the answer, and code that builds it."""
    best = now.recommendation
    if best is not None and now.brief is None:
        _paragraph(out, "Why", reasons(best))
        _show_snippet(out, now.find(best.taken))


def show_choice(out: Console, now: Snapshot, choice: Chosen) -> None:
    """What was chosen, and code that builds it."""
    _paragraph(out, "Chosen", choice_sentences(now, choice))
    out.print(f"  {choice.view.placement}", markup=False, soft_wrap=True)
    _show_snippet(out, choice.view)


def show_front(out: Console, now: Snapshot, *, absolute: bool = False) -> None:
    """The front and the baselines in 80 columns, their placements, and the validations."""
    heads = [
        objective_heading(now, index, absolute=absolute) for index in range(len(now.objectives))
    ]
    title = f"Study {now.study}: the front (*) and the baselines"
    widest = {"candidate": 27, ODDS: 11, **dict.fromkeys(heads, 15)}
    rows = [_row(now, view, absolute) for view in now.shown]
    out.print(
        table(title, ["", "candidate", *heads, ODDS], rows, right=[*heads, ODDS], widest=widest)
    )
    searched = [view for view in now.shown if view.baseline is None]
    for view in searched:
        out.print(f"{view.label:>9}  {view.placement}", markup=False, soft_wrap=True)
    if searched:
        out.print()
    if now.latency is not None and now.latency.beside:
        out.print(f"{not_alone(now.latency.beside)}\n", markup=False)
    for sentence in remarks(now):
        out.print(f"Note: {sentence}\n", markup=False)
    for result in reversed(now.validations):
        show_validation(out, result, now)


def show_validation(out: Console, result: ValidationResult, now: Snapshot) -> None:
    """What a validation has shown."""

    out.print(validation_headline(result), style="bold", markup=False)
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
        out.print(f"  {sentence}", markup=False)
    out.print()


def _row(now: Snapshot, view: CandidateView, absolute: bool) -> list[str]:
    odds = "" if view.beats_none is None else units.probability(view.beats_none)
    values = [
        objective_shown(now, view, index, absolute=absolute) for index in range(len(now.objectives))
    ]
    return ["*" if view.on_front else "", candidate_label(view), *values, odds]


def _paragraph(out: Console, title: str, sentences: Sequence[str]) -> None:
    out.print(title, style="bold")
    for sentence in sentences:
        out.print(f"  {sentence}", markup=False)


def _show_snippet(out: Console, view: CandidateView | None) -> None:
    """Python code that builds the network, to paste."""
    if view is not None and view.snippet:
        out.print("\nIn your own code", style="bold")
        out.print(view.snippet, markup=False, highlight=False, soft_wrap=True)


def show_next(
    out: Console,
    now: Snapshot,
    *,
    storage: str,
    artifacts: Path | None,
    report: Path | None,
    ended: str,
) -> None:
    """Where everything is, and next steps: none before the search ends, no further trials in an
    exhausted space. `artifacts`: the study's folder of them; None if they are in a bucket.
    """
    from nas_attn.storage import shown_url

    at = at_storage(storage)
    out.print()
    if report is not None:
        out.print(f"Report    {report}", markup=False)
    out.print(f"Database  {shown_url(storage)}", markup=False)
    if ended in ("stopped", "time"):
        return
    folder = "" if artifacts is None else f" --artifact-dir {shlex.quote(str(artifacts))}"
    lines = [f"optuna-dashboard {shown_url(storage)}{folder}"]
    if now.recommendation is not None and not now.validations:
        lines.insert(0, f"{command(NextStep('test', now.study, look=True))}{at}")
    if ended != "exhausted":
        lines.append(f"nas-attn resume {now.study} --trials {2 * now.planned}{at}")
    if now.recipe.data.name != "external" and ":" not in now.recipe.data.name:
        # else it is the user's own data already
        own = " ".join(
            f"--{name} {value}" for name, value in tasks.of(now.recipe).hints.own_images.items()
        )
        lines.append(f"nas-attn init {own}")
    _paragraph(out, "\nWorth trying next", lines)

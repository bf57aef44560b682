"""The answer of a study as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nas_attn import tasks
from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.recommendation import format_probability
from nas_attn.cli.common import at_storage, table
from nas_attn.report import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nas_attn.analysis.snapshot import CandidateView, Snapshot
    from nas_attn.analysis.suggestions import Suggestion
    from nas_attn.analysis.validation import ValidationResult

ODDS = "better than\nthe bare backbone"


def show_answer(out: Console, now: Snapshot) -> None:
    """What to take, in at most eight lines."""
    best = now.recommendation
    if best is None:
        out.print(nothing_recommended(now), style="bold", markup=False)
        return
    out.print(best.answer[0], style="bold", markup=False, highlight=False, soft_wrap=True)
    for line in best.answer[1:]:
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def show_why(out: Console, now: Snapshot) -> None:
    """The reasons behind the answer."""
    if now.recommendation is not None:
        out.print("Why", style="bold")
        for sentence in now.recommendation.why:
            out.print(f"  {sentence}", markup=False)


def show_snippet(out: Console, view: CandidateView | None) -> None:
    """Python that builds the network, to be pasted."""
    if view is not None and view.snippet:
        out.print("\nIn your own code", style="bold")
        out.print(view.snippet, markup=False, highlight=False, soft_wrap=True)


def show_front(out: Console, now: Snapshot, *, absolute: bool = False) -> None:
    """What was tested, the front beside the baselines in 80 columns, and what their placements are.

    Args:
        absolute: whether metrics are shown as they are, and not as gains over the bare backbone.
    """
    for result in reversed(now.validations):
        show_validation(out, result, now)
    front = now.front
    others = [view for view in now.ordered(now.baselines) if not view.on_front]
    shown = [*front, *others]
    heads = [words.heading(now, index, absolute=absolute) for index in range(len(now.objectives))]
    title = f"Study {now.study}: the front (*) and the baselines"
    rows = [_row(now, view, absolute) for view in shown]
    columns = ["", "candidate", *heads, ODDS]
    widest = {"candidate": 27, ODDS: 11, **dict.fromkeys(heads, 15)}
    out.print(table(title, columns, rows, right=[*heads, ODDS], widest=widest))
    searched = [view for view in shown if view.baseline is None]
    for view in searched:
        out.print(f"{view.label:>9}  {view.placement}", markup=False, soft_wrap=True)
    if searched:
        out.print()
    if now.latency is not None and now.latency.beside:
        out.print(f"{words.beside(now.latency.beside)}\n", markup=False)
    if now.ties:
        pairs = ", ".join(f"{a.label} and {b.label}" for a, b in now.ties)
        out.print(f"Cannot be told apart in any objective: {pairs}\n", markup=False)
    show_constants(out, now)


def show_suggestions(out: Console, found: Sequence[Suggestion]) -> None:
    """Untried placements; nothing where there are none."""
    if found:
        out.print("\nPredicted, never tried", style="bold")
    for one in found:
        out.print(f"  {words.suggestion(one)}", markup=False)


def show_validation(out: Console, result: ValidationResult, now: Snapshot) -> None:
    """What a validation has shown."""
    from nas_attn.report.verdicts import headline, sentences, summary

    out.print(headline(result), style="bold", markup=False)
    if result.verdicts:
        out.print(table("", ["network", "test split", "placement"], summary(result), right=["test split"]))
    for sentence in sentences(result, now):
        out.print(f"  {sentence}", markup=False)
    out.print()


def show_constants(out: Console, now: Snapshot) -> None:
    """The metrics and rungs that tell no candidates apart, and what that may mean."""
    for sentence in now.remarks:
        out.print(f"Note: {sentence}\n", markup=False)


def _row(now: Snapshot, view: CandidateView, absolute: bool) -> list[str]:
    odds = "" if view.beats_none is None else format_probability(view.beats_none)
    values = [words.shown(now, view, index, absolute=absolute) for index in range(len(now.objectives))]
    return ["*" if view.on_front else "", words.label(view), *values, odds]


def show_next(out: Console, now: Snapshot, *, storage: str, report: Path | None, ended: str) -> None:
    """Where everything is, and what is worth trying next.

    Args:
        ended: why, as workers say it: before the end there is nothing else to try, and no further trials in an exhausted space.
    """
    from nas_attn.analysis.suggestions import suggest
    from nas_attn.storage import shown_url

    at = at_storage(storage)
    out.print()
    if report is not None:
        out.print(f"Report    {report}", markup=False)
    out.print(f"Database  {shown_url(storage)}", markup=False)
    if ended in ("stopped", "time"):
        return
    out.print("\nWorth trying next", style="bold")
    if now.recommendation is not None and not now.validations:
        out.print(f"  nas-attn validate {now.study} --dry-run{at}", markup=False)
    out.print(f"  optuna-dashboard {shown_url(storage)}", markup=False)
    if ended != "exhausted":
        out.print(f"  nas-attn resume {now.study} --trials {2 * now.planned}{at}", markup=False)
        for one in suggest(now)[:1]:
            out.print(f'  nas-attn resume {now.study} --try "{one.placement}"{at}', markup=False)
    if now.recipe.data.name != "external" and ":" not in now.recipe.data.name:  # else it is the user's own already
        own = " ".join(f"--{name} {value}" for name, value in tasks.of(now.recipe).hints.own_images.items())
        out.print(f"  nas-attn init {own}", markup=False)

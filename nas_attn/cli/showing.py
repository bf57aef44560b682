"""The answer of a study as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nas_attn.cli.common import at_storage, table
from nas_attn.report import words

if TYPE_CHECKING:
    from nas_attn.analysis.snapshot import CandidateView, Snapshot


def show_answer(out: Console, now: Snapshot) -> None:
    """The front beside the baselines, and what is recommended."""
    front = now.front
    others = [view for view in now.ordered(now.baselines) if not view.on_front]
    rows = [_row(now, view) for view in [*front, *others]]
    columns = ["", "candidate", *(words.title(o) for o in now.objectives), "better than none", "placement"]
    title = f"Study {now.study}: the front (*) and the baselines"
    out.print(table(title, columns, rows, right=[words.title(o) for o in now.objectives]))
    if now.ties:
        pairs = ", ".join(f"{a.label} and {b.label}" for a, b in now.ties)
        out.print(f"Cannot be told apart in any objective: {pairs}\n", markup=False)
    if now.recommendation is None:
        out.print("No candidate has been trained to the last rung yet, so there is nothing to recommend.")
        return
    out.print("Recommended", style="bold")
    for sentence in now.recommendation.sentences:
        out.print(f"  {sentence}", markup=False)


def _row(now: Snapshot, view: CandidateView) -> list[str]:
    odds = "" if view.beats_none is None else f"{view.beats_none:.0%}"
    values = [_value(objective, view, value) for objective, value in zip(now.objectives, view.values, strict=True)]
    return ["*" if view.on_front else "", view.label, *values, odds, view.placement]


def _value(objective: str, view: CandidateView, value: float | None) -> str:
    shown = words.value(objective, value)
    if objective == "latency" and view.latency is not None and view.latency.sessions and view.placement != "none":
        return f"{shown} ±{(view.latency.high - view.latency.low) / 2:.3f}"
    estimate = view.estimates.get(objective.removeprefix("-"))
    return f"{shown} {words.spread(objective, estimate)}" if estimate else shown


def show_next(out: Console, now: Snapshot, *, storage: str, report: Path | None) -> None:
    """Where everything is, and what is worth trying next."""
    from nas_attn.storage import shown_url

    at = at_storage(storage)
    out.print()
    if report is not None:
        out.print(f"Report    {report}", markup=False)
    out.print(f"Database  {shown_url(storage)}", markup=False)
    out.print("\nWorth trying next", style="bold")
    out.print(f"  nas-attn dashboard {now.study}{at}", markup=False)
    out.print(f"  nas-attn resume {now.study} --trials {2 * now.recipe.search.trials}{at}", markup=False)
    out.print("  nas-attn init --data folder:PATH --backbone torchvision:resnet18", markup=False)

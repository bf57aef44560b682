"""The progress of a study in a line, and the line about a candidate that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nas_attn.answer.progress_facts import Phase, PhaseProgress, Progress
from nas_attn.recipe.recipe import lower_is_better
from nas_attn.recipe.units import duration, named
from nas_attn.storage.records import CandidateRow

PHASE_WORDS = {
    Phase.LONGER: "training the bare network longer",
    Phase.CONFIRMING: "confirming",
    Phase.TESTING: "testing",
    Phase.RETRAINING: "retraining",
    Phase.NARROWING: "measuring latency",
}


def progress_line(progress: Progress, *, working: bool = True) -> str:
    """`4/8 trials, 1 pruned, best accuracy 70.40 %, about 40 s left`; the time left only if
    somebody is `working`.
    """
    parts = [f"{progress.finished}/{progress.trials} trials"]
    for count, word in (
        (progress.pruned, "pruned"),
        (progress.infeasible, "infeasible"),
        (progress.failed, "failed"),
    ):
        if count:
            parts.append(f"{count} {word}")
    best = best_so_far(progress)
    parts += [phase_text(progress.phase), f"best {best}" if best else ""]
    if working:
        parts.append(time_left_text(progress))
    return ", ".join(part for part in parts if part)


ANSWER_SO_FAR = "the answer so far:"
NO_WORKER_RUNS = "no worker is running; to continue:"


def status_line(study: str, progress: Progress, per_hour: float | None, *, at_work: bool) -> str:
    """Where a study is. `per_hour`: candidates at the present pace, None: not known; `at_work`:
    there are workers.
    """
    state = "running"
    if progress.running and not at_work:
        state = "begun (the next worker continues)"
    parts = [
        f"Study {study}: {progress_line(progress, working=False)}",
        f"{progress.running} {state}",
    ]
    if per_hour is not None:
        digits = 0 if per_hour >= 10 else 1
        parts.append(f"{per_hour:,.{digits}f} candidates an hour")
        parts.append(time_left_text(progress))
    return "; ".join(part for part in parts if part)


def best_so_far(progress: Progress) -> str:
    """`accuracy 70.40 %`; empty before the first score."""
    if progress.best is None:
        return ""
    lower = " (lower is better)" if lower_is_better(progress.objective) else ""
    return f"{named(progress.objective, progress.best)}{lower}"


def time_left_text(progress: Progress) -> str:
    """`about 12 min left`, or empty; that the time is over if nothing of it is left."""
    if progress.left_s is None:
        return ""
    if progress.left_s <= 0:
        return "the time is over"
    return f"about {duration(progress.left_s)} left"


def phase_text(phase: PhaseProgress | None) -> str:
    """`testing 2/6 runs`, or empty."""
    if phase is None:
        return ""
    runs = f" {phase.ended}/{phase.total} runs" if phase.total else ""
    return f"{PHASE_WORDS[phase.phase]}{runs}"


def progress_as_json(progress: Progress) -> dict[str, Any]:
    """The counts, with the best value and the phase in words."""
    return {
        "trials": progress.trials,
        "scored": progress.scored,
        "pruned": progress.pruned,
        "infeasible": progress.infeasible,
        "failed": progress.failed,
        "running": progress.running,
        "best": best_so_far(progress),
        "left_s": progress.left_s,
        "phase": phase_text(progress.phase),
        "finished": progress.finished,
    }


def ended_candidate(
    objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None
) -> str:
    """A line about a candidate that has ended."""
    shown = ", ".join(
        named(objective, value) for objective, value in zip(objectives, values or (), strict=False)
    )
    name = f" ({row.baseline})" if row.baseline else ""
    return f"trial {row.trial}{name}: {row.state}: {row.reason or shown}; {row.placement}"

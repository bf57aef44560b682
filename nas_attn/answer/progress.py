"""How far a study is: counts, the best value so far, the phase, the time left."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from nas_attn.recipe.recipe import lower_is_better
from nas_attn.recipe.units import duration, named
from nas_attn.storage.records import CandidateRow

# a pause: longer than so many usual gaps, and than so many seconds
PAUSE = 10.0
LEAST_PAUSE_S = 60.0
# and than so many runs: workers that end together leave gaps of a whole run, which are no pauses
PAUSE_RUNS = 3.0


class Phase(Enum):
    """What happens before or after the candidates."""

    LONGER = "training the bare network longer"
    CONFIRMING = "confirming"
    """Further seeds and rounds for the candidates that matter."""
    TESTING = "testing"
    RETRAINING = "retraining"
    NARROWING = "measuring latency"
    """The front's latencies are measured precisely."""


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """A phase, with its runs."""

    phase: Phase
    ended: int = 0
    total: int = 0

    def __str__(self) -> str:
        """`testing 2/6 runs`."""
        runs = f" {self.ended}/{self.total} runs" if self.total else ""
        return f"{self.phase.value}{runs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a study."""

    trials: int
    """Planned in all."""
    scored: int
    pruned: int
    infeasible: int
    failed: int
    running: int
    objective: str
    """The first one that needs training, else the first."""
    best: float | None = None
    """Its best value so far; None if there is none."""
    left_s: float | None = None
    """Until everything is done; None if too few candidates are finished, or none is open."""
    phase: PhaseProgress | None = None
    """What happens besides the candidates."""

    @property
    def finished(self) -> int:
        return self.scored + self.pruned + self.infeasible + self.failed

    @property
    def best_so_far(self) -> str:
        """`accuracy 70.40 %`; empty before the first score."""
        if self.best is None:
            return ""
        lower = " (lower is better)" if lower_is_better(self.objective) else ""
        return f"{named(self.objective, self.best)}{lower}"

    @property
    def time_left(self) -> str:
        """`about 12 min left`, or empty; that the time is over if nothing of it is left."""
        if self.left_s is None:
            return ""
        if self.left_s <= 0:
            return "the time is over"
        return f"about {duration(self.left_s)} left"

    def as_json(self) -> dict[str, Any]:
        """The counts, with the best value and the phase in words."""
        return {
            "trials": self.trials,
            "scored": self.scored,
            "pruned": self.pruned,
            "infeasible": self.infeasible,
            "failed": self.failed,
            "running": self.running,
            "best": self.best_so_far,
            "left_s": self.left_s,
            "phase": str(self.phase or ""),
            "finished": self.finished,
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
    best = progress.best_so_far
    parts += [str(progress.phase or ""), f"best {best}" if best else ""]
    if working:
        parts.append(progress.time_left)
    return ", ".join(part for part in parts if part)


def status_line(study: str, progress: Progress, per_hour: float | None, *, at_work: bool) -> str:
    """Says where a study is, in a line.

    Args:
        study: its name.
        progress: its counts.
        per_hour: candidates at the present pace; None: not known.
        at_work: whether there are workers.
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
        parts.append(progress.time_left)
    return "; ".join(part for part in parts if part)


def ended_candidate(
    objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None
) -> str:
    """A line about a candidate that has ended."""
    shown = ", ".join(
        named(objective, value) for objective, value in zip(objectives, values or (), strict=False)
    )
    name = f" ({row.baseline})" if row.baseline else ""
    return f"trial {row.trial}{name}: {row.state}: {row.reason or shown}; {row.placement}"


def without_pauses(gaps: Sequence[float], run_s: Callable[[], float]) -> list[float]:
    """The gaps that are no pauses between calls.
    `run_s`: gives the seconds of a run; called only if there may be a pause.
    """
    # of two, one may be a pause
    longest = max(PAUSE * statistics.median_low(gaps), LEAST_PAUSE_S)
    if max(gaps) > longest:
        longest = max(longest, PAUSE_RUNS * run_s())
    return [gap for gap in gaps if gap <= longest]

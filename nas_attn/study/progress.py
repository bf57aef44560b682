"""The progress of a study, cheap enough to read every second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nas_attn.analysis.fronts import minimised
from nas_attn.recipe import lower_is_better
from nas_attn.records import CandidateRow
from nas_attn.storage import StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.pace import PHASES, narrowing, remaining_s
from nas_attn.words.units import duration, named


@dataclass(frozen=True, slots=True)
class Progress:
    trials: int  # planned in all
    scored: int
    pruned: int
    infeasible: int
    failed: int
    running: int
    best: str  # the best value of the first objective so far; empty if there is none
    left_s: float | None = (
        None  # until everything is done; None if too few candidates are finished, or none is open
    )
    phase: str = ""  # what happens after the candidates: `testing 2/6 runs`

    @property
    def finished(self) -> int:
        return self.scored + self.pruned + self.infeasible + self.failed

    @property
    def left(self) -> str:
        """`about 12 min left`, or empty."""
        return "" if self.left_s is None else f"about {duration(self.left_s)} left"

    def line(self, *, working: bool = True) -> str:
        """One line for a person, with the time left if somebody is `working`."""
        counts = [
            f"{n} {word}"
            for word in ("pruned", "infeasible", "failed")
            if (n := getattr(self, word))
        ]
        counts += [
            self.phase,
            f"best {self.best}" if self.best else "",
            self.left if working else "",
        ]
        return ", ".join(filter(None, [f"{self.finished}/{self.trials} trials", *counts]))


def progress(opened: OpenStudy) -> Progress:
    rows, objective = opened.store.candidates(), opened.recipe.objectives[0]
    states = Counter(row.state for row in rows)
    values = [told[0] for told in opened.book.values().values()] if states["scored"] else []
    best = min(values, key=lambda v: minimised([objective], [v]), default=None)
    lower = " (lower is better)" if lower_is_better(objective) else ""
    open_ = opened.trials - len(rows) + states["running"]
    return Progress(
        trials=opened.trials,
        **{
            state: states[state]
            for state in ("scored", "pruned", "infeasible", "failed", "running")
        },
        best="" if best is None else f"{named(objective, best)}{lower}",
        left_s=remaining_s(opened, [row.finished_at for row in rows if row.finished_at], open_),
        phase=_phase(opened.store),
    )


def _phase(store: StudyStore) -> str:
    counts = store.queue.counts()
    for phase, purposes in PHASES.items():
        waiting = sum(counts.get((purpose, "waiting"), 0) for purpose in purposes)
        ended = sum(
            counts.get((purpose, state), 0) for purpose in purposes for state in ("done", "failed")
        )
        if waiting:
            return f"{phase} {ended}/{waiting + ended} runs"
    return "measuring latency" if narrowing(store) else ""


def told(objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None) -> str:
    """A line about a candidate that has ended."""
    words = ", ".join(
        named(objective, value) for objective, value in zip(objectives, values or (), strict=False)
    )
    name = f" ({row.baseline})" if row.baseline else ""
    return f"trial {row.trial}{name}: {row.state}: {row.reason or words}; {row.placement}"

"""How far a study is, cheap enough to ask every second."""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.analysis.objectives import minimised
from nas_attn.analysis.recommendation import format_metric
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.study.opening import OpenStudy


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of a study's candidates."""

    trials: int
    """Planned in all."""
    scored: int
    pruned: int
    infeasible: int
    failed: int
    running: int
    best: str
    """The best value of the first objective so far, empty where there is none."""

    @property
    def finished(self) -> int:
        return self.scored + self.pruned + self.infeasible + self.failed

    def line(self, elapsed_s: float, finished_before: int = 0) -> str:
        """One line for a person; time left from the pace of this run, where one is under way (`elapsed_s` above 0)."""
        counts = [f"{self.finished}/{self.trials} trials"]
        counts += [f"{n} {word}" for word in ("pruned", "infeasible", "failed") if (n := getattr(self, word))]
        new, left = self.finished - finished_before, self.trials - self.finished
        if self.best:
            counts.append(f"best {self.best}")
        if new > 0 and left > 0 and elapsed_s > 0:
            counts.append(f"about {duration(elapsed_s / new * left)} left")
        return ", ".join(counts)


def progress(opened: OpenStudy) -> Progress:
    """The study as of now."""
    rows = opened.store.candidates()
    states = [row.state for row in rows]
    objective = opened.recipe.objectives[0]
    values = [row.values[0] for row in rows if row.values]
    best = min(values, key=lambda v: minimised([objective], [v]), default=None)
    return Progress(
        trials=opened.trials,
        scored=states.count("scored"),
        pruned=states.count("pruned"),
        infeasible=states.count("infeasible"),
        failed=states.count("failed"),
        running=states.count("running"),
        best=""
        if best is None
        else f"{said(objective, best)}{' (lower is better)' if lower_is_better(objective) else ''}",
    )


def said(objective: str, value: float) -> str:
    """`accuracy 70.40 %`, `latency 1.192`: an objective of a run, in a line."""
    return f"{objective} {format_metric(objective_name(objective), value)}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

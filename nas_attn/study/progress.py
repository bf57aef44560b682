"""How far a study is, cheap enough to ask every second."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.fronts import minimised
from nas_attn.analysis.units import duration, named
from nas_attn.model.front import non_dominated
from nas_attn.recipe import lower_is_better
from nas_attn.records import CandidateRow
from nas_attn.study.opening import OpenStudy

PACE_OF = 30
"""Candidates finished last whose times give the pace."""
FEWEST = 2
"""Times between candidates from which on there is a pace."""
PAUSE = 10.0
"""Times as long as usual: nobody was at work."""


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds that are left, and between what they will be in all likelihood."""

    seconds: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """`about 12 min left (9 min to 16 min)`."""
        low, high = duration(self.low), duration(self.high)
        return f"about {duration(self.seconds)} left" + (f" ({low} to {high})" if low != high else "")


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

    left: Left | None = None
    """Time until the planned ones are finished; None where too few are, or none is open."""

    def line(self, *, working: bool = True) -> str:
        """One line for a person.

        Args:
            working: whether somebody is at it, so that there is a time left.
        """
        counts = [f"{self.finished}/{self.trials} trials"]
        counts += [f"{n} {word}" for word in ("pruned", "infeasible", "failed") if (n := getattr(self, word))]
        if self.best:
            counts.append(f"best {self.best}")
        if working and self.left is not None:
            counts.append(self.left.text)
        return ", ".join(counts)


def progress(opened: OpenStudy) -> Progress:
    """The study as of now."""
    rows, objective = opened.store.candidates(), opened.recipe.objectives[0]
    states = Counter(row.state for row in rows)
    values = [told[0] for told in opened.book.values().values()] if states.get("scored") else []
    best = min(values, key=lambda v: minimised([objective], [v]), default=None)
    done = sum(many for state, many in states.items() if state != "running")
    return Progress(
        trials=opened.trials,
        scored=states.get("scored", 0),
        pruned=states.get("pruned", 0),
        infeasible=states.get("infeasible", 0),
        failed=states.get("failed", 0),
        running=states.get("running", 0),
        left=time_left([row.finished_at for row in rows if row.finished_at], opened.trials - done),
        best=""
        if best is None
        else f"{named(objective, best)}{' (lower is better)' if lower_is_better(objective) else ''}",
    )


def told(objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None) -> str:
    """A candidate that has ended, in a line: its state, its values or the reason, its placement."""
    words = ", ".join(named(objective, value) for objective, value in zip(objectives, values or (), strict=False))
    name = f" ({row.baseline})" if row.baseline else ""
    return f"trial {row.trial}{name}: {row.state}: {row.reason or words}; {row.placement}"


def front_now(opened: OpenStudy, values: Mapping[int, Sequence[float]]) -> list[int]:
    """Trials on the front of these values, the best in the first objective first.

    Args:
        values: trial -> its values as told to Optuna.
    """
    costs = {trial: minimised(opened.recipe.objectives, told) for trial, told in sorted(values.items())}
    on: Sequence[bool] = list(non_dominated(list(costs.values()))) if costs else []
    return sorted(itertools.compress(costs, on), key=lambda trial: (costs[trial][0], trial))


def time_left(finished: Sequence[float], open_: int) -> Left | None:
    """From how long the last candidates were apart; a pause between two calls of the program counts as none.

    Args:
        finished: when candidates were finished, in any order.
        open_: how many are to come.
    """
    times = sorted(finished)[-PACE_OF:]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    if len(gaps) < FEWEST or open_ <= 0:
        return None
    usual = statistics.median(gaps)
    gaps = [gap for gap in gaps if gap <= PAUSE * max(usual, 1e-3)]
    mean = statistics.fmean(gaps)
    spread = statistics.stdev(gaps) if len(gaps) > 1 else mean
    error = 2 * spread * math.sqrt(open_ + open_**2 / len(gaps))
    return Left(open_ * mean, max(open_ * min(gaps), open_ * mean - error), open_ * mean + error)

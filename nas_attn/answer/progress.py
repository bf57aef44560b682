"""How far a study is, and how long the rest takes at the pace of its runs. It is read every second,
so it counts and adds up in the database, and reads no scores.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nas_attn.answer.answer import answer_of
from nas_attn.answer.fronts import leading, minimised
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.rounds import (
    CONFIRMED,
    NARROW,
    RIVALS,
    ROUNDS_PER_SEED,
    all_rounds_ran,
    to_compare,
)
from nas_attn.recipe.purposes import CONFIRM, LENGTH, RETRAIN, ROUND, VALIDATE
from nas_attn.recipe.recipe import Recipe, lower_is_better
from nas_attn.recipe.units import duration, named
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import CandidateRow
from nas_attn.storage.store import StudyStore

# what happens before or after the candidates -> purposes of its runs
PHASES = {
    "training the bare backbone longer": (LENGTH,),
    "confirming": (CONFIRM, ROUND),
    "testing": (VALIDATE,),
    "retraining": (RETRAIN,),
}
# the phase in which the front's latencies are measured precisely
NARROWING = "measuring latency"
# the pace is that of so many candidates, the last ones
PACE_OF = 30
# times between candidates that a pace needs
FEWEST_TIMES = 2
# of runs, by purpose and state
Counts = Mapping[tuple[str, str], int]


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
    best: str = ""
    """The best value so far, `accuracy 70.40 %`; empty before the first score."""
    left_s: float | None = None
    """Until everything is done; None if no run has ended, or nothing is left."""
    phase: str = ""
    """What happens besides the candidates, `testing 2/6 runs`."""

    @property
    def finished(self) -> int:
        return self.scored + self.pruned + self.infeasible + self.failed

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
        return {**asdict(self), "finished": self.finished}


def progress_line(progress: Progress, *, working: bool = True) -> str:
    """`4/8 candidates, 1 pruned, best accuracy 70.40 %, about 40 s left`; the time left only if
    somebody is `working`.
    """
    parts = [f"{progress.finished}/{progress.trials} candidates"]
    for count, word in (
        (progress.pruned, "pruned"),
        (progress.infeasible, "infeasible"),
        (progress.failed, "failed"),
    ):
        if count:
            parts.append(f"{count} {word}")
    parts += [progress.phase, f"best {progress.best}" if progress.best else ""]
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


def progress(opened: OpenStudy) -> Progress:
    """The progress of a study as of now."""
    rows = opened.store.candidates()
    states = Counter(row.state for row in rows)
    counts = opened.store.queue.counts()
    return Progress(
        trials=opened.trials,
        scored=states["scored"],
        pruned=states["pruned"],
        infeasible=states["infeasible"],
        failed=states["failed"],
        running=states["running"],
        best=_best(opened) if states["scored"] else "",
        left_s=_left_s(opened, counts, opened.trials - len(rows) + states["running"]),
        phase=_phase(opened.store, counts),
    )


def _best(opened: OpenStudy) -> str:
    """The best value of the first objective that needs training, else of the first, in words."""
    leads = leading(opened.recipe.objectives)
    objective = opened.recipe.objectives[leads]
    values = opened.store.told_values(leads)
    if not values:
        return ""
    best = min(values, key=lambda value: minimised([objective], [value]))
    lower = " (lower is better)" if lower_is_better(objective) else ""
    return f"{named(objective, best)}{lower}"


def _phase(store: StudyStore, counts: Counts) -> str:
    """The phase that has waiting runs, or measures the front's latencies; empty among the
    candidates.
    """
    for phase, purposes in PHASES.items():
        waiting = _runs(counts, purposes, "waiting")
        if waiting:
            ended = _runs(counts, purposes, "done", "failed")
            return f"{phase} {ended}/{waiting + ended} runs"
    return NARROWING if narrowing(store) else ""


def _runs(counts: Counts, purposes: Sequence[str], *states: str) -> int:
    return sum(counts.get((purpose, state), 0) for purpose in purposes for state in states)


def narrowing(store: StudyStore) -> bool:
    return bool(store.held(NARROW))


def _left_s(opened: OpenStudy, counts: Counts, open_: int) -> float | None:
    """Seconds until a study is complete: what is left of its time, else its open runs, each as long
    as the median run, divided among the workers.

    Args:
        opened: The study.
        counts: Its runs.
        open_: Candidates that have not ended.

    Returns:
        None: nothing is left, or no run has ended.
    """
    store = opened.store
    tests = _runs(counts, (VALIDATE, RETRAIN), "waiting")
    if store.settings.ends_at is not None and not tests:
        return max(0.0, store.settings.ends_at - opened.database.now()) or None
    training = opened.recipe.target_training if tests else opened.recipe.training
    goes_on = open_ > 0 or bool(store.workers.rows())
    runs = tests or open_ + _further(opened, counts, goes_on=goes_on)
    epoch_s = seconds_per_epoch(store) or 0.0
    return runs * training.rungs[-1] * epoch_s / store.workers.at_once() or None


def _further(opened: OpenStudy, counts: Counts, *, goes_on: bool) -> int:
    """Runs between the candidates and the answer that are still to come.

    `goes_on`: whether somebody is at work, or will be for the candidates.
    """
    waiting = _runs(counts, (CONFIRM, ROUND), "waiting")
    seeds = opened.recipe.search.confirm_seeds
    if not seeds or not (goes_on or waiting):
        return waiting
    if opened.store.settings.confirmed_trials != opened.trials:
        return further_runs(opened.recipe, opened.trials)
    return waiting


def round_size(trials: int) -> int:
    """Candidates in a round: the bare backbone, the best-looking one, its rivals."""
    return min(2 + RIVALS, trials)


def further_runs(recipe: Recipe, trials: int) -> int:
    """Runs that come after the last candidate, fewer where few were scored: more seeds for those
    that matter, and rounds.
    """
    return recipe.search.confirm_seeds * (
        min(CONFIRMED, trials) + ROUNDS_PER_SEED * round_size(trials)
    )


def seconds_per_epoch(store: StudyStore, key: str | None = None) -> float | None:
    """What an epoch of a candidate (or of one network) has taken so far, its scoring included, the
    median over runs; None before the first score.
    """
    each = [seconds / max(1, epochs) for epochs, seconds in store.run_times(key)]
    return statistics.median(each) or None if each else None


def is_unfinished(opened: OpenStudy, reached: Progress) -> bool:
    """Whether a worker that comes now would find work, though nobody asked for more."""
    exhausted = opened.store.settings.exhausted_at is not None and not reached.running
    if reached.finished < reached.trials and not exhausted:
        return True
    return bool(reached.phase) or _needs_more(opened)


def _needs_more(opened: OpenStudy) -> bool:
    """Whether further seeds or a round are not chosen yet. In a search with a time, the clock
    decides how many there are: then it is not known.
    """
    settings = opened.store.settings
    if not opened.recipe.search.confirm_seeds or settings.test_from is not None:
        return False
    if settings.confirmed_trials != opened.trials:
        return True
    if all_rounds_ran(opened.store, opened.recipe):
        return False
    return bool(to_compare(answer_of(searched_snapshot(opened.store))))

"""How far a study is, cheap enough to read every second, and how long the rest takes at the pace of
what has ended.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from nas_attn.answer.fronts import leading, minimised
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.rounds import (
    CONFIRMED,
    RIVALS,
    ROUNDS_PER_SEED,
    all_rounds_ran,
    next_round,
    rounds_begun,
)
from nas_attn.answer.workers import without_pauses
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.latency.ratios import ENOUGH_SESSIONS, sessions_needed
from nas_attn.recipe.purposes import CONFIRM, LENGTH, RETRAIN, ROUND, SEARCH, VALIDATE
from nas_attn.recipe.recipe import Recipe, lower_is_better
from nas_attn.recipe.units import duration, named
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import CandidateRow, Session
from nas_attn.storage.store import StudyStore


class Phase(Enum):
    """What happens before or after the candidates."""

    LONGER = "training the bare backbone longer"
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


# the pace is that of so many candidates, the last ones
PACE_OF = 30
# purposes of the runs between the candidates and the answer
FURTHER = (CONFIRM, ROUND)
# lease of the worker that measures the front's latencies precisely
NARROW = "narrow"
PURPOSES_OF_PHASE = {
    Phase.LONGER: (LENGTH,),
    Phase.CONFIRMING: FURTHER,
    Phase.TESTING: (VALIDATE,),
    Phase.RETRAINING: (RETRAIN,),
}
# times between candidates that a pace needs
FEWEST_TIMES = 2
# share of the training time for latency sessions, once each network has a few
LATENCY_SHARE = 0.25
# seconds between two latency sessions: networks are built, results are read
BETWEEN_S = 0.1
# latency sessions whose times give the pace of further ones
LAST_SESSIONS = 8
# of runs, by purpose and state
Counts = Mapping[tuple[str, str], int]


def progress(opened: OpenStudy) -> Progress:
    """The progress of a study as of now."""
    rows = opened.store.candidates()
    leads = leading(opened.recipe.objectives)
    objective = opened.recipe.objectives[leads]
    states = Counter(row.state for row in rows)
    values = opened.store.told_values(leads) if states["scored"] else []
    if states["scored"] and not values:
        # its trials are gone, and the book says how
        values = [told[leads] for told in opened.book.values().values()]
    best = min(values, key=lambda v: minimised([objective], [v]), default=None)
    open_ = opened.trials - len(rows) + states["running"]
    return Progress(
        trials=opened.trials,
        scored=states["scored"],
        pruned=states["pruned"],
        infeasible=states["infeasible"],
        failed=states["failed"],
        running=states["running"],
        objective=objective,
        best=best,
        left_s=remaining_s(opened, [row.finished_at for row in rows if row.finished_at], open_),
        phase=_phase(opened.store),
    )


def _phase(store: StudyStore) -> PhaseProgress | None:
    """The phase that has waiting runs, or measures the front's latencies; None among the
    candidates.
    """
    counts = store.queue.counts()
    for phase, purposes in PURPOSES_OF_PHASE.items():
        waiting = sum(counts.get((purpose, "waiting"), 0) for purpose in purposes)
        ended = sum(
            counts.get((purpose, state), 0) for purpose in purposes for state in ("done", "failed")
        )
        if waiting:
            return PhaseProgress(phase, ended, waiting + ended)
    if narrowing(store):
        return PhaseProgress(Phase.NARROWING)
    return None


def narrowing(store: StudyStore) -> bool:
    return any(lease.resource == NARROW for lease in store.leases(released=False))


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


def remaining_s(opened: OpenStudy, finished: Sequence[float], open_: int) -> float | None:
    """Says about how long the rest of a study takes, to about a tenth where its runs are long.

    Args:
        opened: the study.
        finished: Unix seconds at which candidates have ended.
        open_: candidates that have not.

    Returns:
        Seconds: what is left of its time; else its open candidates at the pace of the last ones,
        and the runs that follow at the pace of an epoch. None: not known, or nothing is left.
    """
    store = opened.store
    counts = store.queue.counts()
    limit_s = None
    if store.settings.ends_at is not None:
        limit_s = max(0.0, store.settings.ends_at - opened.database.now())
    later = sum(counts.get((purpose, "waiting"), 0) for purpose in (VALIDATE, RETRAIN))
    if later:
        return max(later * (target_s(opened) or 0.0), limit_s or 0.0) or None
    if limit_s is not None:
        return limit_s
    candidates_s = 0.0
    if open_ > 0:
        at_pace = time_left(finished, open_, lambda: _run_s(opened))
        if at_pace is None:
            return None
        candidates_s = at_pace
    goes_on = open_ > 0 or counts.get((CONFIRM, "waiting"), 0) or store.workers.rows()
    if opened.recipe.search.confirm_seeds and goes_on:
        candidates_s += _further_s(opened, counts)
    return candidates_s or None


def _further_s(opened: OpenStudy, counts: Counts) -> float:
    """Seconds of further seeds, rounds, and the last latency sessions."""
    store = opened.store
    recipe = opened.recipe
    runs = counts.get((CONFIRM, "waiting"), 0) + counts.get((ROUND, "waiting"), 0)
    rounds = 0
    if store.settings.confirmed_trials != opened.trials:
        runs = further_runs(recipe, opened.trials)
        rounds = ROUNDS_PER_SEED * recipe.search.confirm_seeds
    elif not narrowing(store):
        begun = rounds_begun(store) - store.settings.rounds_before
        rounds = max(0, ROUNDS_PER_SEED * recipe.search.confirm_seeds - begun)
        runs += rounds * round_size(opened.trials)
    runs_s = runs * _run_s(opened) / worker_count(store)
    if recipe.training.start == "backbone":
        # all workers wait for a round's fresh backbone
        runs_s += rounds * recipe.training.backbone_epochs * (seconds_per_epoch(store) or 0.0)
    keys = {row.run.key for row in store.queue.rows(purposes=FURTHER)}
    if not keys:
        scored = [row.key for row in store.candidates() if row.state == "scored"]
        keys = set(scored[:CONFIRMED])
    sessions = last_sessions(opened, keys, runs_s * worker_count(store))
    return runs_s + sessions * (_session_s(store.sessions()[-LAST_SESSIONS:]) + BETWEEN_S)


def _run_s(opened: OpenStudy) -> float:
    """About how long a candidate's training takes one worker; 0 where nothing is known."""
    return opened.recipe.training.rungs[-1] * (seconds_per_epoch(opened.store) or 0.0)


def seconds_per_epoch(store: StudyStore, key: str | None = None) -> float | None:
    """What an epoch of a candidate (or of one network) has taken so far, its scoring included; None
    before the first score.
    """
    paces: list[float] = []
    before: dict[tuple[str, int, int], int] = {}
    for stored in store.scores(key, protocol=SEARCH):
        place = (stored.key, stored.score.seed, stored.backbone)
        score = stored.score
        paces.append(score.wall_s / max(1, score.epochs - before.get(place, 0)))
        before[place] = score.epochs
    if paces:
        return statistics.median(paces)
    return None


def last_sessions(opened: OpenStudy, keys: Iterable[str], more_s: float = 0.0) -> int:
    """Number of latency sessions that these networks still get: as many as their tolerance seems to
    need, within their share of time.

    It is known before the first session, and so is the time left. `more_s`: seconds of trainings
    that are to come.
    """
    store = opened.store
    bare = {row.key for row in opened.store.candidates() if row.placement == BARE}
    mine = set(keys) - bare
    further = store.queue.rows(purposes=FURTHER)
    waiting = any(row.state == "waiting" for row in further)
    if waiting:
        trained_at = math.inf
    else:
        trained_at = max((row.finished_at or 0.0 for row in further), default=math.inf)
    sessions = store.sessions()
    before = [session for session in sessions if session.started_at < trained_at]
    needed = sessions_needed(before, mine, tolerance=opened.recipe.latency.front_tolerance)
    if not before or not needed:
        return 0
    allowed = math.ceil(
        _latency_share_s(opened, before, mine, more_s) / _session_s(before[-LAST_SESSIONS:])
    )
    planned = min(max(needed) * math.ceil(len(needed) / MAX_CANDIDATES), allowed)
    return max(0, planned - (len(sessions) - len(before)))


def _session_s(sessions: Sequence[Session]) -> float:
    if sessions:
        return statistics.fmean(session.duration_s for session in sessions)
    return 0.0


def _latency_share_s(
    opened: OpenStudy, sessions: Sequence[Session], keys: Iterable[str], more_s: float
) -> float:
    """Seconds for these networks' further sessions: what is left of their share, or enough for
    ENOUGH_SESSIONS of each.
    """
    had = Counter(sample.key for session in sessions for sample in session.samples)
    fewest = min((had[key] for key in keys), default=ENOUGH_SESSIONS)
    trained_s = more_s + sum(stored.score.wall_s for stored in opened.store.scores(protocol=SEARCH))
    left_s = LATENCY_SHARE * trained_s - sum(session.duration_s for session in sessions)
    return max(left_s, opened.recipe.latency.session_seconds * (ENOUGH_SESSIONS - fewest), 0.0)


def time_left(finished: Sequence[float], open_: float, run_s: Callable[[], float]) -> float | None:
    """Seconds for `open_` more candidates, from the times at which others finished; pauses between
    calls are left out.
    `run_s`: gives the seconds of a run; called only if there may be a pause.
    """
    times = sorted(finished)[-PACE_OF:]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    if len(gaps) < FEWEST_TIMES or open_ <= 0:
        return None
    return open_ * statistics.fmean(without_pauses(gaps, run_s))


def worker_count(store: StudyStore) -> int:
    """Workers of the study now, at least one."""
    return max(1, len(store.workers.rows()))


def target_s(opened: OpenStudy) -> float | None:
    """Seconds that a run as the target says takes, divided by the workers; None if unknown."""
    each_s = seconds_per_epoch(opened.store)
    epochs = opened.recipe.target_training.rungs[-1]
    if each_s is None:
        return None
    return each_s * epochs / worker_count(opened.store)


def is_unfinished(opened: OpenStudy, reached: Progress) -> bool:
    """Whether a worker that comes now would find work, though nobody asked for more."""
    exhausted = opened.store.settings.exhausted_at is not None and not reached.running
    if reached.finished < reached.trials and not exhausted:
        return True
    return reached.phase is not None or _needs_more(opened)


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
    # whether there is one does not depend on the rivals that are drawn
    return bool(next_round(searched_snapshot(opened.store), np.random.default_rng(0)))

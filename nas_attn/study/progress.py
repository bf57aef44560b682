"""The progress of a study, cheap enough to read every second."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nas_attn.analysis.arithmetic import ArithmeticUse
from nas_attn.analysis.choosing import CONFIRMED, RIVALS
from nas_attn.analysis.fronts import minimised
from nas_attn.analysis.latency import ENOUGH_SESSIONS, sessions_needed
from nas_attn.analysis.units import duration, named
from nas_attn.errors import NasAttnError
from nas_attn.latency import MAX_CANDIDATES
from nas_attn.processes import is_dead, machine_and_pid
from nas_attn.purposes import BACKBONE, CONFIRM, LENGTH, RETRAIN, ROUND, SEARCH, VALIDATE
from nas_attn.recipe import Recipe, lower_is_better
from nas_attn.records import BARE, CandidateRow, Session
from nas_attn.storage import FormerWorker, StudyStore, WorkerRow
from nas_attn.study.launching import engine, launches
from nas_attn.study.opening import OpenStudy
from nas_attn.study.reading import arithmetic_uses

PACE_OF = 30  # the pace is that of so many candidates, the last ones
FURTHER = (CONFIRM, ROUND)  # purposes of the runs between the candidates and the answer
NARROW = "narrow"  # lease of the worker that measures the front's latencies precisely
LATER = (VALIDATE, RETRAIN)  # of the runs that train as the target says
PHASES = {
    "training the bare network longer": (LENGTH,),
    "confirming": FURTHER,
    "testing": (VALIDATE,),
    "retraining": (RETRAIN,),
}  # their purposes
ROUNDS = 2  # for each of `search.confirm_seeds`
FEWEST = 2  # times between candidates that a pace needs
SILENT_S = 60.0  # a worker is silent after this time; it renews its leases four times as often
LATENCY_SHARE = 0.25  # share of the training time for latency sessions, once each network has a few
BETWEEN_S = 0.1  # seconds between two latency sessions: networks are built, results are read
END_S = 4.0  # seconds from the last run or session to the answer
LAST_SESSIONS = 8  # latency sessions whose times give the pace of further ones
_Counts = Mapping[tuple[str, str], int]  # of runs, by purpose and state
PAUSE, LEAST_PAUSE_S = (
    10.0,
    60.0,
)  # a pause: longer than so many usual gaps, and than so many seconds
# and than so many runs: workers that end together leave gaps of a whole run, which are no pauses
PAUSE_RUNS = 3.0


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
        left_s=_left_s(opened, [row.finished_at for row in rows if row.finished_at], open_),
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
    return "measuring latency" if _narrowing(store) else ""


def _narrowing(store: StudyStore) -> bool:
    return any(lease.resource == NARROW for lease in store.leases(released=False))


def round_size(trials: int) -> int:
    """Candidates in a round: the bare backbone, the best-looking one, its rivals."""
    return min(2 + RIVALS, trials)


def further_runs(recipe: Recipe, trials: int) -> int:
    """Runs that come after the last candidate, fewer where few were scored: more seeds for those
    that matter, and rounds.
    """
    return recipe.search.confirm_seeds * (min(CONFIRMED, trials) + ROUNDS * round_size(trials))


def _left_s(opened: OpenStudy, finished: Sequence[float], open_: int) -> float | None:
    """The rest of the study's time limit; else the time for open candidates at the last pace, and
    for what follows.
    """
    store, counts = opened.store, opened.store.queue.counts()
    waiting = {
        phase: sum(counts.get((p, "waiting"), 0) for p in purposes)
        for phase, purposes in PHASES.items()
    }
    later, ends_at = waiting["testing"] + waiting["retraining"], store.settings.ends_at
    set_s = None if ends_at is None else max(0.0, ends_at - opened.database.now())
    if later:
        return max(later * _later_run_s(opened, finished), set_s or 0.0) or None
    if set_s is not None:
        return set_s
    run_s = partial(_one_run_s, opened, opened.recipe.training.rungs[-1])
    candidates_s, rest_s = time_left(finished, open_, run_s), 0.0
    if open_ > 0 and candidates_s is None:
        return None
    if opened.recipe.search.confirm_seeds and (
        open_ > 0 or waiting["confirming"] or store.workers.rows()
    ):
        rest_s = _confirming_s(opened, counts, finished)
    return (candidates_s or 0.0) + rest_s or None


def _later_run_s(opened: OpenStudy, finished: Sequence[float]) -> float:
    """About how long a run as the target says takes, divided by the workers."""
    store, now = opened.store, opened.database.now()
    rows = [
        row
        for row in store.queue.rows(purposes=[*FURTHER, *LATER])
        if row.finished_at and row.state != "waiting"
    ]
    ended = sorted(row.finished_at or 0.0 for row in rows if row.run.purpose in LATER)
    before = [
        *finished,
        *(row.finished_at or 0.0 for row in rows),
        *(now - row.here_s for row in store.workers.rows()),
    ]
    began = [max(at for at in before if at < ended[0])] if ended and min(before) < ended[0] else []
    return _run_s(opened, [*began, *ended], opened.recipe.target_training.rungs[-1], finished)


def _confirming_s(opened: OpenStudy, counts: _Counts, finished: Sequence[float]) -> float:
    """About how long the steps after the candidates take: further seeds, rounds, latencies, the
    report.
    """
    store, seeds = opened.store, opened.recipe.search.confirm_seeds
    half = len(store.workers.rows()) / 2  # a run that is under way is half done
    runs, rounds = max(0.0, counts.get((CONFIRM, "waiting"), 0) - half), 0.0
    if store.settings.confirmed_trials != opened.trials:
        runs, rounds = float(seeds * min(CONFIRMED, opened.trials)), float(ROUNDS * seeds)
    elif not _narrowing(store):  # the last thing before the answer
        begun = (
            len({row.run.round for row in store.queue.rows(purposes=[ROUND])})
            - store.settings.rounds_before
        )
        under_way = sum(counts.get((purpose, "waiting"), 0) for purpose in (ROUND, BACKBONE))
        rounds = (
            ROUNDS * seeds
            - begun
            + min(1.0, max(0.0, under_way - half) / (1 + round_size(opened.trials)))
        )
    runs_s = _further_s(opened, runs, rounds, finished)
    return runs_s + _measuring_s(opened, runs_s * max(1, len(store.workers.rows()))) + END_S


def _further_s(opened: OpenStudy, runs: float, rounds: float, finished: Sequence[float]) -> float:
    """About how long so many further runs and rounds take, at the pace of those before. All workers
    wait for a round's fresh backbone, and for its last run.
    """
    store, training = opened.store, opened.recipe.training
    rows = store.queue.rows(purposes=FURTHER)
    open_ = {row.run.round for row in rows if row.state == "waiting"}
    ended = [
        (row.run.round, row.finished_at)
        for row in rows
        if row.state != "waiting" and row.finished_at
    ]
    began = max(finished, default=0.0)
    run_s = _run_s(
        opened, [began, *(at for number, at in ended if not number)], training.rungs[-1], finished
    )
    ends = {
        number: max(at for of, at in ended if of == number)
        for number, _ in ended
        if number not in open_
    }
    alone_s = (
        training.backbone_epochs * (seconds_per_epoch(store) or 0.0)
        if training.start == "backbone"
        else 0.0
    )
    round_s = (
        time_left(list(ends.values()), 1, lambda: round_size(opened.trials) * run_s)
        or alone_s + round_size(opened.trials) * run_s
    )
    return runs * run_s + rounds * round_s


def _run_s(
    opened: OpenStudy, ended: Sequence[float], epochs: int, candidates: Sequence[float]
) -> float:
    """About how long a run takes, divided by the workers: at the pace of those that have ended;
    before the first has, at the candidates' pace without their latency sessions.
    """
    at_pace = time_left(ended, 1, partial(_one_run_s, opened, epochs))
    if at_pace is not None:
        return at_pace
    store, longest = opened.store, opened.recipe.training.rungs[-1]
    pace_s = time_left(candidates, 1, partial(_one_run_s, opened, longest)) or 0.0
    workers = max(1, len(store.workers.rows()))
    candidate_s = workers * pace_s - _session_s(store.sessions()[-LAST_SESSIONS:])
    epoch_s = max(seconds_per_epoch(store) or 0.0, candidate_s / longest)
    return epochs * epoch_s / workers


def seconds_per_epoch(store: StudyStore, key: str | None = None) -> float | None:
    """What an epoch of a candidate (or of one network) has taken so far, its scoring included; None
    before the first score.
    """
    found: list[float] = []
    before: dict[tuple[str, int, int], int] = {}
    for stored in store.scores(key, protocol=SEARCH):
        place, score = (stored.key, stored.score.seed, stored.backbone), stored.score
        found.append(score.wall_s / max(1, score.epochs - before.get(place, 0)))
        before[place] = score.epochs
    return statistics.median(found) if found else None


def _measuring_s(opened: OpenStudy, more_s: float) -> float:
    """About how long the last latency sessions take, after so many further seconds of training."""
    store, sessions = opened.store, opened.store.sessions()[-LAST_SESSIONS:]
    keys = {row.run.key for row in store.queue.rows(purposes=FURTHER)} or _best_scored(opened)
    return last_sessions(opened, keys, more_s) * (_session_s(sessions) + BETWEEN_S)


def _best_scored(opened: OpenStudy) -> set[str]:
    """As many candidates as get further seeds, those with the best values so far."""
    objective = opened.recipe.objectives[0]
    told = {
        trial: minimised([objective], values[:1])[0]
        for trial, values in opened.book.values().items()
    }
    best = sorted(told, key=lambda trial: told[trial])[:CONFIRMED]
    return {row.key for row in opened.store.candidates() if row.trial in best}


def last_sessions(opened: OpenStudy, keys: Iterable[str], more_s: float = 0.0) -> int:
    """Number of latency sessions that these networks still get: as many as their tolerance seems to
    need, within their share of time.

    It is known before the first session, and so is the time left. `more_s`: seconds of trainings
    that are to come.
    """
    store, bare = (
        opened.store,
        {row.key for row in opened.store.candidates() if row.placement == BARE},
    )
    mine, further = set(keys) - bare, store.queue.rows(purposes=FURTHER)
    waiting = any(row.state == "waiting" for row in further)
    trained_at = (
        math.inf if waiting else max((row.finished_at or 0.0 for row in further), default=math.inf)
    )
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
    return statistics.fmean(session.duration_s for session in sessions) if sessions else 0.0


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


def told(objectives: Sequence[str], row: CandidateRow, values: Sequence[float] | None) -> str:
    """A line about a candidate that has ended."""
    words = ", ".join(
        named(objective, value) for objective, value in zip(objectives, values or (), strict=False)
    )
    name = f" ({row.baseline})" if row.baseline else ""
    return f"trial {row.trial}{name}: {row.state}: {row.reason or words}; {row.placement}"


def time_left(finished: Sequence[float], open_: float, run_s: Callable[[], float]) -> float | None:
    """Seconds for `open_` more candidates, from the times at which others finished; pauses between
    calls are left out.
    `run_s`: gives the seconds of a run; called only if there may be a pause.
    """
    times = sorted(finished)[-PACE_OF:]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    if len(gaps) < FEWEST or open_ <= 0:
        return None
    longest = max(PAUSE * statistics.median_low(gaps), LEAST_PAUSE_S)  # of two, one may be a pause
    longest = max(longest, PAUSE_RUNS * run_s()) if max(gaps) > longest else longest
    return open_ * statistics.fmean(gap for gap in gaps if gap <= longest)


def _one_run_s(opened: OpenStudy, epochs: int) -> float:
    """About how long a run of so many epochs takes one worker; 0 where nothing is known. Reads no
    more than it must.
    """
    bare = next((row.key for row in opened.store.candidates() if row.placement == BARE), None)
    return epochs * (seconds_per_epoch(opened.store, bare) or 0.0)


@dataclass(frozen=True, slots=True)
class WorkerView:
    machine: str
    pid: str
    device: str
    # `working`, `waiting`, `silent` (for longer than its leases last) or `gone` (its process has
    # died)
    state: str
    doing: str
    waiting: str
    at_it_s: float
    silent_s: float
    here_s: float


@dataclass(frozen=True, slots=True)
class FormerView:
    """A worker that has ended, and what it has written. Times in Unix seconds."""

    machine: str
    pid: str
    device: str
    began_at: float
    left_at: float
    ending: str  # `left` in order, or `lost`
    scores: int
    sessions: int


@dataclass(frozen=True, slots=True)
class Overview:
    progress: Progress
    per_hour: (
        float | None
    )  # candidates at the pace of the last ones; None: too few, or nobody works
    workers: tuple[WorkerView, ...]
    former: tuple[FormerView, ...]  # the workers that have ended, the oldest first
    launched: tuple[
        str, ...
    ]  # what engines say of what was launched on them: `slurm: 3 running, 13 pending`
    failures: tuple[
        tuple[str, int], ...
    ]  # (reason, how many candidates and other runs), the most frequent first
    arithmetic: tuple[ArithmeticUse, ...]  # what the runs were computed in


def overview(opened: OpenStudy) -> Overview:
    found, workers, per_hour = progress(opened), workers_of(opened), None
    if any(worker.state in ("working", "waiting") for worker in workers):
        times = sorted(row.finished_at for row in opened.store.candidates() if row.finished_at)[
            -PACE_OF:
        ]
        if len(times) > FEWEST:
            per_hour = (len(times) - 1) / max(1e-3, opened.database.now() - times[0]) * 3600
    launched = _launched(opened) if workers or found.trials > found.finished else []
    return Overview(
        progress=found,
        per_hour=per_hour,
        workers=workers,
        former=tuple(_former_view(row) for row in opened.store.workers.former()),
        launched=tuple(launched),
        failures=tuple(_failures(opened)),
        arithmetic=arithmetic_uses(opened.store, opened.recipe),
    )


def workers_of(opened: OpenStudy) -> tuple[WorkerView, ...]:
    """The study's workers and their tasks."""
    return tuple(_view(row, local=opened.store.is_local) for row in opened.store.workers.rows())


def _former_view(row: FormerWorker) -> FormerView:
    machine, pid = machine_and_pid(row.owner)
    return FormerView(
        machine=machine,
        pid=pid,
        device=row.device,
        began_at=row.began_at,
        left_at=row.left_at,
        ending=row.ending,
        scores=row.scores,
        sessions=row.sessions,
    )


def _view(row: WorkerRow, *, local: bool) -> WorkerView:
    machine, pid = machine_and_pid(row.owner)
    state = "waiting" if row.waiting else "working"
    if is_dead(row.owner, local=local):
        state = "gone"
    elif row.silent_s > SILENT_S:
        state = "silent"
    return WorkerView(
        machine,
        pid,
        row.device,
        state,
        row.doing,
        row.waiting,
        row.at_it_s,
        row.silent_s,
        row.here_s,
    )


def _launched(opened: OpenStudy) -> list[str]:
    found = []
    for launched in launches(opened):
        try:
            state = engine(launched.on).state(launched)
        except NasAttnError:  # the engine is not on this machine
            state = f"{len(launched.jobs)} launched from {launched.host}"
        if state:
            found.append(f"{launched.on}: {state}")
    return found


def _failures(opened: OpenStudy) -> list[tuple[str, int]]:
    reasons = [row.reason for row in opened.store.candidates() if row.state == "failed"]
    reasons += [
        row.reason for row in opened.store.queue.rows(state="failed") if row.run.purpose != SEARCH
    ]
    return Counter(reason or "no reason is known" for reason in reasons).most_common()

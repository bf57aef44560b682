"""How far a study is, cheap enough to read every second, and how long the rest takes at the pace of
what has ended.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from nas_attn.answer.fronts import leading, minimised
from nas_attn.answer.progress import Phase, PhaseProgress, Progress, without_pauses
from nas_attn.answer.rounds import CONFIRMED, RIVALS, ROUNDS_PER_SEED
from nas_attn.latency.estimates import ENOUGH_SESSIONS, sessions_needed
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.recipe.purposes import BACKBONE, CONFIRM, LENGTH, RETRAIN, ROUND, SEARCH, VALIDATE
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Session
from nas_attn.storage.store import StudyStore

# the pace is that of so many candidates, the last ones
PACE_OF = 30
# purposes of the runs between the candidates and the answer
FURTHER = (CONFIRM, ROUND)
# lease of the worker that measures the front's latencies precisely
NARROW = "narrow"
# of the runs that train as the target says
TARGET_PURPOSES = (VALIDATE, RETRAIN)
# their purposes
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
# seconds from the last run or session to the answer
ANSWER_S = 4.0
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
    values = [told[leads] for told in opened.book.values().values()] if states["scored"] else []
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
    """The rest of the study's time limit; else the time for open candidates at the last pace, and
    for what follows.
    """
    store = opened.store
    counts = opened.store.queue.counts()
    waiting = {
        phase: sum(counts.get((p, "waiting"), 0) for p in purposes)
        for phase, purposes in PURPOSES_OF_PHASE.items()
    }
    later = waiting[Phase.TESTING] + waiting[Phase.RETRAINING]
    ends_at = store.settings.ends_at
    set_s = None
    if ends_at is not None:
        set_s = max(0.0, ends_at - opened.database.now())
    if later:
        return max(later * _later_run_s(opened, finished), set_s or 0.0) or None
    if set_s is not None:
        return set_s
    run_s = partial(_one_run_s, opened, opened.recipe.training.rungs[-1])
    candidates_s = time_left(finished, open_, run_s)
    rest_s = 0.0
    if open_ > 0 and candidates_s is None:
        return None
    if opened.recipe.search.confirm_seeds and (
        open_ > 0 or waiting[Phase.CONFIRMING] or store.workers.rows()
    ):
        rest_s = _confirming_s(opened, counts, finished)
    return (candidates_s or 0.0) + rest_s or None


def _later_run_s(opened: OpenStudy, finished: Sequence[float]) -> float:
    """About how long a run as the target says takes, divided by the workers."""
    store = opened.store
    now = opened.database.now()
    rows = [
        row
        for row in store.queue.rows(purposes=[*FURTHER, *TARGET_PURPOSES])
        if row.finished_at and row.state != "waiting"
    ]
    ended = sorted(row.finished_at or 0.0 for row in rows if row.run.purpose in TARGET_PURPOSES)
    before = [
        *finished,
        *(row.finished_at or 0.0 for row in rows),
        *(now - row.here_s for row in store.workers.rows()),
    ]
    began = [max(at for at in before if at < ended[0])] if ended and min(before) < ended[0] else []
    return _run_s(opened, [*began, *ended], opened.recipe.target_training.rungs[-1], finished)


def _confirming_s(opened: OpenStudy, counts: Counts, finished: Sequence[float]) -> float:
    """About how long the steps after the candidates take: further seeds, rounds, latencies, the
    report.
    """
    store = opened.store
    seeds = opened.recipe.search.confirm_seeds
    # a run that is under way is half done
    half = len(store.workers.rows()) / 2
    runs = max(0.0, counts.get((CONFIRM, "waiting"), 0) - half)
    rounds = 0.0
    if store.settings.confirmed_trials != opened.trials:
        runs = float(seeds * min(CONFIRMED, opened.trials))
        rounds = float(ROUNDS_PER_SEED * seeds)
    elif not narrowing(store):
        # the last thing before the answer
        begun = (
            len({row.run.round for row in store.queue.rows(purposes=[ROUND])})
            - store.settings.rounds_before
        )
        under_way = sum(counts.get((purpose, "waiting"), 0) for purpose in (ROUND, BACKBONE))
        rounds = (
            ROUNDS_PER_SEED * seeds
            - begun
            + min(1.0, max(0.0, under_way - half) / (1 + round_size(opened.trials)))
        )
    runs_s = _further_s(opened, runs, rounds, finished)
    return runs_s + _measuring_s(opened, runs_s * max(1, len(store.workers.rows()))) + ANSWER_S


def _further_s(opened: OpenStudy, runs: float, rounds: float, finished: Sequence[float]) -> float:
    """About how long so many further runs and rounds take, at the pace of those before. All workers
    wait for a round's fresh backbone, and for its last run.
    """
    store = opened.store
    training = opened.recipe.training
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
    ends: dict[int, float] = {}
    for number, at in ended:
        if number not in open_:
            ends[number] = max(at, ends.get(number, at))
    if training.start == "backbone":
        alone_s = training.backbone_epochs * (seconds_per_epoch(store) or 0.0)
    else:
        alone_s = 0.0
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
    store = opened.store
    longest = opened.recipe.training.rungs[-1]
    pace_s = time_left(candidates, 1, partial(_one_run_s, opened, longest)) or 0.0
    workers = max(1, len(store.workers.rows()))
    candidate_s = workers * pace_s - _session_s(store.sessions()[-LAST_SESSIONS:])
    epoch_s = max(seconds_per_epoch(store) or 0.0, candidate_s / longest)
    return epochs * epoch_s / workers


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


def _measuring_s(opened: OpenStudy, more_s: float) -> float:
    """About how long the last latency sessions take, after so many further seconds of training."""
    store = opened.store
    sessions = opened.store.sessions()[-LAST_SESSIONS:]
    keys = {row.run.key for row in store.queue.rows(purposes=FURTHER)} or _best_scored(opened)
    return last_sessions(opened, keys, more_s) * (_session_s(sessions) + BETWEEN_S)


def _best_scored(opened: OpenStudy) -> set[str]:
    """As many candidates as get further seeds, those with the best values so far."""
    leads = leading(opened.recipe.objectives)
    objective = opened.recipe.objectives[leads]
    told = {
        trial: minimised([objective], [values[leads]])[0]
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


def _one_run_s(opened: OpenStudy, epochs: int) -> float:
    """About how long a run of so many epochs takes one worker; 0 where nothing is known. Reads no
    more than it must.
    """
    bare = next((row.key for row in opened.store.candidates() if row.placement == BARE), None)
    return epochs * (seconds_per_epoch(opened.store, bare) or 0.0)


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

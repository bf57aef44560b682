"""After the search: further seeds for the candidates that the answer rests on, and their latencies narrowed.

These are rows of our tables, never trials: what Optuna holds stays the snapshot at `tell`.
"""

from __future__ import annotations

import json
import time

from nas_attn.analysis.snapshot import Snapshot, snapshot
from nas_attn.errors import LeaseLost, TrainingError
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper
from nas_attn.records import CandidateRow
from nas_attn.study.worker import POLL_S, Worker
from nas_attn.training import Interrupted

CONFIRM = "confirm"
"""Attribute of a study that lists the candidates to confirm, and purpose of their scores."""
LARGEST_FRONT = 8
"""Members of the front that get further seeds: those best in the first objective."""


def confirm(worker: Worker) -> str:
    """Runs what is left of the confirmation, sharing it with other workers. Returns `complete` or `stopped`."""
    while not worker.stop():
        with worker.turn() as mine:
            if not mine:
                time.sleep(POLL_S)
                continue
            keys = confirmed_keys(worker)
            task = _next(worker, keys)
        if task is None:
            return _narrow(worker, keys)
        if isinstance(task, str):
            time.sleep(POLL_S)
        else:
            _run(worker, *task)
    return "stopped"


def confirmed_keys(worker: Worker) -> list[str]:
    """The candidates to confirm, decided once, when the search ends: the front, no attention, the best uniform one."""
    trials = worker.opened.trials
    known = worker.store.get(f"{CONFIRM}:{trials}")
    if known is None:
        known = json.dumps(_choose(snapshot(worker.store)))
        worker.store.put(f"{CONFIRM}:{trials}", known)
    keys: list[str] = json.loads(known)
    return keys


def _choose(now: Snapshot) -> list[str]:
    uniform = [v for v in now.ordered(now.baselines) if v.state == "scored" and v.baseline != "none"][:1]
    bare = [v for v in now.baselines if v.baseline == "none" and v.state == "scored"]
    return list(dict.fromkeys(view.key for view in [*bare, *uniform, *now.front[:LARGEST_FRONT]]))


def _next(worker: Worker, keys: list[str]) -> tuple[CandidateRow, int, LeaseKeeper] | str | None:
    """A run to do; a word while others do the last ones; None where all are done."""
    recipe, store = worker.recipe, worker.store
    first = recipe.search.seed + recipe.training.seeds
    rows = {row.key: row for row in store.candidates()}
    done = _done(worker)
    busy = None
    for seed in range(first, first + recipe.search.confirm_seeds):
        for key in keys:
            resource = f"{CONFIRM}/{key}/{seed}"
            if (key, seed) in done or store.get(resource) is not None:
                continue
            worker.release_dead(resource)
            lease = store.acquire(resource, owner=worker.owner, ttl_s=TTL_S)
            if lease is None:
                busy = "busy"
            elif (key, seed) in _done(worker):  # another worker has just finished it
                store.release(lease)
            else:
                return rows[key], seed, LeaseKeeper(store, lease)
    return busy


def _done(worker: Worker) -> set[tuple[str, int]]:
    """(key, seed) of the runs with a score at the last rung."""
    last = len(worker.recipe.training.rungs) - 1
    return {(s.key, s.score.seed) for s in worker.store.scores(purpose=CONFIRM) if s.score.rung == last}


def _run(worker: Worker, row: CandidateRow, seed: int, keeper: LeaseKeeper) -> None:
    resolved = worker.resolved(row)
    with keeper:
        try:
            worker.bench.train(
                resolved,
                seed=seed,
                lease=keeper.lease,
                purpose=CONFIRM,
                go_on=lambda score: True,
                stop=lambda: worker.stop() or keeper.lost,
            )
            worker.bench.files(resolved, seed=seed, lease=keeper.lease, purpose=CONFIRM).clear()
            worker.say(f"confirmed with seed {seed}: {row.placement}")
        except TrainingError as error:  # not tried again: it would end the same way
            worker.store.put(keeper.lease.resource, str(error))
            worker.say(f"seed {seed} of {row.placement} failed: {error}")
        except (Interrupted, LeaseLost):
            worker.say(f"seed {seed} of {row.placement}: stopped")


def _narrow(worker: Worker, keys: list[str]) -> str:
    """One worker gives the front the sessions that its tolerance asks for; the others are done."""
    measurer = worker.bench.measurer
    if measurer is None or not measurer.fits:
        return "complete"
    worker.release_dead("narrow")
    lease = worker.store.acquire("narrow", owner=worker.owner, ttl_s=TTL_S)
    if lease is None:
        return "complete"
    with LeaseKeeper(worker.store, lease) as keeper:
        rows = [row for row in worker.store.candidates() if row.key in keys]
        tolerance = worker.recipe.latency.front_tolerance
        measurer.narrow([worker.resolved(row) for row in rows], tolerance, lambda: worker.stop() or keeper.lost)
    return "stopped" if worker.stop() else "complete"

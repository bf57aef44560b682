"""The search, over an evaluator that looks its answers up."""

from __future__ import annotations

import itertools
import math
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from plans_made import plan_recipe
from runs_made import sessions

from nas_attn.errors import RecipeError
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases.screening import Search
from nas_attn.searching.prepare import baselines, beginning
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import Worker
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE, Placement
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Lease, Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.measurer import from_text

URL = "sqlite:///nas_attn.db"
# what may have become of a run, and one that was never enqueued
ABSENT = "absent"
FATES = (ABSENT, "waiting", "done", "pruned", "failed", "withdrawn")


def with_worker(changes: dict[str, object], do: Callable[[Worker, Lease], None]) -> None:
    """Begins the study of `table.toml`, and acts as a worker that has the scheduling lock."""
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)

    def act(worker: Worker) -> Ending:
        with worker.scheduling() as lock:
            assert lock is not None
            do(worker, lock)
        return Ending.COMPLETE

    options = taking_part.Options(say=lambda line: None)
    assert taking_part.with_worker(opened, options, act) is Ending.COMPLETE


def run_fares(store: StudyStore, run: Run, fate: str) -> None:
    """Writes what has become of a run."""
    if fate == ABSENT:
        return
    store.queue.want([run])
    if fate == "waiting":
        return
    (row,) = (row for row in store.queue.rows(key=run.key) if row.run.identity == run.identity)
    lease = store.acquire(row.resource, owner="test")
    if fate == "done":
        for rung in (0, 1):
            metrics = {"score": float(run.seed), "effort": 1.0}
            store.add_score(run, Score(run.seed, rung, rung + 1, metrics), lease=lease)
    store.queue.finish(row, fate, fate, lease)
    store.release(lease)


def end_of(fates: tuple[str, ...]) -> str:
    """What becomes of a candidate whose two runs fared so."""
    for fatal in ("pruned", "failed"):
        if fatal in fates:
            return fatal
    return "scored" if fates == ("done", "done") else "running"


def test_whatever_became_of_its_runs_a_candidate_ends_or_has_one_that_waits(table: Path) -> None:
    changes = {
        "training.seeds": 2,
        "search.trials": 80,
        "search.sampler": "random",
        "search.baselines": "none",
    }
    all_fates = list(itertools.product(FATES, repeat=2))

    def act(worker: Worker, lock: Lease) -> None:
        store = worker.store
        search = Search(worker)
        for _ in all_fates:
            assert search.want(lock)
        candidates = store.candidates()
        with closing(sqlite3.connect("nas_attn.db")) as database, database:
            database.execute("DELETE FROM nas_run")
        for row, fates in zip(candidates, all_fates, strict=True):
            for run, fate in zip(search._runs(row), fates, strict=True):
                run_fares(store, run, fate)

        search.recover(lock)

        for row, fates in zip(store.candidates(), all_fates, strict=True):
            assert row.state == end_of(fates), fates
            states = [r.state for r in store.queue.rows(key=row.key, protocol=SEARCH)]
            assert ("waiting" in states) is (row.state == "running"), fates

    with_worker(changes, act)


LEARNING = """
def evaluate(model, run):
    share = 0.25 if run.placement in {guessing} else 0.3 + run.seed / 1e3
    return {{"accuracy": share, "balanced_accuracy": share}}
"""


@pytest.mark.parametrize("guessing", [["none"], []])
def test_a_bare_network_that_learns_nothing_is_told_of_and_candidates_are_tried(
    table: Path, monkeypatch: pytest.MonkeyPatch, guessing: list[str]
) -> None:
    (table / "learning.py").write_text(LEARNING.format(guessing=guessing))
    # another test's
    monkeypatch.delitem(sys.modules, "learning", raising=False)
    changes = {
        "training": {"evaluator": "learning:evaluate", "rungs": [3]},
        "objectives": ["accuracy", "params"],
        "search.trials": 3,
        "search.baselines": "bare",
        "search.confirm_seeds": 0,
    }
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    told = list[str]()
    assert taking_part.work(opened, taking_part.Options(say=told.append)) == "complete"
    assert any("learning:evaluate" in line for line in told) is bool(guessing)
    assert [row.state for row in opened.store.candidates()] == ["scored"] * 3


def test_a_failed_candidate_is_not_within_the_limit_of_the_latency(table: Path) -> None:
    changes: dict[str, object] = {
        "objectives": ["score", "latency"],
        "limits.max_latency_ratio": 1.0001,
        "search.trials": 30,
        "search.sampler": "random",
        "search.baselines": "none",
    }

    def act(worker: Worker, lock: Lease) -> None:
        store = worker.store
        search = Search(worker)
        while len(store.candidates()) < 15:
            assert search.want(lock)
        failed, *others = (row for row in store.candidates() if row.placement != BARE)
        # each module takes twice as long as the bare backbone
        ratios = {row.key: math.log(1 + 2 * len(modules(row.placement))) for row in others}
        here = from_text(str(store.fingerprint))
        for made in sessions(6, ratios, 0.001):
            store.add_session(replace(made, fingerprint=here), owner="test")
        search._finish(failed, lock, "failed", "it raised")
        # it tells nothing of the latency, and that it is no good
        assert search.scores.known()[failed.trial].values == (-math.inf, None)
        trials = {trial.number: trial for trial in search.book.study.get_trials()}
        assert not trials[failed.trial].constraints
        for row in others:
            search._finish(row, lock, "infeasible", "too slow")
        with pytest.raises(RecipeError, match="cannot be met: even"):
            search.want(lock)

    with_worker(changes, act)


def modules(placement: Placement) -> list[str]:
    return [part.site for part in placement.assignments if str(part.choice) != "none"]


def test_what_a_person_has_named_is_tried_though_the_time_is_over(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides={"search.confirm_seeds": 0}), URL)
    plan = plan_recipe(opened.recipe)
    named = ["stage2.block1@block=eca", "stage1=simam stage3=eca"]
    for one in baselines.user_trials(plan, named):
        # behind all baselines
        baselines.enqueue_first(opened, [one])
    opened.store.set(screen_until=opened.database.now() - 1)
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    resolved = {plan.resolved(parse(one)).key for one in named}
    assert {row.key for row in opened.store.candidates()} == resolved
    assert opened.trials == len(named)


def test_the_last_places_are_for_what_a_person_has_named(table: Path) -> None:
    changes = {"search.confirm_seeds": 0, "search.trials": 3}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    plan = plan_recipe(opened.recipe)
    named = "stage2.block1@block=eca"
    # behind all baselines
    baselines.enqueue_first(opened, baselines.user_trials(plan, [named]))
    waiting = sum(trial.state.name == "WAITING" for trial in opened.book.all())
    assert waiting > 3
    opened.store.set(trials=3)
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    rows = opened.store.candidates()
    assert len(rows) == 3
    assert plan.resolved(parse(named)).key in {row.key for row in rows}

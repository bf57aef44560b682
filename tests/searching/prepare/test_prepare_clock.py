"""The time of a search: how much is left after a pause, and how many candidates it is for."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from optuna.trial import TrialState

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning, clock
from nas_attn.space.placement import BARE
from nas_attn.storage import opening, tables
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run

URL = "sqlite:///nas_attn.db"
NIGHT_S = 8 * 3600.0
# its process dies with it
DIES = """
import os
from nas_attn.system.processes import owner_name
from nas_attn.storage.database import Database
store = Database("sqlite:///nas_attn.db").study("table")
store.workers.here(owner_name(), device="cpu", doing="trial 7")
os.kill(os.getpid(), 9)
"""


def works_until_now(opened: opening.OpenStudy) -> None:
    """A worker ends a run."""
    run = Run("0123456789abcdef", BARE, 0, purpose="confirm")
    opened.store.queue.want([run])
    (row,) = opened.store.queue.rows(key=run.key)
    lease = opened.store.acquire(row.resource, owner="worker")
    assert lease is not None
    opened.store.queue.finish(row, "done", "", lease)
    opened.store.release(lease)


def passes(opened: opening.OpenStudy, seconds: float) -> None:
    """Lets a time pass for all that the database has."""
    with opened.store._connector.write() as connection:
        for table, names in (
            (tables.StudyTable, ("created_at", "screen_until", "test_from", "ends_at")),
            (tables.RunTable, ("finished_at",)),
            (tables.WorkerTable, ("began_at", "since", "seen_at")),
        ):
            earlier = {name: getattr(table, name) - seconds for name in names}
            connection.execute(sa.update(table).values(earlier))


@pytest.mark.parametrize("killed", ["", "here, just now", "here", "in another container"])
def test_a_killed_search_has_the_time_left_that_a_stopped_one_has(table: Path, killed: str) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    clock.start_clock(opened, 3600.0)
    passes(opened, 600.0)
    works_until_now(opened)
    if killed == "here":
        assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == -9
    elif killed == "in another container":
        opened.store.workers.here("container/kernel/1/1/1.00/ab", device="cpu", doing="trial 7")
    passes(opened, NIGHT_S)
    if killed == "here, just now":
        assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == -9
    left_s = clock.go_on(opening.open_study("table", URL))
    assert left_s is not None
    assert abs(left_s - 3000.0) < 60.0
    assert opened.store.settings.ends_at is not None


def test_a_time_goes_on_while_somebody_works(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    clock.start_clock(opened, 3600.0)
    passes(opened, 600.0)
    opened.store.workers.here("machine/kernel/1/1/1.00/ab", device="cpu", doing="trial 7")
    left_s = clock.go_on(opening.open_study("table", URL))
    assert left_s is not None
    assert abs(left_s - 3000.0) < 60.0


OWN = ["stage1=eca", "stage2=eca", "stage3=eca", "stage1=simam", "stage2=simam"]


def with_a_pace(opened: opening.OpenStudy, epoch_s: float) -> None:
    """A run has shown how long an epoch takes."""
    lease = opened.store.acquire("run/1", owner="worker")
    assert lease is not None
    run = Run("0123456789abcdef", BARE, 0)
    opened.store.add_score(run, Score(0, 0, 1, {"score": 1.0}, wall_s=epoch_s), lease=lease)
    opened.store.release(lease)


@pytest.mark.parametrize(("trials", "minutes"), [(80, 1), (5, 600)])
def test_a_number_of_candidates_counts_also_with_a_time(
    table: Path, trials: int, minutes: int
) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    with_a_pace(opened, 10.0)
    asked = clock.SearchTime(60.0 * minutes, time.monotonic(), None)
    clock.time_left(opened, asked, workers=1)
    assert opened.trials not in (14, trials), "as many as the time allows"
    beginning.take_up(opened, trials=trials)
    clock.time_left(opened, replace(asked, trials=trials), workers=1)
    assert opened.trials == trials
    assert opened.store.settings.ends_at is not None


def test_a_short_time_leaves_no_placement_out_that_was_named(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    with_a_pace(opened, 3600.0)
    beginning.take_up(opened, tried=OWN)
    clock.start_clock(opened, 60.0)
    waiting = sum(trial.state == TrialState.WAITING for trial in opened.book.all())
    assert opened.trials == waiting > len(OWN)


def test_more_workers_try_more_candidates_in_the_same_time(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    with_a_pace(opened, 600.0)
    trials = []
    for workers in (1, 4):
        clock.start_clock(opened, 360_000.0, workers=workers)
        trials.append(opened.trials)
    assert 3.8 < trials[1] / trials[0] < 4.1


def test_a_study_that_needs_no_latency_leaves_no_time_for_it(table: Path) -> None:
    changes = {"objectives": ["score", "params"], "latency.session_seconds": 600.0}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    with_a_pace(opened, 1.0)
    clock.start_clock(opened, 3600.0)
    assert opened.trials > 3600 / 600

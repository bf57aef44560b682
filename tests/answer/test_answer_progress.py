"""How far a study is and who works on it, in words and numbers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from command_line import Nas
from made_study import recipe, usual
from told_values import told

from nas_attn.answer.progress import (
    Progress,
    progress,
    progress_line,
)
from nas_attn.answer.rounds import last_sessions
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.units import named
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.searching.run.overview import overview
from nas_attn.space.notation import parse
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run


def test_a_line_has_its_time_left_only_while_somebody_works() -> None:
    now = Progress(
        trials=8,
        scored=3,
        pruned=1,
        infeasible=0,
        failed=0,
        running=1,
        best="accuracy 70.40 %",
        left_s=40.0,
    )
    line = progress_line(now, working=False)
    assert line.startswith("4/8 candidates, 1 pruned, ")
    assert "70.40 %" in line
    assert progress_line(now).startswith(line)
    assert "40 s" in progress_line(now).removeprefix(line)
    over = replace(now, scored=0, pruned=0, best="", left_s=0.0)
    assert progress_line(over).startswith("0/8 candidates, ")
    testing = replace(now, phase="testing 2/6 runs")
    assert "testing 2/6 runs" in progress_line(testing)


def test_what_is_left_is_the_open_runs_at_the_pace_of_a_run_divided_among_the_workers(
    table: Path,
) -> None:
    changes = {"search.trials": 10, "search.confirm_seeds": 0}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    store = opened.store
    assert progress(opened).left_s is None, "before the first run has ended"
    lease = store.acquire("run/1", owner="test")
    assert lease is not None
    for key, seconds in (("a", 20.0), ("b", 10.0), ("c", 60.0)):
        run = Run(key, parse("none"), 0)
        for rung in (0, 1):
            store.add_score(
                run, Score(0, rung, rung + 1, {"score": 1.0}, wall_s=seconds), lease=lease
            )
    assert progress(opened).left_s == 10 * 40.0
    for owner in ("one", "other"):
        store.workers.here(owner, device="cpu", doing="trial 1")
    assert progress(opened).left_s == 10 * 40.0 / 2
    store.queue.want([Run("a", parse("none"), 7, protocol="target", purpose="validate")])
    now = progress(opened)
    assert now.phase == "testing 0/1 runs"
    assert now.left_s == 40.0 / 2


def test_the_progress_adds_up_scores_in_the_database_and_reads_none(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        progress(opened)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert any("nas_run" in statement for statement in asked)
    assert not [one for one in asked if "nas_score" in one and "sum(" not in one]


def test_the_last_latency_sessions_are_counted_before_the_first_of_them(tmp_path: Path) -> None:
    made = usual(tmp_path, made_from=recipe(latency={"tolerance": 0.001}))
    opened: Any = SimpleNamespace(store=made.store, recipe=made.recipe)
    keys = ["key-001", "key-002", "key-003"]
    made.store.queue.want([Run(keys[0], parse("stage1=se"), 7, purpose="confirm")])
    made.store.queue.finish(made.store.queue.rows(key=keys[0])[-1], "done", "", made.lease)
    assert (planned := last_sessions(opened, keys)) > 3
    later = replace(made.store.sessions()[0], started_at=time.time() + 60)
    made.store.add_session(later, owner="test")
    assert last_sessions(opened, keys) == planned - 1, "whatever it measured"


URL = "sqlite:///nas_attn.db"
COMMAND = [sys.executable, "-m", "nas_attn.cli.main"]


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def test_a_worker_is_listed_with_what_it_is_at_and_gone_when_it_has_ended(table: Path) -> None:
    recipe = load_recipe("table.toml", overrides={"search.trials": 4})
    opened, seen = beginning.begin(recipe, URL), []

    def say(line: str) -> None:
        seen.append(overview(opened))

    taking_part.work(opened, taking_part.Options(say=say))
    (worker,) = seen[-2].workers
    assert (worker.machine, worker.pid, worker.device) == (
        socket.gethostname(),
        str(os.getpid()),
        "cpu",
    )
    assert (worker.state, worker.waiting) == ("working", "")
    at = {found.workers[0].doing for found in seen}
    assert any(doing.startswith("trial 0, seed 0: none") for doing in at), at
    assert any(doing.startswith("confirm, seed ") for doing in at), at
    assert seen[-1].per_hour is not None
    now = overview(opened)
    assert (now.workers, now.per_hour, now.progress.finished) == ((), None, 4)


def test_the_best_so_far_is_of_the_metric_also_after_a_cost(table: Path) -> None:
    changes = {"objectives": ["params", "score"], "search.trials": 4, "search.confirm_seeds": 0}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    best = max(score for _, score in told(opened.book).values())
    assert overview(opened).progress.best == named("score", best)


def work_until_a_line(opened: OpenStudy) -> None:
    """As a worker that is stopped when its first run has ended."""
    stop = threading.Event()
    taking_part.work(opened, taking_part.Options(say=lambda line: stop.set(), stop=stop))


# a worker for each run; test_cli_commands.py asks what status names
@pytest.mark.slow
def test_status_names_resume_wherever_a_search_was_stopped_after_its_candidates(
    table: Path, nas: Nas
) -> None:
    changes = {"search.trials": 3, "search.confirm_seeds": 1}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    following = []
    ended: list[int] = []
    while len(ended) < 2 or ended[-1] > ended[-2]:
        work_until_a_line(opened)
        following.append(nas("status", "table", "--json").json["next"])
        ended.append(sum(row.state == "done" for row in opened.store.queue.rows()))
    assert len(ended) > 8
    # the last worker found nothing to do
    assert following[-2] == following[-1] != "nas-attn resume table"
    assert set(following[:-2]) == {"nas-attn resume table"}


@pytest.mark.slow
def test_status_tells_a_killed_worker_from_a_living_one(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.5")
    opened = beginning.begin(load_recipe("table.toml"), URL)
    workers = [
        subprocess.Popen([*COMMAND, "worker", "table"], stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        until(lambda: sum("seed" in worker.doing for worker in overview(opened).workers) == 2)
        workers[0].kill()
        workers[0].wait()
        states = {worker.pid: worker.state for worker in overview(opened).workers}
        assert states.get(str(workers[0].pid)) in (
            "gone",
            None,
        )  # None: the other has swept it already
        assert states[str(workers[1].pid)] == "working"
        plain = subprocess.run(
            [*COMMAND, "status", "table"], capture_output=True, text=True, check=True
        ).stdout
        assert str(workers[1].pid) in plain
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(60) == 0
        found = json.loads(
            subprocess.run(
                [*COMMAND, "status", "table", "--json"], capture_output=True, text=True, check=True
            ).stdout
        )
        assert [worker["pid"] for worker in found["workers"]] in ([], [str(workers[0].pid)])
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

"""Workers on real SQLite files, with an evaluator that looks its answers up."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import torch
from command_line import Nas
from plans_made import plan_recipe

import nas_attn as na
from nas_attn.answer.progress import further_runs
from nas_attn.errors import StudyError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.searching.run.local import run_workers
from nas_attn.searching.run.overview import overview
from nas_attn.space.placement import BARE
from nas_attn.storage.connection import Connector
from nas_attn.storage.opening import create_study, open_study
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Lease
from nas_attn.storage.store import StudyStore
from nas_attn.system import environment
from nas_attn.system.processes import owner_name

URL = "sqlite:///nas_attn.db"
SMALL = {"search.trials": 5, "search.confirm_seeds": 0}


def calls(folder: Path) -> Counter[tuple[str, str, str]]:
    lines = (folder / "calls.txt").read_text().splitlines()
    return Counter(
        (placement, seed, rung) for placement, seed, rung, _ in (line.split("|") for line in lines)
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    """A `nas-attn` of its own, in its own process group."""
    command = [sys.executable, "-m", "nas_attn.cli.main", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_calls(folder: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (folder / "calls.txt").exists() and len(
            (folder / "calls.txt").read_text().splitlines()
        ) >= number:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    pytest.fail("the workers did not get that far in two minutes")


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.trials if trial.state.is_finished()]


def test_a_search_runs_to_its_end_and_learns(table: Path) -> None:
    study = na.search("table.toml", say=lambda line: None)
    snapshot = study.snapshot()
    assert sum(snapshot.counts.values()) == 14
    assert snapshot.counts["running"] == snapshot.counts["failed"] == 0
    assert next(view.baseline for view in snapshot.baselines) == "none"
    assert str(study.best().placement).count("eca") == 3
    assert max(calls(table).values()) == 1, "a candidate was evaluated twice"
    ran = {
        seed: {placement for placement, at, _ in calls(table) if at == seed}
        for seed in ("0", "1", "2")
    }
    assert ran["0"] & ran["1"] >= {"none"}, (
        "six candidates and more share a seed, the bare backbone runs on all"
    )
    assert min(len(ran["0"] - ran["1"]), len(ran["1"] - ran["0"])) >= 4
    confirmed = {placement for placement, seed, rung in calls(table) if (seed, rung) == ("2", "1")}
    assert {str(view.placement) for view in study.front()} <= confirmed
    further = [placement for placement, seed, rung in calls(table) if int(seed) > 1 and rung == "1"]
    assert len(further) == further_runs(study.recipe, 14), (
        "how many runs follow is known in advance"
    )
    done = finished(optuna.load_study(study_name="table", storage=URL))
    assert (len(done), [t.number for t in done if "tried" in t.user_attrs]) == (
        14,
        [12, 13],
    )  # near the answer
    na.search(
        "table.toml", trials=2, overrides={"name": "other", "search.seed": 1}, say=lambda line: None
    )
    assert max(calls(table).values()) == 1, "searches with neighbouring seeds have a run in common"


def test_without_a_number_a_worker_takes_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas_attn.training import numerics
    from nas_attn.training.trainer import Trainer

    used: set[int] = set()
    before = torch.get_num_threads()
    forward = Trainer.output
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(numerics, "cores", lambda: 2)
    monkeypatch.setattr(
        Trainer, "output", lambda *args: used.add(torch.get_num_threads()) or forward(*args)
    )
    settings = {"data.train_subset": 64, "training.rungs": [1], "training.start": "scratch"}
    objectives = ["accuracy", "params"]
    overrides = settings | {"search.baselines": "bare", "search.confirm_seeds": 0}
    na.search(
        model="resnet8", data="digits-8x8", space="small", trials=1, objectives=objectives, overrides=overrides,
        device="cpu", say=lambda line: None,
    )  # fmt: skip
    assert used == {2}
    assert torch.get_num_threads() == before


def test_calling_again_goes_on_and_does_nothing_twice_also_with_more_trials(table: Path) -> None:
    stop = threading.Event()
    recipe = load_recipe("table.toml", overrides=SMALL)
    opened = create_study(recipe, URL)

    def say(line: str) -> None:
        if line.startswith("trial 2"):
            stop.set()

    assert taking_part.work(opened, taking_part.Options(say=say, stop=stop)) == "stopped"
    assert len(finished(opened.book.study)) == 3
    before = calls(table)
    na.search(recipe, say=lambda line: None)
    after = calls(table)
    assert max(after.values()) == 1
    assert before <= after
    again = open_study("table", URL)
    assert len(finished(again.book.study)) == 5
    again.store.set(trials=6)
    assert taking_part.work(again, taking_part.Options(say=lambda line: None)) == "complete"
    assert len(finished(again.book.study)) == 6


@pytest.mark.parametrize("workers", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_killed_workers_lose_nothing_and_repeat_nothing(
    table: Path, workers: int, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.3")
    trials = 4 + 2 * workers
    command = ("search", "table.toml", "--workers", str(workers), "--trials", str(trials))
    process = start(*command, "--set", "search.confirm_seeds=0")
    wait_for_calls(table, 3 + workers, process)
    for pid in {
        int(line.split("|")[3]) for line in (table / "calls.txt").read_text().splitlines()
    } | {process.pid}:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    opened = open_study("table", URL)
    half_done = [
        t.number for t in opened.book.study.trials if t.state == optuna.trial.TrialState.RUNNING
    ]
    assert half_done
    done_before = {t.number: t.values for t in finished(opened.book.study)}
    monkeypatch.setenv("TABLE_SECONDS", "0")
    assert nas("resume", "table", "--workers", "1").status == 0
    found = open_study("table", URL).book.study.trials
    assert len([trial for trial in found if trial.state.name != "FAIL"]) == trials
    assert all(trial.state.is_finished() for trial in found)
    assert {number: found[number].values for number in done_before} == done_before
    repeated = {call for call, count in calls(table).items() if count > 1}
    assert len(repeated) <= workers, "only the runs under way when they were killed may be repeated"


def test_a_failing_candidate_is_recorded_with_its_reason_and_not_proposed_again(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_FAIL", "fail")
    study = na.search("table.toml", overrides=SMALL, say=lambda line: None)
    failed = [view for view in study.candidates() if view.state == "failed"]
    assert failed
    assert all("not a finite number" in view.reason for view in failed)
    assert len({view.key for view in study.candidates()}) == 5
    ((reason, count),) = overview(open_study("table", URL)).failures
    assert (count, "not a finite number" in reason) == (len(failed), True)


def test_limits_make_candidates_infeasible_without_training_them(table: Path) -> None:
    plan = plan_recipe(load_recipe("table.toml"))
    bare = plan.cost(plan.resolved(BARE))["params"]
    changes = {**SMALL, "limits.max_parameters": bare + 50}
    study = na.search("table.toml", overrides=changes, say=lambda line: None)
    infeasible = {str(view.placement) for view in study.candidates() if view.state == "infeasible"}
    assert infeasible
    assert not infeasible & {placement for placement, _, _ in calls(table)}
    loaded = optuna.load_study(study_name="table", storage=URL)
    assert {bool(t.constraints and max(t.constraints.values()) > 0) for t in loaded.trials} == {
        True,
        False,
    }
    assert len({len(t.constraints) for t in loaded.trials}) == 1, (
        "samplers need equally many of every trial"
    )


def test_a_trial_scored_but_not_told_is_told_by_whoever_comes_next(table: Path) -> None:
    confirmed = {**SMALL, "search.confirm_seeds": 1, "search.pruner": "none"}
    study = na.search("table.toml", overrides=confirmed, say=lambda line: None)
    told = optuna.load_study(study_name="table", storage=URL).trials
    with sqlite3.connect(
        "nas_attn.db"
    ) as connection:  # as if killed between our table and Optuna's
        connection.execute(
            "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE number = 2"
        )
        connection.execute(
            "DELETE FROM trial_values WHERE trial_id = (SELECT trial_id FROM trials WHERE number"
            " = 2)"
        )
    taking_part.work(open_study("table", URL), taking_part.Options(say=lambda line: None))
    again = optuna.load_study(study_name="table", storage=URL).trials
    assert [t.state for t in again] == [t.state for t in told]
    assert [t.values for t in again] == [t.values for t in told], (
        "whatever else was trained meanwhile, as for its confirmation"
    )
    assert len(study.candidates()) == 5
    assert max(calls(table).values()) == 1


class Killed(BaseException):
    """As by `kill -9`: the process does nothing any more, above all it gives nothing back."""


class Mortal:
    """A worker that dies after so many writes, counted from when its first trial has ended."""

    def __init__(self, patch: pytest.MonkeyPatch, writes: int) -> None:
        self._left = writes
        self._counts = False
        write = Connector.write

        @contextmanager
        def counted(connector: Connector) -> Iterator[sqlalchemy.Connection]:
            if not self._left:
                raise Killed
            with write(connector) as connection:
                yield connection
            self._left -= self._counts
            if not self._left:
                raise Killed

        patch.setattr(Connector, "write", counted)

    def say(self, line: str) -> None:
        self._counts |= line.startswith("trial 0")


# the eleventh ends the trial in our tables; Optuna is told after it
@pytest.mark.parametrize(
    "writes", [*(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 14) if n != 11), 11]
)
def test_a_worker_killed_at_an_infeasible_candidate_leaves_nothing_that_never_ends(
    table: Path, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_recipe(load_recipe("table.toml"))
    bare = plan.cost(plan.resolved(BARE))["params"]
    changes = {"search.baselines": "bare", "limits.max_parameters": bare, "search.trials": 3}
    recipe = load_recipe("table.toml", overrides={**SMALL, **changes})
    opened = beginning.begin(recipe, URL)
    with monkeypatch.context() as patch:
        mortal = Mortal(patch, writes)
        with pytest.raises(Killed):
            taking_part.work(opened, taking_part.Options(say=mortal.say))
    gone = owner_name().replace(f"/{os.getpid()}/", f"/{2**22 + 1}/")
    with closing(sqlite3.connect("nas_attn.db")) as database, database:
        database.execute("UPDATE nas_lease SET owner = ?", (gone,))
    monkeypatch.setenv(environment.WORK_WAIT, "0.5")
    again = open_study("table", URL)
    assert taking_part.work(again, taking_part.Options(say=lambda line: None)) == "complete"
    states = [row.state for row in again.store.candidates()]
    assert len(states) == 3
    assert "infeasible" in states
    assert "running" not in states
    told = [trial for trial in again.book.study.trials if trial.state.name != "FAIL"]
    assert len(told) == 3
    assert all(trial.state.is_finished() for trial in told)


# a search; tests/api searches with a model and an evaluator of one's own, too
@pytest.mark.slow
def test_a_python_function_may_be_model_and_evaluator_in_python_only(table: Path, nas: Nas) -> None:
    from torch import nn

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip

    def judge(model: nn.Module, run: object) -> dict[str, float]:
        return {"size": float(sum(p.numel() for p in model.parameters()))}

    study = na.search(
        model=build,
        data="external",
        input_shape=(1, 16, 16),
        evaluator=judge,
        space="small",
        trials=3,
        objectives=["-size"],
        overrides={"training.start": "scratch"},
        say=lambda line: None,
    )
    smallest = float(sum(p.numel() for p in build().parameters()))
    assert study.front()[0].values[0] == pytest.approx(smallest), (
        "the bare backbone, or what has no parameters"
    )
    error = nas("resume", "--trials", "10").error
    assert f"backbone '{__name__}." in error
    assert "na.search" in error
    assert "Python object" in error


def test_a_run_that_another_worker_has_just_finished_is_not_done_again(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one finishes between the look at the queue and the lease."""
    acquire = StudyStore.acquire
    finished_by_other: list[tuple[Any, str]] = []

    def after_the_other(store: StudyStore, resource: str, **options) -> Lease | None:
        row = (
            store.queue.row(int(resource.removeprefix("run/")))
            if resource.startswith("run/")
            else None
        )
        if row is not None and row.run.purpose == "confirm" and not finished_by_other:
            lease = acquire(store, resource, owner="another")
            for rung in (0, 1):
                score = Score(
                    row.run.seed, rung, rung + 1, {"score": 1.0, "effort": 1.0}, None, 0, 0.1, 0.1
                )
                store.add_score(row.run, score, lease=lease)
            store.queue.finish(row, "done", "", lease)
            store.release(lease)
            finished_by_other.append((row.run.placement, str(row.run.seed)))
        return acquire(store, resource, **options)

    monkeypatch.setattr(StudyStore, "acquire", after_the_other)
    na.search("table.toml", trials=5, say=lambda line: None)
    ((placement, seed),) = finished_by_other
    assert not any((placement, seed, rung) in calls(table) for rung in "01")
    assert max(calls(table).values()) == 1


@pytest.mark.slow
def test_a_run_that_kills_its_workers_is_given_up_and_the_study_goes_on(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = (table / "table_evaluator.py").read_text()
    killing = "    if 'simam' in run.placement: os.kill(os.getpid(), 9)\n"
    (table / "table_evaluator.py").write_text(
        evaluator.replace("    with open", killing + "    with open", 1)
    )
    command = ["search", "table.toml", "--workers", "1", "--trials", "4"]
    command += ["--set", "search.baselines=all"]
    for _ in range(3):
        process = start(*command)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
    last = start(*command)
    output = last.communicate(timeout=120)[0]
    assert last.returncode == 0, output
    (failed,) = [
        row for row in open_study("table", URL).store.candidates() if row.state == "failed"
    ]
    assert failed.baseline == "uniform simam"
    assert "3 workers" in failed.reason


# a search; test_attention_catalogue.py asks that equal knobs are equal networks
@pytest.mark.slow
def test_a_study_goes_on_when_its_recipe_is_written_in_another_order(table: Path) -> None:
    text, path = (table / "table.toml").read_text(), table / "table.toml"
    path.write_text(text.replace("eca = {}", "gam = { reduction = [4], groups = [4] }"))
    beginning.begin(load_recipe("table.toml", overrides=SMALL), URL)
    path.write_text(text.replace("eca = {}", "gam = { groups = [4], reduction = [4] }"))
    study = na.search(load_recipe("table.toml", overrides=SMALL), say=lambda line: None)
    assert study.snapshot().counts["scored"] + study.snapshot().counts["pruned"] == 5
    assert {view.baseline for view in study.snapshot().baselines} >= {
        "none",
        "uniform gam(reduction=4, groups=4)",
    }
    with pytest.raises(StudyError, match="another recipe"):
        na.search("table.toml", trials=15)


@pytest.mark.slow
def test_an_idle_worker_begins_with_the_next_step_while_another_ends_the_last_candidate(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "1.5")  # of each of the two rungs
    few = {"search.trials": 3, "search.pruner": "none"}
    opened = beginning.begin(load_recipe("table.toml", overrides=few), URL)
    options = taking_part.Options(say=lambda line: None, device="cpu", threads=1)
    assert run_workers(opened, 2, options) == "complete"
    lines = (table / "calls.txt").read_text().splitlines()
    begun = [tuple(line.split("|")[:3]) for line in lines]
    (last,) = (str(row.placement) for row in opened.store.candidates() if row.trial == 2)
    assert begun.index(("none", "1", "0")) < begun.index((last, "0", "1"))
    assert len(begun) == len(set(begun)), "nothing runs twice"

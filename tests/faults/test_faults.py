"""Faults at random against a small study: whatever happens to its workers and its database, it
comes out whole.

Sequences of starts, kills, stops, signals, cut connections, restarts, full disks, wrong clocks,
busy cores and truncated checkpoints; after each sequence the study is finished by workers that are left alone, and
must be as if nothing had happened. `make test-faults` runs many (`FAULTS_EXAMPLES`, `FAULTS_STEPS`,
`--hypothesis-seed`), `make test` one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import faulty_worker
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import floats, integers, sampled_from
from optuna.trial import TrialState
from told_values import told

from nas_attn.recipe import tasks
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.space.notation import parse
from nas_attn.storage.artifacts import answer_artifact
from nas_attn.storage.database import Database
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Arithmetic, Score
from nas_attn.storage.trial_book import TrialBook
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.plan import make_plan
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "1"))
STEPS = int(os.environ.get("FAULTS_STEPS", "8"))
TALLY = os.environ.get("FAULTS_TALLY")
SIGNALS = [
    getattr(signal, f"SIG{name}")
    for name in ("TERM", "USR1", "INT", "HUP")
    if hasattr(signal, f"SIG{name}")
]
"""File that takes how many events of each kind there were, as JSON."""
TRIALS, WORKERS = 7, 3
PATIENCE_S = 300.0
"""For a study of seconds. Time in which workers wait for a core is not counted: an overcommitted
machine is no fault of it.
"""

RECIPE = """
name = "faults"
objectives = ["score", "-effort"]
space = { name = "faults", choices = { se = { reduction = [2, 4] }, eca = {}, simam = {} } }
backbone = { name = "resnet8", width = 4 }
[data]
name = "external"
input_shape = [1, 8, 8]
classes = 3
[training]
start = "scratch"
rungs = [1, 2]
evaluator = "faults_evaluator:evaluate"
[search]
trials = 7
sampler = "random"
confirm_seeds = 1
"""
TRAINED = (
    RECIPE.replace(
        'name = "external"\ninput_shape = [1, 8, 8]\nclasses = 3',
        'name = "digits"\ntrain_subset = 320\noptions = { train = 400, validation = 200, test ='
        " 50 }",
    )
    .replace('evaluator = "faults_evaluator:evaluate"', "batch_size = 32")
    .replace('["score", "-effort"]', '["accuracy", "params"]')
)
EVALUATOR = """
import time, zlib

def value(placement, seed, epochs):
    return zlib.crc32(f"{placement}{seed}".encode()) % 1000 / 500 + epochs

def evaluate(model, run):
    time.sleep(SECONDS)
    with open("calls.txt", "a") as calls:
        calls.write(f"{run.placement}|{run.seed}|{run.rung}\\n")
    return {"score": value(run.placement, run.seed, run.epochs), "effort": float(run.placement.count("="))}
"""
tally: Counter[str] = Counter()
# What the fork server imports it finds by the environment: Python 3.11 does not hand it this
# process's path.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
context: Any = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
context.set_forkserver_preload(["faulty_worker"])


class Patience:
    """The time that workers have had: without that in which all that live were kept from
    running.
    """

    def __init__(self, workers: Callable[[], list[BaseProcess]]) -> None:
        self._workers = workers
        self._began = time.monotonic()
        self._waited = {process.pid: queued_s(process) for process in workers()}

    @property
    def over(self) -> bool:
        kept = [
            queued_s(process) - self._waited.get(process.pid, 0.0) for process in self._workers()
        ]
        return time.monotonic() - self._began - max(kept, default=0.0) > PATIENCE_S


def queued_s(process: BaseProcess) -> float:
    """Seconds that a process could have run in, and had no core."""
    try:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Faults(RuleBasedStateMachine):
    """One study and what happens to it."""

    recipe, metric = RECIPE, "score"
    trials, most, seconds, silent_s = TRIALS, WORKERS, 0.05, faulty_worker.SILENT_S
    threads: int | None = 1
    """Of each worker; None: each measures how many pay."""
    server: Any = None
    """A PostgreSQL server; None: the study lives in an SQLite file."""

    @initialize()
    def begin(self) -> None:
        self.workers: list[BaseProcess] = []
        self.paused: set[int] = set()
        self.load: subprocess.Popen[bytes] | None = None
        self.home = tempfile.TemporaryDirectory(
            prefix="nas_attn_faults_", ignore_cleanup_errors=True
        )
        self.folder = Path(self.home.name)
        (self.folder / "faults.toml").write_text(self.recipe)
        evaluator = textwrap.dedent(EVALUATOR).replace("SECONDS", str(self.seconds))
        (self.folder / "faults_evaluator.py").write_text(evaluator)
        self.url = f"sqlite:///{self.folder / 'nas_attn.db'}"
        if self.server is not None:
            name = f"faults_{uuid.uuid4().hex[:12]}"
            self._administer(f"CREATE DATABASE {name}")
            self.url = str(self.server.url(name))
        recipe = load_recipe(
            str(self.folder / "faults.toml"), overrides={"search.trials": self.trials}
        )
        # only the workers can import the evaluator, so nothing is checked here
        plan = SearchPlan(recipe, self.url, artifacts=self.folder / "artifacts")
        opened = beginning.create(plan)
        self._close(opened)

    # ------------------------------------------------------------------------------------ events
    #
    # Which of them comes next must not depend on how far the workers are: hypothesis could not
    # repeat a sequence. So one that finds nobody to hit starts a worker first, and one that cannot
    # be does nothing.

    @rule()
    def start(self) -> None:
        self._start("start")

    @rule()
    def start_two_at_once(self) -> None:
        if len(self._alive()) < WORKERS - 1:
            self._start("two starts at once")
            self._start("two starts at once")

    @rule(hours=sampled_from([-1, 1]))
    def start_with_a_wrong_clock(self, hours: int) -> None:
        self._start("wrong clock", clock_s=3600.0 * hours)

    @rule(seconds=floats(0.05, 0.6))
    def time_passes(self, seconds: float) -> None:
        if self._running():
            time.sleep(seconds)

    @rule(which=integers(0, 9))
    def kill(self, which: int) -> None:
        self._somebody()
        self._signal(which, signal.SIGKILL, "kill -9")

    @rule(which=integers(0, 9), number=sampled_from(SIGNALS))
    def tell_to_stop(self, which: int, number: signal.Signals) -> None:
        self._somebody()
        self._signal(which, number, "signal")

    @rule(which=integers(0, 9))
    def pause(self, which: int) -> None:
        self._somebody()
        self._signal(which, signal.SIGSTOP, "stop")

    @rule()
    def go_on(self) -> None:
        if self.paused:
            self._continue()
            tally["continue"] += 1

    @rule()
    def cut_connections(self) -> None:
        self._somebody()
        tally["connection cut" if self.server else "file locked"] += 1
        if self.server:
            self._cut()
            return
        path = self.folder / "nas_attn.db"
        # Somebody may be quicker.
        with (
            closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as other,
            suppress(sqlite3.OperationalError),
        ):
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(0.2)

    @precondition(lambda self: self.server is not None)
    @rule()
    def restart(self) -> None:
        self._somebody()
        self.server.stop()
        time.sleep(0.2)
        self.server.start()
        tally["server restarted"] += 1

    @rule()
    def fill_the_disk_or_make_room(self) -> None:
        full = self.folder / faulty_worker.FULL
        if full.exists():
            full.unlink()
            return
        self._somebody()
        full.touch()
        tally["disk full"] += 1

    @rule()
    def load_a_core_or_leave_it(self) -> None:
        """What is chosen by timing must not depend on it."""
        if self.load is not None:
            self._unload()
            return
        self.load = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        tally["loaded core"] += 1

    @rule(which=integers(0, 99), share=floats(0, 0.99))
    def truncate_a_file(self, which: int, share: float) -> None:
        files = sorted(path for path in (self.folder / "artifacts").iterdir() if path.is_file())
        if files:
            with suppress(OSError):  # gone meanwhile
                path = files[which % len(files)]
                os.truncate(path, int(path.stat().st_size * share))
                tally["file truncated"] += 1

    # ------------------------------------------------------------------------------------
    # afterwards

    def teardown(self) -> None:
        if not hasattr(self, "url"):
            return
        try:
            (self.folder / faulty_worker.FULL).unlink(missing_ok=True)
            self._continue()
            database = Database(self.url)
            self._finish(database)
            self._check(database)
            database.close()
        finally:
            for process in self.workers:
                process.kill()
                process.join()
            self._unload()
            self.home.cleanup()
        if TALLY:
            Path(TALLY).write_text(json.dumps(tally, indent=1))

    def _finish(self, database: Database) -> None:
        """Workers that are left alone end the study."""
        store = database.study("faults")
        left_alone = len(self.workers)
        if not self._alive():
            self._start("last")
        patience = Patience(self._alive)
        fault = self.folder / faulty_worker.FAULTS
        while True:
            while self._alive():
                assert not patience.over, f"workers do not end:\n{self._stand()}\n{self._said()}"
                self._alive()[0].join(timeout=1.0)
            assert not fault.exists(), f"{fault.read_text()}\n{self._said()}"
            assert not any(one.exitcode for one in self.workers[left_alone:]), self._said()
            rows = store.candidates()
            if (
                len(rows) == self.trials
                and not self._untold(database)
                and not store.queue.rows(state="waiting")
            ):
                return
            assert not patience.over, f"the study does not end:\n{self._said()}"
            self._start("last")

    def _untold(self, database: Database) -> list[int]:
        book = TrialBook(database, "faults")
        found = [trial.number for trial in book.all() if trial.state == TrialState.RUNNING]
        book.close()
        return found

    def _check(self, database: Database) -> None:
        tally["sequences"] += 1
        store, said = database.study("faults"), self._said()
        rows, book = store.candidates(), TrialBook(database, "faults")
        values = told(book)
        book.close()
        assert sorted(row.trial for row in rows) == sorted({row.trial for row in rows}), (
            "every number once"
        )
        assert len({str(row.placement) for row in rows}) == len(rows) == self.trials, (
            "no placement twice"
        )
        assert len({stored.score.arithmetic for stored in store.scores()}) == 1, "two arithmetics"
        for stored in store.scores():
            (placement,) = {str(r.run.placement) for r in store.queue.rows(key=stored.key)}
            undisturbed = self._undisturbed(placement, stored.score)
            assert stored.score.metrics[self.metric] in undisturbed, (placement, stored.score)
        for row in rows:
            seed = min(r.run.seed for r in store.queue.rows(key=row.key, protocol="search"))
            if row.state == "scored":
                scores = store.scores(row.key, protocol="search")
                runs = [one for one in scores if one.purpose == "search" and one.score.rung == 1]
                assert values[row.trial][0] == sum(
                    s.score.metrics[self.metric] for s in runs
                ) / len(runs), (row, seed)
        assert not store.held(), said
        known = {row.artifact for found in store.all_checkpoints().values() for row in found}
        known.add(answer_artifact(store))
        stray = {
            path.name for path in (self.folder / "artifacts").iterdir() if path.is_file()
        } - known
        folders = [
            path
            for path in (self.folder / "artifacts").iterdir()
            if path.is_dir() and path.name != "logs"
        ]
        empty = [path.name for path in folders if not any(path.iterdir())]
        assert len(empty) <= tally["kill -9"], (
            f"an evaluator's folder that nothing was put into: {empty}"
        )
        assert not [run for run in store.all_checkpoints() if not run.startswith("weights:")], said
        assert len(stray) <= tally["kill -9"], (
            f"only a kill between two steps leaves a file, for `clean`: {stray}"
        )
        if self.server is None:
            with closing(sqlite3.connect(self.folder / "nas_attn.db")) as plain:
                assert plain.execute("PRAGMA integrity_check").fetchone()[0] == "ok"

    def _undisturbed(self, placement: str, score: Score) -> set[float]:
        """What a run comes to that nothing happens to, with each number of threads."""
        namespace: dict[str, Any] = {}
        exec(EVALUATOR, namespace)
        return {float(namespace["value"](placement, score.seed, score.epochs))}

    # ------------------------------------------------------------------------------------ small
    # things

    def _somebody(self) -> None:
        """There is a worker that runs."""
        if not self._running():
            self._continue()
        if not self._alive():
            self._start("start")

    def _unload(self) -> None:
        if self.load is not None:
            self.load.kill()
            self.load.wait()
            self.load = None

    def _start(self, kind: str, clock_s: float = 0.0) -> None:
        if kind != "last" and len(self._alive()) >= self.most:
            return
        process = context.Process(
            target=faulty_worker.run,
            args=(str(self.folder), self.url, clock_s, self.silent_s, self.threads),
        )
        process.start()
        self.workers.append(process)
        if kind != "last":
            tally[kind] += 1

    def _alive(self) -> list[BaseProcess]:
        return [process for process in getattr(self, "workers", []) if process.is_alive()]

    def _running(self) -> list[BaseProcess]:
        return [process for process in self._alive() if process.pid not in self.paused]

    def _signal(self, which: int, number: signal.Signals, kind: str) -> None:
        alive = self._alive() if number == signal.SIGKILL else self._running()
        if not alive:  # one has just ended
            return
        process = alive[which % len(alive)]
        assert process.pid is not None
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
            tally[kind] += 1
        if number == signal.SIGSTOP:
            self.paused.add(process.pid)
        if number == signal.SIGKILL:
            self.paused.discard(process.pid)

    def _continue(self) -> None:
        for pid in self.paused:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.paused.clear()

    def _administer(self, command: str) -> None:
        import psycopg

        with psycopg.connect(
            self.server.url().replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute(command)

    def _cut(self) -> None:
        self._administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )

    def _close(self, opened: OpenStudy) -> None:
        opened.book.close()
        opened.database.close()

    def _stand(self) -> str:
        """Where the workers that live stand, and how they fare; their stacks are in what they
        say.
        """
        found = []
        for process in self._alive():
            assert process.pid is not None
            os.kill(process.pid, faulty_worker.STACKS)
            state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            found.append(f"{process.pid}: state {state}, {queued_s(process):.0f} s without a core")
        time.sleep(2.0)
        return "\n".join(found)

    def _said(self) -> str:
        path = self.folder / "said.txt"
        return path.read_text()[-6000:] if path.exists() else "nothing was said"


def many(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(
            [Phase.generate, Phase.shrink] if EXAMPLES > 1 and TALLY is None else [Phase.generate]
        ),
        database=None,
        print_blob=True,
    )


@pytest.fixture
def server(private_server: ModuleType, open_folder: Path) -> Iterator[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with private_server.PrivateServer(
        open_folder / "faults", port=port, settings={"fsync": "off"}
    ) as found:
        yield found


@pytest.mark.timeout(100_000)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # connections that were cut
def test_whatever_happens_a_study_in_a_file_comes_out_whole() -> None:
    run_state_machine_as_test(Faults, settings=many(EXAMPLES, STEPS))


@pytest.mark.slow
@pytest.mark.timeout(100_000)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # connections that were cut
def test_whatever_happens_a_study_on_a_server_comes_out_whole(server: Any) -> None:
    machine = type("FaultsOnAServer", (Faults,), {"server": server})
    run_state_machine_as_test(machine, settings=many(EXAMPLES, STEPS))


class Trained(Faults):
    """With networks that are trained: a run that goes on from a checkpoint ends where one does that
    was never stopped.
    """

    recipe, metric, threads = TRAINED, "accuracy", None

    def _undisturbed(self, placement: str, score: Score) -> set[float]:
        assert score.arithmetic is not None
        run = placement, score.seed, score.arithmetic
        numbers = range(1, faulty_worker.MOST_THREADS + 1)
        return {trained_alone(*run, threads)[score.epochs] for threads in numbers}


@cache
def trained_alone(placement: str, seed: int, arithmetic: str, threads: int) -> dict[int, float]:
    """Epochs -> accuracy of one run, trained here and now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "faults.toml")
        path.write_text(TRAINED)
        recipe = load_recipe(str(path))
    torch.set_num_threads(threads)
    dataset = data_of(tasks.of(recipe)).load(recipe, device=torch.device("cpu"))
    plan = make_plan(recipe, dataset.input_shape, len(dataset.classes))
    resolved = plan.resolved(parse(placement))
    model = plan.network(resolved, seed)
    rates = candidate_rates(plan, model)
    computes = Arithmetic.from_text(arithmetic)
    scores = Trainer(recipe.training, dataset, device="cpu", arithmetic=computes).fit(
        model,
        seed=seed,
        rungs=recipe.training.rungs,
        rates=rates,
    )
    torch.set_num_threads(1)
    return {score.epochs: score.metrics["accuracy"] for score in scores}


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_whatever_happens_trained_networks_are_what_they_would_be() -> None:
    run_state_machine_as_test(Trained, settings=many(EXAMPLES, STEPS))

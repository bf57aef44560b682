"""What a study of many candidates and many workers costs.

    python -m benchmarks.storage size --candidates 2000,10000
    python -m benchmarks.storage workers --counts 1,4,16 --candidates 64 --seconds 30 [--postgres]

`size` writes a study of so many candidates, Optuna's trials included, and takes the CPU seconds of
each command on it, of a proposal, and of publishing. `workers` runs that many real workers, whose
evaluation is a sleep, and takes what a candidate costs them and the database in CPU seconds: on a
machine with few cores, wall time would measure the cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nas_attn.space.placement import ResolvedPlacement
    from nas_attn.space.search_space import SearchSpace

ROOT = Path(__file__).resolve().parent.parent
RECIPE = """
name = "large"
objectives = ["accuracy", "latency"]
[space]
name = "large"
[space.sites]
positions = ["residual", "block", "stage"]
[space.choices]
se = { reduction = [2, 4, 8, 16] }
eca = { kernel_size = [3, 5, 7] }
cbam = { reduction = [4, 8, 16] }
ela = { kernel_size = [3, 5, 7] }
simam = {}
[backbone]
name = "resnet20"
[data]
name = "digits"
[training]
start = "scratch"
rungs = [1, 3]
[search]
trials = 20000
baselines = "bare"
"""
SLEEPER = """
import os, time, zlib

def evaluate(model, run):
    time.sleep(float(os.environ["SLEEP_S"]) * run.new_epochs / 2)
    score = zlib.crc32(f"{run.placement}{run.seed}".encode()) % 1000 / 1000
    return {"score": score, "effort": float(run.placement.count("="))}
"""
WORKERS_RECIPE = """
name = "many"
objectives = ["score", "-effort"]
[space]
name = "many"
[space.choices]
se = { reduction = [2, 4] }
eca = { kernel_size = [3, 5, 7] }
simam = {}
cbam = {}
[backbone]
name = "resnet20"
[data]
name = "external"
input_shape = [1, 12, 12]
classes = 4
[training]
start = "scratch"
rungs = [1, 2]
evaluator = "sleeper:evaluate"
[search]
baselines = "bare"
confirm_seeds = 0
[storage]
keep_weights = "none"
"""
IMAGES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    size = commands.add_parser("size")
    size.add_argument("--candidates", default="2000,10000")
    workers = commands.add_parser("workers")
    workers.add_argument("--counts", default="1,4,16")
    workers.add_argument("--candidates", type=int, default=64)
    workers.add_argument("--seconds", type=float, default=30.0, help="that an evaluation sleeps")
    workers.add_argument(
        "--postgres", action="store_true", help="a private PostgreSQL server instead of SQLite"
    )
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("optuna").setLevel(logging.WARNING)
    if options.what == "size":
        for count in map(int, options.candidates.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                measure_size(Path(folder), count)
    else:
        for count in map(int, options.counts.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                measure_workers(
                    Path(folder),
                    count,
                    options.candidates,
                    options.seconds,
                    postgres=options.postgres,
                )


# ------------------------------------------------------------------------------------------- size


def measure_size(folder: Path, count: int) -> None:
    """CPU seconds of commands on a study of so many candidates."""
    os.chdir(folder)
    Path("large.toml").write_text(RECIPE)
    begun = time.monotonic()
    fill(count)
    print(
        f"{count:,} candidates, written in {time.monotonic() - begun:.0f} s,"
        f" {os.path.getsize('nas_attn.db') / 1e6:.0f} MB"
    )
    for command in (
        "status",
        "status large",
        "pareto large",
        "report large",
        "clean large --dry-run",
        "--help",
    ):
        first, again = (
            _cpu_s([sys.executable, "-m", "nas_attn.cli.main", *command.split()]) for _ in range(2)
        )
        print(f"  nas-attn {command:24} {first:6.2f} CPU s, again {again:6.2f}", flush=True)
    from nas_attn.answer.progress import progress
    from nas_attn.report.publishing import publish
    from nas_attn.storage.opening import open_study

    opened = open_study("large")
    with _timed("snapshot and publishing"):
        publish(opened)
    with _timed("publishing again"):
        publish(opened)
    with _timed("progress"):
        progress(opened)
    _proposals(opened)


def _proposals(opened: Any) -> None:
    """A worker's way to its next run: what others left, Optuna's word, the claim."""
    from nas_attn.searching.phases.screening import Search
    from nas_attn.searching.worker.worker import Worker
    from nas_attn.training.plan import study_plan
    from nas_attn.training.workbench import Benches, Workplace

    workplace = Workplace(opened.store, opened.artifacts, "benchmark", opened.folder, "cpu")
    benches = Benches(workplace, study_plan(opened.store))
    worker = Worker(opened, benches, stop=lambda: False, say=print)
    search = Search(worker)
    for which in ("first", "second", "third"):
        with worker.scheduling() as lock, _timed(f"{which} proposal"):
            assert lock is not None
            search.recover(lock)
            assert search.want(lock)


def fill(count: int) -> None:
    """Candidates with two rungs each, a third pruned at the first, some with further seeds; their
    trials in Optuna.
    """
    import numpy as np
    from sqlalchemy import insert

    from nas_attn.recipe.reading import load_recipe
    from nas_attn.searching.prepare.search_plan import SearchPlan
    from nas_attn.storage import tables
    from nas_attn.storage.opening import create_study

    recipe = load_recipe("large.toml")
    space: SearchSpace = SearchPlan(recipe, "").networks.space
    opened = create_study(recipe)
    store, noise, now = opened.store, np.random.default_rng(0), time.time()
    hard = noise.random(IMAGES)
    candidates, runs, scores, trials = [], [], [], []
    for trial, (values, resolved) in enumerate(_placements(space, count)):
        of = {"study_id": store._id, "key": resolved.key}
        pruned = trial % 3 == 2
        for seed in range(3 if trial % 25 == 0 else 1):
            purpose = "confirm" if seed else "search"
            run = {**of, "protocol": "search", "seed": seed, "backbone": 0, "purpose": purpose}
            runs.append(run | {"placement": resolved.text} | _ended(pruned, now))
            scores += [
                run | _score(rung, hard, noise, resolved.text) for rung in range(1 if pruned else 2)
            ]
        told = (
            json.loads(scores[-1]["metrics"])["accuracy"],
            1.0 + 0.02 * resolved.text.count("="),
        )
        candidates.append(of | {"placement": resolved.text} | _state(trial, pruned, now))
        trials.append((values, pruned, told, resolved))
    with store._connector.write() as connection:
        connection.execute(insert(tables.candidate), candidates)
        connection.execute(insert(tables.run), runs)
        connection.execute(insert(tables.score), scores)
    _sessions(store, candidates)
    _fill_optuna(opened, space, trials)
    opened.database.close()


def _placements(
    space: SearchSpace, count: int
) -> Iterator[tuple[dict[str, str], ResolvedPlacement]]:
    """So many different ones, the bare backbone first."""
    rng, seen = random.Random(0), set[str]()
    values = dict.fromkeys(space.parameters, "none")
    while len(seen) < count:
        resolved = space.resolve(values)
        if resolved.key not in seen:
            seen.add(resolved.key)
            yield values, resolved
        values = space.sample(rng)


def _ended(pruned: bool, now: float) -> dict[str, Any]:
    """What a finished run's row holds beside its key."""
    return {
        "state": "pruned" if pruned else "done",
        "reason": "",
        "attempts": 1,
        "round": 0,
        "finished_at": now,
        "priority": 30,
    }


def _score(
    rung: int, hard: NDArray[np.float64], noise: np.random.Generator, text: str
) -> dict[str, Any]:
    """What a score's row holds beside its run's key; the same parts of a placement gain the
    same.
    """
    import numpy as np

    gain = sum((zlib.crc32(part.encode()) % 100 - 50) / 4000 for part in text.split())
    bits = hard + 0.05 * noise.standard_normal(IMAGES) < 0.6 + 0.08 * rung + gain
    metrics = {
        "accuracy": float(bits.mean()),
        "loss": 1.5 - float(bits.mean()),
        "train_loss_sum": 3.0,
    }
    return {
        "rung": rung,
        "epochs": 3**rung,
        "metrics": json.dumps(metrics),
        "examples": IMAGES,
        "wall_s": 4.0,
        "device_s": 3.5,
        "correct": np.packbits(bits).tobytes(),
    }


def _state(trial: int, pruned: bool, now: float) -> dict[str, Any]:
    """What a candidate's row holds beside its key and placement."""
    return {
        "trial": trial,
        "by_prior": False,
        "baseline": None if trial else "none",
        "state": "pruned" if pruned else "scored",
        "reason": (
            "not among the best third after 1 epoch, all objectives together" if pruned else ""
        ),
        "costs": json.dumps(
            {"params": 270_000 + 10 * trial, "macs": 41_000_000, "memory": 1_000_000}
        ),
        "created_at": now + trial,
        "finished_at": now + trial + 1,
    }


def _sessions(store: Any, candidates: list[dict[str, Any]]) -> None:
    """A latency session for each eighth candidate, with seven others."""
    from nas_attn.storage.records import Fingerprint, Session, SessionSample

    rng = random.Random(1)
    device = Fingerprint("cpu", "Some CPU", ())
    for index in range(0, len(candidates), 8):
        samples = []
        for row in candidates[index : index + 8]:
            ratio = 0.02 * row["placement"].count("=") + rng.gauss(0, 0.01)
            samples.append(SessionSample(row["key"], ratio, 4.0 + ratio, ratio, 4.0 + ratio, 100))
        conditions = {"batch_size": 1, "threads": 1, "dtype": "float32"}
        session = Session(device, conditions, 1e9 + index, 2.5, 4.0, 0.001, tuple(samples))
        store.add_session(session, owner="benchmark")


def _fill_optuna(opened: Any, space: Any, trials: list[Any]) -> None:
    from optuna.distributions import distribution_to_json
    from optuna.storages._rdb import models
    from optuna.trial import TrialState
    from sqlalchemy import insert

    from nas_attn.searching.propose.sampling import distributions

    storage, found = opened.book.storage, distributions(space)
    rows: dict[Any, list[dict[str, Any]]] = {
        models.TrialModel: [],
        models.TrialParamModel: [],
        models.TrialValueModel: [],
    }
    attributes = []
    for number, (values, pruned, told, resolved) in enumerate(trials):
        state, at = TrialState.PRUNED if pruned else TrialState.COMPLETE, datetime.now()
        trial = {
            "trial_id": number + 1,
            "number": number,
            "study_id": opened.book.number,
            "state": state,
        }
        rows[models.TrialModel].append({**trial, "datetime_start": at, "datetime_complete": at})
        for site, value in values.items():
            internal = found[site].to_internal_repr(value)
            one = {"trial_id": number + 1, "param_name": site, "param_value": internal}
            rows[models.TrialParamModel].append(
                {**one, "distribution_json": distribution_to_json(found[site])}
            )
        for objective, value in enumerate([] if pruned else told):
            one = {"trial_id": number + 1, "objective": objective, "value": value}
            rows[models.TrialValueModel].append(
                {**one, "value_type": models.TrialValueModel.TrialValueType.FINITE}
            )
        for name, value in {
            "placement": resolved.text,
            "key": resolved.key,
            "latency_ratio": told[1],
        }.items():
            attributes.append(
                {"trial_id": number + 1, "key": name, "value_json": json.dumps(value)}
            )
    with storage.engine.begin() as connection:
        for model, found_rows in rows.items():
            connection.execute(insert(model), found_rows)
        connection.execute(insert(models.TrialUserAttributeModel), attributes)
    storage.engine.dispose()


# -------------------------------------------------------------------------------------------
# workers


def measure_workers(
    folder: Path, workers: int, candidates: int, seconds: float, *, postgres: bool
) -> None:
    """Real workers whose evaluation sleeps: what the study costs them and the server for a
    candidate, in CPU seconds.

    They are forked from a process that has loaded everything. What is counted goes from the end of
    a worker's first candidate, which warms it up, to the end of its last; what a network takes
    before any training is counted apart, as every evaluation of it has to do that.
    """
    os.chdir(folder)
    Path("many.toml").write_text(WORKERS_RECIPE)
    Path("sleeper.py").write_text(SLEEPER)
    os.environ |= {
        "SLEEP_S": str(seconds),
        "PYTHONPATH": f"{folder}:{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "nas_attn.searching.run.taking_part",
            "nas_attn.searching.propose.sampling",
            "torch._dynamo",
            "plotly.graph_objects",
        ]
    )
    with _server(folder, postgres=postgres) as (url, server_cpu):
        begin = context.Process(target=_begin, args=(str(folder), url, candidates))
        begin.start()
        begin.join()
        before, began = server_cpu(), time.monotonic()
        with _connections(url) as most:
            _together(context, workers, folder, url)
        wall, server = time.monotonic() - began, (server_cpu() - before) / candidates
        found = [json.loads(path.read_text()) for path in folder.glob("report-*")]
    counted = sum(report["candidates"] for report in found)
    cpu, turn, turns, network = (
        sum(report[what] for report in found) / max(counted, 1)
        for what in ("cpu_s", "turn_cpu_s", "turns", "network_cpu_s")
    )
    cpu -= network
    share = (cpu + server) / (seconds + cpu + server)
    print(
        f"{'PostgreSQL' if postgres else 'SQLite'}, {workers:3} workers, {candidates} candidates of"
        f" {seconds:g} s in {wall:.0f} s; per candidate {cpu:.3f} CPU s in the worker, of which"
        f" {turn:.3f} in {turns:.1f} turns, and {server:.3f} in the server: {share:.2%} of a"
        f" worker's time; besides {network:.3f} for building, counting and checking the network; at"
        f" most {most[0]} connections; {len(found)} of {workers} ended in order; load"
        f" {os.getloadavg()[0]:.1f}",
        flush=True,
    )


@contextmanager
def _connections(url: str) -> Iterator[list[int]]:
    """How many clients a server had at once, at most; 0 for a file."""
    most, over = [0], threading.Event()

    def look() -> None:
        import psycopg

        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            while not over.wait(1.0):
                query = (
                    "SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client"
                    " backend'"
                )
                (found,) = connection.execute(query).fetchone() or (0,)
                most[0] = max(most[0], found)

    thread = threading.Thread(target=look)
    if url.startswith("postgresql"):
        thread.start()
    yield most
    over.set()
    if url.startswith("postgresql"):
        thread.join()


def _begin(folder: str, url: str, candidates: int) -> None:
    from nas_attn.recipe.reading import load_recipe
    from nas_attn.searching.prepare import beginning

    os.chdir(folder)
    sys.path.insert(0, folder)
    beginning.begin(load_recipe("many.toml", overrides={"search.trials": candidates}), url)


def _together(context: Any, workers: int, folder: Path, url: str) -> None:
    running = [context.Process(target=_work, args=(str(folder), url)) for _ in range(workers)]
    for process in running:
        process.start()
    for process in running:
        process.join()


def _work(folder: str, url: str) -> None:
    """One worker; it writes down what it took between the ends of its first and its last
    candidate.
    """
    import torch

    from nas_attn.searching.run import taking_part
    from nas_attn.searching.worker.stopping import interruptible
    from nas_attn.storage.opening import open_study

    os.chdir(folder)
    sys.path.insert(0, folder)
    torch.set_num_threads(1)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    marks, stop = _marked(), threading.Event()
    with interruptible(stop, lambda line: None):
        options = taking_part.Options(device="cpu", threads=1, say=lambda line: None, stop=stop)
        taking_part.work(open_study("many", url), options)
    if marks:
        report = {what: marks[-1][what] - marks[0][what] for what in marks[0]}
        Path(f"report-{os.getpid()}").write_text(
            json.dumps(report | {"candidates": len(marks) - 1})
        )


def _marked() -> list[dict[str, float]]:
    """Takes the time of a worker's parts from now on: what it has spent by the end of each
    candidate.
    """
    from nas_attn.searching.worker.worker import Worker
    from nas_attn.training import workbench

    spent = {"turns": 0.0, "turn_cpu_s": 0.0, "network_cpu_s": 0.0}
    marks: list[dict[str, float]] = []
    turn, do = Worker.scheduling, Worker._do

    @contextmanager
    def timed_turn(self: Worker) -> Iterator[Any]:
        began = time.thread_time()
        with turn(self) as lease:
            yield lease
        spent["turns"] += 1
        spent["turn_cpu_s"] += time.thread_time() - began

    def network(work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return work(*args, **kwargs)
            finally:
                spent["network_cpu_s"] += time.thread_time() - began

        return timed

    def marked(self: Worker, step: Any) -> None:
        do(self, step)
        marks.append(spent | {"cpu_s": time.process_time()})

    Worker.scheduling, Worker._do = timed_turn, marked  # type: ignore[method-assign]
    for owner, name in ((workbench.Workbench, "check"), (workbench, "require_participation")):
        setattr(owner, name, network(getattr(owner, name)))
    return marks


@contextmanager
def _server(folder: Path, *, postgres: bool) -> Iterator[tuple[str, Callable[[], float]]]:
    if not postgres:
        yield f"sqlite:///{folder / 'nas_attn.db'}", lambda: 0.0
        return
    sys.path.insert(0, str(ROOT / "runners" / "postgres"))
    from private_server import PrivateServer

    folder.chmod(0o755)
    settings = {"fsync": "off", "max_connections": "500"}
    with PrivateServer(folder / "server", settings=settings) as server:
        first = int((folder / "server" / "data" / "postmaster.pid").read_text().split()[0])
        yield server.url(), lambda: _family_cpu_s(first)


def _family_cpu_s(pid: int) -> float:
    """CPU seconds of a process, its children, and those of them that have ended."""
    total = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(place.parent.name) == pid:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / os.sysconf("SC_CLK_TCK")


def _cpu_s(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.process_time()
    yield
    print(f"  {what:33} {time.process_time() - began:6.2f} CPU s", flush=True)


if __name__ == "__main__":
    main()

"""Several workers on one device: how many candidates a minute, and whether their latencies stay
those of one worker.

    # 1, 2, 4 and 8 workers on the cluttered digits, about 8 minutes on 2 cores
    python -m benchmarks.workers
    # fewer
    python -m benchmarks.workers --workers 1 2
    # on a GPU
    python -m benchmarks.workers --recipe cifar10-resnet20 --set data.root=DIR --device cuda

The same study (the same candidates in the same order, nothing pruned) is run with each number of
workers, each in a database of its own; the backbone is trained before the clock starts.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from benchmarks.rows import append_row
from nas_attn.answer.reading import snapshot
from nas_attn.cli.common import overrides
from nas_attn.latency.ratios import dropped
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.run.local import run_workers
from nas_attn.searching.run.taking_part import Options
from nas_attn.storage.opening import create_study
from nas_attn.storage.records import Latency

TRIALS = 15


@dataclass(frozen=True)
class Run:
    """One study."""

    workers: int
    seconds: float
    scored: int
    latencies: dict[str, Latency]
    """Placement -> latency."""
    sessions: int
    dropped: int


def run(workers: int, folder: Path, arguments: argparse.Namespace) -> Run:
    """Trains the backbone and scores it bare with one worker, then the rest against the clock."""
    changes = {
        "search.pruner": "none",
        "search.sampler": "random",
        "search.confirm_seeds": 0,
        "search.trials": arguments.trials,
    }
    changes |= {
        "latency.session_seconds": 1.0,
        "training.rungs": [1],
        "training.backbone_epochs": 3,
    }
    changes |= overrides(arguments.set)
    opened = create_study(
        load_recipe(arguments.recipe, overrides=changes), f"sqlite:///{folder / 'study.db'}"
    )
    quiet = Options(device=arguments.device, say=lambda line: None)
    opened.store.set(trials=1)
    run_workers(opened, 1, quiet)
    opened.store.set(trials=arguments.trials)
    began = time.perf_counter()
    run_workers(opened, workers, quiet)
    seconds = time.perf_counter() - began
    now, sessions = snapshot(opened.store), opened.store.sessions()
    latencies = {
        str(v.placement): v.latency
        for v in now.candidates
        if v.latency is not None and v.latency.measured
    }
    return Run(
        workers, seconds, now.counts["scored"] - 1, latencies, len(sessions), len(dropped(sessions))
    )


def compared(one: Run, other: Run) -> tuple[int, int, float]:
    """(candidates in both, those whose intervals overlap, median absolute difference of their
    log-ratios).
    """
    pairs = [
        (one.latencies[p], other.latencies[p])
        for p in one.latencies.keys() & other.latencies.keys()
        if p != "none"
    ]
    overlap = sum(a.low <= b.high and b.low <= a.high for a, b in pairs)
    differences = sorted(abs(math.log(a.ratio / b.ratio)) for a, b in pairs)
    return len(pairs), overlap, differences[len(differences) // 2] if differences else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--trials", type=int, default=TRIALS, help="candidates of each study")
    parser.add_argument("--recipe", default="digits", help="shipped name or path")
    parser.add_argument(
        "--set", action="append", default=[], help="change a setting of the recipe: data.root=DIR"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--results", type=Path, help="file to which a line of JSON is added for each number"
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.1f}\n"
    )
    columns = ["workers", "candidates", "s", "a minute", "times one", "sessions (dropped)"]
    columns += ["intervals that overlap with one worker's", "median difference"]
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|")
    first: Run | None = None
    for workers in arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            found = run(workers, Path(folder), arguments)
        first = first or found
        pace = found.scored / found.seconds
        if arguments.results is not None:
            times_one = pace / (first.scored / first.seconds)
            line = {"part": "search", "workers": workers, "candidates": found.scored}
            line |= {"seconds": round(found.seconds, 1), "a_minute": round(60 * pace, 2)}
            append_row(arguments.results, line | {"times_one": round(times_one, 2)})
        both, overlap, difference = compared(first, found)
        against = "–" if found is first else f"{overlap} of {both}"
        shown = "–" if found is first else f"{difference:.1%}"
        print(
            f"| {workers} | {found.scored} | {found.seconds:.0f} | {60 * pace:.1f} |"
            f" {pace / (first.scored / first.seconds):.2f} | {found.sessions} ({found.dropped}) |"
            f" {against} | {shown} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

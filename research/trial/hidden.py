"""Trains `gc` with several numbers of hidden values (../notes/gc.md), rows in `hidden.jsonl`.

    python -m research.trial.hidden --root DATA [--problems digits] [--seeds 100 101]
    python -m research.trial.hidden --show

A call goes on where the last one ended, as `research.trial.run` does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.rows import append_row, read_rows
from nas_attn.latency.locks import DeviceLock
from research.running import asked, work_through
from research.trial.cells import BARE, CHANNELS, HERE, STAGES, Cell
from research.trial.plan import PRETRAINING
from research.trial.run import Trial, recipe_of

PROBLEMS = ("digits", "cifar")
SEEDS = range(100, 108)
"""Fresh ones: those of the trial have shown the failures."""
WIDTHS = (2, 4, 8)
FAILURE = 0.08
"""A loss against the bare network of the seed."""
ROWS = HERE / "hidden.jsonl"


def network(hidden: int) -> str:
    """Notation of `gc` with so many hidden values at every stage."""
    return " ".join(
        f"{stage}=gc(reduction={channels // hidden})"
        for stage, channels in zip(STAGES, CHANNELS, strict=True)
    )


def cells() -> Iterator[Cell]:
    for seed in SEEDS:
        for problem in PROBLEMS:
            for notation in (BARE, *map(network, WIDTHS)):
                yield Cell(problem, notation, "full", seed)


def keep(cell: Cell, result: dict[str, Any]) -> None:
    append_row(ROWS, {**asdict(cell), **result})


def train() -> None:
    options = asked(__doc__, PROBLEMS, SEEDS)
    done = {(row["problem"], row["network"], row["seed"]) for row in read_rows(ROWS)}
    work_through(
        (
            cell
            for cell in cells()
            if options.wants(cell) and (cell.problem, cell.network, cell.seed) not in done
        ),
        lambda hook: Trial(options.root, hook).result,
        keep,
        folder=HERE,
        lock=DeviceLock.for_section(recipe_of(PRETRAINING.name, 0, options.root).latency),
        hours=options.hours,
    )


def show() -> None:
    """Prints mean gains with their 95 % intervals, and failures."""
    accuracy = {
        (row["problem"], row["network"], row["seed"]): row["accuracy"] for row in read_rows(ROWS)
    }
    print("| problem | hidden values | gain, points | worst | failures |\n|---|---|---|---|---|")
    for problem in PROBLEMS:
        for hidden in WIDTHS:
            gains = [
                accuracy[problem, network(hidden), seed] - accuracy[problem, BARE, seed]
                for seed in SEEDS
                if (problem, network(hidden), seed) in accuracy
            ]
            half = 2.36 * np.std(gains, ddof=1) / len(gains) ** 0.5
            failures = sum(gain < -FAILURE for gain in gains)
            print(
                f"| {problem} | {hidden} | {100 * np.mean(gains):+.1f} ± {100 * half:.1f} |"
                f" {100 * min(gains):+.1f} | {failures} of {len(gains)} |"
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["--show"]:
        show()
    else:
        train()

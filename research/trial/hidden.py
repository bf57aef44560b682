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

from benchmarks.rows import append_row, read_rows
from nas_attn.latency.locks import DeviceLock
from research.means import mean_of
from research.running import asked, work_through
from research.trial.cells import BARE, CHANNELS, HERE, STAGES, Cell
from research.trial.plan import PRETRAINING
from research.trial.run import Trial, recipe_of

PROBLEMS = ("digits", "cifar")
SEEDS = range(100, 108)
"""Fresh ones: those of the trial have shown the failures."""
WIDTHS = (2, 4, 8)
FAILURE = 8.0
"""A loss against the bare backbone of the seed, points."""
CELL = ("problem", "network", "schedule", "seed")
"""What names a cell in a row."""
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
    done = {Cell(*(row[name] for name in CELL)) for row in read_rows(ROWS)}
    work_through(
        (cell for cell in cells() if options.wants(cell) and cell not in done),
        lambda hook: Trial(options.root, hook).result,
        keep,
        folder=HERE,
        lock=DeviceLock.for_section(recipe_of(PRETRAINING.name, 0, options.root).latency),
        hours=options.hours,
    )


def show() -> None:
    """Prints mean gains with their 95 % intervals, and failures."""
    accuracy = {Cell(*(row[name] for name in CELL)): row["accuracy"] for row in read_rows(ROWS)}
    print("| problem | hidden values | gain, points | worst | failures |\n|---|---|---|---|---|")
    for problem in PROBLEMS:
        for hidden in WIDTHS:
            pairs = [
                (Cell(problem, network(hidden), "full", seed), Cell(problem, BARE, "full", seed))
                for seed in SEEDS
            ]
            gains = [
                100 * (accuracy[with_gc] - accuracy[bare])
                for with_gc, bare in pairs
                if with_gc in accuracy
            ]
            failures = sum(gain < -FAILURE for gain in gains)
            print(
                f"| {problem} | {hidden} | {mean_of(gains)} | {min(gains):+.1f} |"
                f" {failures} of {len(gains)} |"
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["--show"]:
        show()
    else:
        train()

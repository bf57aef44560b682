"""Trains what the searches of the four folders named, and scores it on images that none has seen.

    python -m research.folders.judge --folders DIR [--hours 1]

DIR is what `research.folders.make` has written. `rows/named.json` has, for each study, its recipe
and, for each length of a training, the networks that answers named; where a study has not its
folder's name, `folder` says it. Each network is trained from SEEDS fresh seeds on SHARE of the
folder's images, which the seed draws. A call goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse
from nas_attn.training.learning_rates import candidate_rates
from research.trial.run import Bench

HERE = Path(__file__).parent
NAMED = HERE / "rows" / "named.json"
JUDGED = HERE / "rows" / "judged.jsonl"
SEEDS = range(7_000, 7_006)
SHARE = 0.64


@dataclass(frozen=True)
class Cell:
    """One training."""

    folder: str
    network: str
    epochs: int
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=Path, required=True, help="what make has written")
    parser.add_argument("--hours", type=float, default=24.0, help="begin no training after these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 3600 * options.hours
    done = finished()
    benches: dict[tuple[str, int], Bench] = {}
    for cell in cells():
        if cell in done or time.monotonic() > end:
            continue
        place = cell.folder, cell.seed
        if place not in benches:
            benches = {place: bench_of(cell, options.folders)}
        keep(cell, result(benches[place], cell))


def named() -> dict[str, dict[str, Any]]:
    """Folder -> number of images, recipe, and epochs -> networks."""
    read: dict[str, dict[str, Any]] = json.loads(NAMED.read_text())
    return read


def cells() -> Iterator[Cell]:
    """Seed by seed, so that a run that is cut has whole seeds."""
    for seed in SEEDS:
        for folder, asked in named().items():
            for epochs, networks in asked["trainings"].items():
                for network in networks:
                    yield Cell(folder, network, int(epochs), seed)


def finished() -> set[Cell]:
    """The trainings that have a row."""
    if not JUDGED.exists():
        return set()
    rows = [json.loads(line) for line in JUDGED.read_text().splitlines()]
    return {Cell(row["folder"], row["network"], row["epochs"], row["seed"]) for row in rows}


def bench_of(cell: Cell, folders: Path) -> Bench:
    """The folder's images, so many as a seed of the search has for training, and the unseen."""
    asked = named()[cell.folder]
    data = judged_data(folders / asked.get("folder", cell.folder))
    recipe = Recipe.model_validate(asked["recipe"])
    changed = {
        "name": f"folder:{data}",
        "train_subset": round(SHARE * asked["images"]),
        "seed": cell.seed,
        "resplit": False,
    }
    section = recipe.data.model_copy(update=changed)
    return Bench(recipe.model_copy(update={"data": section}), lambda: 0)


def judged_data(folder: Path) -> Path:
    """A data set whose test split is the unseen images; a training reads no validation image."""
    data = folder / "judged"
    if not data.exists():
        data.mkdir()
        os.symlink(folder / "images", data / "train")
        os.symlink(folder / "images", data / "val")
        os.symlink(folder / "unseen", data / "test")
    return data


def result(bench: Bench, cell: Cell) -> dict[str, Any]:
    """What a training comes to on the unseen images."""
    resolved = bench.plan.resolved(parse(cell.network))
    model = bench.plan.network(resolved, cell.seed)
    began = time.process_time()
    bench.train(model, candidate_rates(bench.plan, model), cell.epochs, cell.seed)
    judged = bench.judge(model)
    return {
        "accuracy": judged["accuracy"],
        "brier": judged["brier"],
        "loss": judged["loss"],
        "cpu_s": round(time.process_time() - began, 1),
    }


def keep(cell: Cell, row: dict[str, Any]) -> None:
    with JUDGED.open("a") as file:
        file.write(json.dumps({**asdict(cell), **row}) + "\n")


if __name__ == "__main__":
    main()

"""Does attention help where published weights are fine-tuned? Six modules at every stage of
EfficientNet-Lite0, as the identity at first, against the bare network with the same seeds.

    python -m research.finetune.attention --cifar DIR --fashion DIR --weights DIR --work DIR
    python -m research.finetune.attention     # what each rate and module reached

Each training appends a row to `attention.jsonl`; those that are there are not trained again, so two
processes can share the work (`--folder`). The note research/notes/photographs.md has the question,
what was expected, and what came.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from scipy.stats import t as student
from torch import nn
from torch.nn.functional import cross_entropy

import nas_attn as na
from research.finetune.stages import (
    FIRST,
    LAST,
    LITE,
    SUM,
    Folder,
    Images,
    Problem,
    Sources,
    folder_of,
)
from research.finetune.train import SCORED_AT_ONCE, network_of, train

ROWS = Path(__file__).parent / "attention.jsonl"
BARE = "none"
MODULES = (
    "se(reduction=4)",
    "eca",
    "cbam(reduction=4)",
    "coord",
    "ela(variant=T)",
    "simam",
)
RATE_SEEDS = 2
COLUMNS = (
    "module",
    "trainings",
    "gain, points",
    "each by itself, 95 %",
    "all six together, 95 %",
    "300 photographs",
    "600 photographs",
    "log-loss",
)
FOUND = MappingProxyType({"first": 1.0, "last": 1.0})
"""The rate that the modules are trained at."""
SIDE = 64
EPOCHS = 5
STAGES = 6
FOLDERS = MappingProxyType(
    {
        "first": Problem(f"{LITE}0", SIDE, Images("cifar", FIRST, 300, seed=21), "lite0.pt"),
        "last": Problem(f"{LITE}0", SIDE, Images("cifar", LAST, 600, seed=22), "lite0.pt"),
    }
)
RATES = (1.0, 1 / 3, 3.0)
"""Times the rate of the preset `fine-tune`."""
ROUNDS = (range(3), range(3, 6))
"""Seeds that all modules have before further seeds begin."""


@dataclass(frozen=True)
class Training:
    """One training."""

    folder: str
    module: str
    rate: float
    seed: int


def known() -> list[dict[str, Any]]:
    """The rows that are there."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def training_of(row: dict[str, Any]) -> Training:
    """Which training a row is of."""
    return Training(row["folder"], row["module"], row["rate"], row["seed"])


def gains(key: str, module: str, folders: Sequence[str] = tuple(FOUND)) -> list[float]:
    """A module's differences to the bare network, one for each folder and seed that has both."""
    values = {training_of(row): row[key] for row in known()}
    found = [one for one in values if one.folder in folders and one.rate == FOUND[one.folder]]
    bare = {one: replace(one, module=BARE) for one in found if one.module == module}
    return [values[one] - values[other] for one, other in bare.items() if other in values]


def interval(differences: Sequence[float], error: float = 0.05) -> tuple[float, float]:
    """(mean, half the width of the interval by Student's t)."""
    count = len(differences)
    scale = float(student.ppf(1 - error / 2, count - 1))
    return statistics.mean(differences), scale * statistics.stdev(differences) / math.sqrt(count)


def rate_rows() -> list[tuple[str, float, list[float]]]:
    """(folder, rate, accuracies by seed) of the bare network at each rate."""
    rows = [row for row in known() if row["module"] == BARE and row["seed"] < RATE_SEEDS]
    return [
        (folder, rate, [row["accuracy"] for row in rows if (row["folder"], row["rate"]) == pair])
        for pair in sorted({(row["folder"], row["rate"]) for row in rows})
        for folder, rate in [pair]
    ]


def table() -> str:
    """Each module's gain in points, with an interval for itself and one that holds for all."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for module in MODULES:
        points = [100 * gain for gain in gains("accuracy", module)]
        mean, alone = interval(points)
        _, together = interval(points, 0.05 / len(MODULES))
        loss, loss_half = interval(gains("loss", module))
        cells = [
            f"`{module}`",
            f"{len(points)}",
            f"{mean:+.2f}",
            f"{mean - alone:+.2f} to {mean + alone:+.2f}",
            f"{mean - together:+.2f} to {mean + together:+.2f}",
            *(f"{100 * statistics.mean(gains('accuracy', module, [one])):+.2f}" for one in FOUND),
            f"{loss:+.3f} ± {loss_half:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def trainings(folder: str) -> Iterator[Training]:
    """All of a folder, in their order: first the bare network at three rates."""
    for seed in range(RATE_SEEDS):
        for rate in RATES:
            yield Training(folder, BARE, round(rate, 3), seed)
    for seeds in ROUNDS:
        for seed in seeds:
            for module in (BARE, *MODULES):
                yield Training(folder, module, FOUND[folder], seed)


def run(folder: str, sources: Sources) -> None:
    """Trains what has no row yet."""
    images = folder_of(FOLDERS[folder].images, SIDE, sources)
    for training in trainings(folder):
        if training in map(training_of, known()):
            continue
        torch.manual_seed(training.seed)
        model = network_of(FOLDERS[folder], images.classes, sources)
        if training.module != BARE:
            places = " ".join(f"stage{stage + 1}={training.module}" for stage in range(STAGES))
            na.attach(model, places, input_shape=(3, SIDE, SIDE))
        began = time.process_time()
        recipe = replace(SUM, rate=SUM.rate * training.rate, head_sum=SUM.head_sum * training.rate)
        train(model, images, recipe, epochs=EPOCHS, seed=training.seed)
        cpu_s = time.process_time() - began
        right, loss = scored(model, images)
        with ROWS.open("a") as file:
            row = {**vars(training), "accuracy": right, "loss": loss, "cpu_s": round(cpu_s, 1)}
            print(json.dumps(row), file=file)


@torch.no_grad()
def scored(model: nn.Module, folder: Folder) -> tuple[float, float]:
    """(share of the unseen images that is right, their log-loss)."""
    model.eval()
    batches = folder.unseen.split(SCORED_AT_ONCE)
    logits = torch.cat([model(x.contiguous(memory_format=torch.channels_last)) for x in batches])
    loss = float(cross_entropy(logits, folder.unseen_labels))
    right = int((logits.argmax(1) == folder.unseen_labels).sum())
    return round(right / len(logits), 4), round(loss, 4)


def main() -> None:
    """Trains what has no row yet, where folders are named; else prints what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", nargs="+", choices=FOLDERS, default=list(FOLDERS))
    for name in ("cifar", "fashion", "weights", "work"):
        parser.add_argument(f"--{name}", type=Path)
    given = parser.parse_args()
    if given.cifar is None:
        for folder, rate, accuracies in rate_rows():
            print(folder, rate, *accuracies)
        print(table())
        return
    torch.set_num_threads(1)
    for folder in given.folder:
        run(folder, Sources(given.cifar, given.fashion, given.weights, given.work))


if __name__ == "__main__":
    main()

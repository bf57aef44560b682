"""Does attention help where published weights are fine-tuned? Six modules at every stage of
EfficientNet-Lite0, as the identity at first, against the bare network with the same seeds.

    python -m research.finetune.attention --cifar DIR --fashion DIR --weights DIR --work DIR
    python -m research.finetune.attention_gains

Each training appends a row to `attention.jsonl`; those that are there are not trained again, so two
processes can share the work (`--folder`). The note research/notes/photographs.md has the question,
what was expected, and what came.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import nas_attn as na
from research.finetune.attention_gains import (
    BARE,
    FOUND,
    MODULES,
    RATE_SEEDS,
    ROWS,
    Training,
    known,
    training_of,
)
from research.finetune.images import Folder, Images, Sources, folder_of
from research.finetune.stages import FIRST, LAST, LITE, SUM, Problem
from research.finetune.train import SCORED_AT_ONCE, network_of, train

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
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", nargs="+", choices=FOLDERS, default=list(FOLDERS))
    for name in ("cifar", "fashion", "weights", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for folder in given.folder:
        run(folder, Sources(given.cifar, given.fashion, given.weights, given.work))


if __name__ == "__main__":
    main()

"""Do two placements gain the same in float32, in bfloat16, and in a mixture of both?

    python -m benchmarks.precisions --root DATA [--blocks 24]

Full trainings of CIFAR-10's problem (`benchmarks/tables/cifar10.toml`), paired by seed, scored on
the test images: the bare backbone and two placements, in either precision. A call goes on where it
ended, then prints the table. The mixture takes each run from one precision or the other by a fair
coin, as workers did that chose for themselves; its spread is over 2,000 such draws.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch

from nas_attn import data
from nas_attn.evaluation.learning_rates import candidate_rates
from nas_attn.evaluation.plan import make_plan
from nas_attn.notation import parse
from nas_attn.recipe_reading import load_recipe
from nas_attn.training import Trainer

TABLES = Path(__file__).parent / "tables"
RECIPE = TABLES / "cifar10.toml"
RUNS = TABLES / "precisions-cifar10.jsonl"
"""The finished runs, a line of JSON each."""
SEED = 7_000
"""Of block 0. No search and no table has these seeds."""
PRECISIONS = ("float32", "bfloat16")
BARE = "none"
PLACEMENTS = (
    "stage1=eca stage2=eca stage3=eca",
    "stage1=ela(variant=T) stage2=ela(variant=T) stage3=ela(variant=T)",
)
DRAWS = 2000
REASON = "the gains of two placements in either precision"

Key = tuple[str, str, int]
"""Precision, placement, block."""


class Bench:
    """The problem's data, plan and trainer in one precision."""

    def __init__(self, precision: str, root: str) -> None:
        overrides = {"data.root": root, "training.precision": precision}
        given = load_recipe(str(RECIPE), overrides=overrides)
        self.recipe = given.model_copy(update={"training": given.target_training})
        self.dataset = data.load(given.data, device="cpu")
        self.plan = make_plan(self.recipe, self.dataset.input_shape, len(self.dataset.classes))
        self.trainer = Trainer(self.recipe.training, self.dataset, device="cpu")
        self.test = self.dataset.read_test(REASON)

    def accuracy(self, placement: str, seed: int) -> float:
        """Of a full training, on the test images."""
        model = self.plan.network(self.plan.resolved(parse(placement)), seed)
        rates = candidate_rates(self.plan, model)
        self.trainer.fit(
            model,
            seed=seed,
            rungs=self.recipe.training.rungs[-1:],
            rates=rates,
        )
        return self.trainer.score(model, self.test).metrics["accuracy"]


def train(root: str, blocks: int) -> dict[Key, float]:
    """The accuracy of every run; those that are not in `RUNS` yet are trained."""
    accuracies: dict[Key, float] = {}
    if RUNS.exists():
        for line in RUNS.read_text("utf-8").splitlines():
            precision, placement, block, accuracy = json.loads(line)
            accuracies[precision, placement, block] = accuracy
    benches = {precision: Bench(precision, root) for precision in PRECISIONS}
    for block in range(blocks):
        for placement in (BARE, *PLACEMENTS):
            for precision, bench in benches.items():
                key = (precision, placement, block)
                if key in accuracies:
                    continue
                accuracies[key] = bench.accuracy(placement, SEED + block)
                with RUNS.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps([*key, accuracies[key]]) + "\n")
    return accuracies


def show(accuracies: dict[Key, float], blocks: int) -> None:
    """Gains in points with their standard errors, and the spread of one pair."""
    print("| placement | precision | gain, points | one pair varies by |")
    print("|---|---|---|---|")
    for placement in PLACEMENTS:
        for precision in PRECISIONS:
            gains = [
                100 * (accuracies[precision, placement, b] - accuracies[precision, BARE, b])
                for b in range(blocks)
            ]
            spread = statistics.stdev(gains)
            error = spread / blocks**0.5
            mean = statistics.fmean(gains)
            print(f"| {placement} | {precision} | {mean:+.2f} ± {error:.2f} | {spread:.2f} |")
        mean, between, spread = mixed(accuracies, placement, blocks)
        print(f"| {placement} | mixed | {mean:+.2f} ± {between:.2f} | {spread:.2f} |")
    for placement in (BARE, *PLACEMENTS):
        apart = [
            100 * (accuracies["bfloat16", placement, b] - accuracies["float32", placement, b])
            for b in range(blocks)
        ]
        mean = statistics.fmean(apart)
        print(f"{placement}: bfloat16 - float32 {mean:+.2f}, sd {statistics.stdev(apart):.2f}")


def mixed(accuracies: dict[Key, float], placement: str, blocks: int) -> tuple[float, float, float]:
    """Mean gain, its standard deviation over draws of the precisions, and a pair's spread."""
    random = np.random.default_rng(0)
    table = np.array(
        [
            [[accuracies[p, name, b] for b in range(blocks)] for p in PRECISIONS]
            for name in (BARE, placement)
        ]
    )
    means = []
    spreads = []
    for _ in range(DRAWS):
        coins = random.integers(0, 2, (2, blocks))
        drawn = np.take_along_axis(table, coins[:, None, :], axis=1)[:, 0]
        gains = 100 * (drawn[1] - drawn[0])
        means.append(gains.mean())
        spreads.append(gains.std(ddof=1))
    return float(np.mean(means)), float(np.std(means)), float(np.mean(spreads))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="where CIFAR-10's files lie")
    parser.add_argument("--blocks", type=int, default=24)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    show(train(asked.root, asked.blocks), asked.blocks)


if __name__ == "__main__":
    main()

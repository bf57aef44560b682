"""Does a recipe stop early, and does its answer hold at twice the epochs?

    python -m benchmarks.lengths studies/fashion-mnist.toml --root DATA --seeds 3 --times 1 2 \\
        --placement "stage1=eca stage2=eca stage3=eca"

Trains the bare network, and each placement beside it, at the recipe's target and at multiples of
its epochs, each length a schedule of its own, from random weights. Says accuracy and loss on the
validation images, means over the seeds; of a placement also its gain over the bare network of the
same seed, with its standard error. `--out` keeps each run as a line of JSON: a call goes on where
the last one ended.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.rows import Row, keep_row, read_rows
from nas_attn import data
from nas_attn.evaluation.learning_rates import candidate_rates
from nas_attn.evaluation.plan import make_plan
from nas_attn.notation import parse
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import load_recipe
from nas_attn.training import Trainer

BARE = "none"


@dataclass(frozen=True)
class Length:
    """One training."""

    network: str
    """Placement in notation."""
    epochs: int
    seed: int


class Lengths:
    """Trains networks of one recipe on this machine's CPU."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        dataset = data.load(recipe.data, device="cpu")
        self._plan = make_plan(recipe, dataset.input_shape, len(dataset.classes))
        self._trainer = Trainer(recipe.training, dataset, device="cpu")

    def result(self, length: Length) -> Row:
        """Accuracy and loss (nats) on the validation images at the end of a training."""
        resolved = self._plan.resolved(parse(length.network))
        model = self._plan.network(resolved, length.seed)
        rates = candidate_rates(self._plan, model)
        score = self._trainer.fit(model, seed=length.seed, rungs=[length.epochs], rates=rates)[-1]
        return {"accuracy": score.metrics["accuracy"], "loss": score.metrics["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("--root", help="folder of the published images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--placement", action="append", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    overrides = {"data.root": options.root} if options.root else {}
    lengths = Lengths(load_recipe(options.recipe, overrides=overrides))
    networks = [BARE, *options.placement]
    epochs = [times * lengths.recipe.target.epochs for times in options.times]
    rows = read_rows(options.out)
    for seed in range(options.seeds):
        for length in epochs:
            for network in networks:
                _train(lengths, Length(network, length, seed), rows, options.out)
    for network in networks:
        for length in epochs:
            print(_line(rows, network, length))


def _train(lengths: Lengths, length: Length, rows: list[Row], out: Path | None) -> None:
    names = asdict(length)
    if any(names.items() <= row.items() for row in rows):
        return
    keep_row(rows, {**names, **lengths.result(length)}, out)


def _line(rows: Sequence[Row], network: str, epochs: int) -> str:
    runs = {
        row["seed"]: row for row in rows if (row["network"], row["epochs"]) == (network, epochs)
    }
    accuracy = 100 * statistics.mean(row["accuracy"] for row in runs.values())
    loss = statistics.mean(row["loss"] for row in runs.values())
    line = f"{network}, {epochs} epochs, {len(runs)} seeds: {accuracy:.2f} %, loss {loss:.3f}"
    if network == BARE:
        return line
    gains = [
        100 * (runs[row["seed"]]["accuracy"] - row["accuracy"])
        for row in rows
        if (row["network"], row["epochs"]) == (BARE, epochs) and row["seed"] in runs
    ]
    if len(gains) < 2:
        return line
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return f"{line}; gain {statistics.mean(gains):+.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()

"""Trains the cells of the trial, and appends each to `rows/PROBLEM.jsonl`.

    python -m research.trial.run --root DATA [--hours 2] [--problems transfer] [--seeds 0 2]

DATA holds CIFAR-10's and Fashion-MNIST's published files. A call goes on where the last one ended;
a killed call costs the cell under way. It runs on one core at low priority, and waits while
nas_attn measures latencies on this machine, and while the file `rows/PAUSE` exists. README.md has
the plan with all choices that were made before the first run.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_attn.attention.choice import Choice
from nas_attn.data import loading
from nas_attn.latency.locks import DeviceLock
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.parameters import LearningRates
from nas_attn.training.plan import Plan, make_plan
from nas_attn.training.trainer import Trainer
from research.running import asked, work_through
from research.trial.cells import HERE, SEEDS, Cell, as_trained, cells, finished_rows, keep_cell
from research.trial.plan import DEAR, PRETRAINING, PROBLEMS

REASON = "the trial of all modules, on images that no training has seen"
HEAD = "linear."
"""Prefix of the classifier's parameters, which are drawn anew for other classes."""


class Bench:
    """One problem's data, plan and trainer for one seed."""

    def __init__(self, recipe: Recipe, hook: Callable[[], object]) -> None:
        self.recipe = recipe
        self.dataset = loading.load(recipe.data, device="cpu")
        classes = len(self.dataset.classes)
        self.plan: Plan = make_plan(recipe, self.dataset.input_shape, classes)
        self.trainer = Trainer(recipe.training, self.dataset, device="cpu", batch_hook=hook)
        self.test = self.dataset.read_test(REASON)

    def network(self, placement: Placement, seed: int) -> nn.Module:
        """A candidate with the seed's random weights."""
        return self.plan.network(self.plan.resolved(placement), seed)

    def train(self, model: nn.Module, rates: LearningRates, epochs: int, seed: int) -> None:
        """Trains a network; at the end it has the averaged weights."""
        self.trainer.fit(
            model,
            seed=seed,
            rungs=[epochs],
            rates=rates,
        )

    @torch.no_grad()
    def judge(self, model: nn.Module) -> dict[str, Any]:
        """Accuracy, Brier score and log-loss (nats) on the test images, and which are right."""
        model.eval()
        logits: list[Tensor] = []
        labels: list[Tensor] = []
        for x, y in self.test.batches(500):
            logits.append(self.trainer.output(model, x).double())  # type: ignore[attr-defined]
            labels.append(y)
        answer = torch.cat(logits)
        label = torch.cat(labels)
        right = (answer.argmax(1) == label).numpy()
        shares = answer.softmax(1)
        truth = nn.functional.one_hot(label, shares.shape[1])
        return {
            "accuracy": round(float(right.mean()), 5),
            "brier": round(float(((shares - truth) ** 2).sum(1).mean()), 5),
            "loss": round(float(nn.functional.cross_entropy(answer, label)), 5),
            "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
        }


class Trial:
    """Trains cells; keeps the data of the problem and seed that were last asked for."""

    def __init__(self, root: Path, hook: Callable[[], object]) -> None:
        self._root = root
        self._hook = hook
        self._benches: dict[tuple[str, int], Bench] = {}
        self._bodies: dict[tuple[int, Choice | None], Mapping[str, Tensor]] = {}

    def result(self, cell: Cell) -> dict[str, Any]:
        """What a cell's row has beside its names."""
        problem = PROBLEMS[cell.problem]
        epochs = problem.schedules[cell.schedule]
        bench = self._bench(cell.problem, cell.seed)
        model = self._network(bench, cell)
        began = time.process_time()
        bench.train(model, candidate_rates(bench.plan, model), epochs, cell.seed)
        cpu_s = time.process_time() - began
        return {"epochs": epochs, **bench.judge(model), "cpu_s": round(cpu_s, 1)}

    def _bench(self, name: str, seed: int) -> Bench:
        if (name, seed) not in self._benches:
            kept = {key: bench for key, bench in self._benches.items() if key[1] == seed}
            self._benches = kept
            self._benches[name, seed] = Bench(recipe_of(name, seed, self._root), self._hook)
        return self._benches[name, seed]

    def _network(self, bench: Bench, cell: Cell) -> nn.Module:
        resolved = bench.plan.resolved(parse(as_trained(cell.network)))
        model = bench.plan.bare(cell.seed, resolved.other)
        if PROBLEMS[cell.problem].pretrained:
            model.load_state_dict(self._body(cell.seed, resolved.other), strict=False)
        if resolved.other is not None:
            return model
        return bench.plan.attach(model, resolved, cell.seed)

    def _body(self, seed: int, other: Choice | None) -> Mapping[str, Tensor]:
        """Weights of a bare backbone that was trained on other classes, without its classifier."""
        if (seed, other) not in self._bodies:
            bench = Bench(recipe_of(PRETRAINING.name, seed, self._root), self._hook)
            model = bench.plan.bare(seed, other)
            rate = bench.recipe.training.learning_rate
            bench.train(model, LearningRates(rate), PRETRAINING.epochs, seed)
            self._bodies = {key: body for key, body in self._bodies.items() if key[0] == seed}
            self._bodies[seed, other] = {
                name: tensor
                for name, tensor in model.state_dict().items()
                if not name.startswith(HEAD)
            }
        return self._bodies[seed, other]


def recipe_of(name: str, seed: int, root: Path) -> Recipe:
    """A problem's recipe, with the images that the seed draws."""
    overrides = {"data.root": str(root), "data.seed": seed}
    return load_recipe(str(HERE / "problems" / f"{name}.toml"), overrides=overrides)


def main() -> None:
    options = asked(__doc__, PROBLEMS, SEEDS)
    done = finished()
    planned = cells(list(PROBLEMS.values()), DEAR)
    section = recipe_of(PRETRAINING.name, 0, options.root).latency
    work_through(
        (cell for cell in planned if options.wants(cell) and cell not in done),
        lambda hook: Trial(options.root, hook).result,
        keep_cell,
        folder=HERE,
        lock=DeviceLock.for_section(section),
        hours=options.hours,
    )


def finished() -> set[Cell]:
    """The cells that have a row."""
    return {
        Cell(row["problem"], row["network"], row["schedule"], row["seed"])
        for problem in PROBLEMS
        for row in finished_rows(problem)
    }


if __name__ == "__main__":
    main()

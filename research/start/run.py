"""Trains the cells of the experiment, and appends each to `rows/PROBLEM.jsonl`.

    python -m research.start.run --root DATA [--hours 2] [--problems cifar] [--seeds 0 2]

DATA holds CIFAR-10's and Fashion-MNIST's published files. A call goes on where the last one ended;
a killed call costs the cell under way. It runs on one core at low priority, and waits while
nas_attn measures latencies on this machine, and while the file `rows/PAUSE` exists. README.md has
the plan with all choices that were made before the first run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas_attn.latency.locks import DeviceLock
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.parameters import LearningRates
from research.running import asked, work_through
from research.start.cells import (
    FORMS,
    HERE,
    PRETRAINING_EPOCHS,
    PROBLEMS,
    SCHEDULES,
    SEEDS,
    Cell,
    cell_of,
    cells,
    finished_rows,
    keep_cell,
)
from research.trial.run import HEAD, Bench

BACKBONE_SECTIONS: dict[str, dict[str, Any]] = {
    "resnet8": {"name": "resnet8", "width": 8},
    "mobile": {"name": "research.start.networks:mobile"},
}
"""Name of a backbone -> the recipe's section."""
BEFORE: dict[str, dict[str, int]] = {
    "cifar": {"train": 10000, "validation": 1000, "first_class": 0, "classes": 5},
    "fashion": {"train": 10000, "validation": 1000, "first_class": 0, "classes": 5},
    "digits": {"train": 10000, "validation": 1000, "test": 100, "fragments": 4},
}
"""Name of a problem -> the images that its backbone has learned."""
Overrides = dict[str, Any]


class Starts:
    """Trains cells; keeps the data of the seed that was last asked for, and all backbones."""

    def __init__(self, root: Path, hook: Callable[[], object]) -> None:
        self._root = root
        self._hook = hook
        self._benches: dict[tuple[str, str, str, int], Bench] = {}
        self._bodies: dict[tuple[str, str, int], Mapping[str, Tensor]] = {}

    def result(self, cell: Cell) -> dict[str, Any]:
        """What a cell's row has beside its names."""
        bench = self._bench(cell)
        model = self._network(bench, cell)
        epochs = SCHEDULES[cell.schedule]
        began = time.process_time()
        bench.train(model, candidate_rates(bench.plan, model), epochs, cell.seed)
        cpu_s = time.process_time() - began
        judged = bench.judge(model)
        del judged["right"]
        return {**judged, "cpu_s": round(cpu_s, 1)}

    def _bench(self, cell: Cell) -> Bench:
        key = (cell.problem, cell.backbone, cell.form or FORMS[0], cell.seed)
        if key not in self._benches:
            self._benches = {
                other: bench for other, bench in self._benches.items() if other[3] == cell.seed
            }
            recipe = recipe_of(cell, {"training.init": key[2]}, self._root)
            self._benches[key] = Bench(recipe, self._hook)
        return self._benches[key]

    def _network(self, bench: Bench, cell: Cell) -> nn.Module:
        resolved = bench.plan.resolved(parse(cell.network))
        model = bench.plan.bare(cell.seed)
        model.load_state_dict(self._body(cell), strict=False)
        return bench.plan.attach(model, resolved, cell.seed)

    def _body(self, cell: Cell) -> Mapping[str, Tensor]:
        """The trained backbone's weights, without its classifier."""
        key = (cell.problem, cell.backbone, cell.seed)
        if key not in self._bodies:
            overrides: Overrides = {
                "data.options": BEFORE[cell.problem],
                "training.start": "scratch",
                "training.weights": None,
            }
            bench = Bench(recipe_of(cell, overrides, self._root), self._hook)
            model = bench.plan.bare(cell.seed)
            rate = bench.recipe.training.learning_rate
            bench.train(model, LearningRates(rate), PRETRAINING_EPOCHS, cell.seed)
            self._bodies[key] = {
                name: tensor
                for name, tensor in model.state_dict().items()
                if not name.startswith(HEAD)
            }
        return self._bodies[key]


def recipe_of(cell: Cell, overrides: Overrides, root: Path) -> Recipe:
    """A problem's recipe, with the cell's backbone and the images that its seed draws."""
    own: Overrides = {
        "backbone": BACKBONE_SECTIONS[cell.backbone],
        "data.root": str(root),
        "data.seed": cell.seed,
    }
    path = HERE / "problems" / f"{cell.problem}.toml"
    return load_recipe(str(path), overrides={**own, **overrides})


def main() -> None:
    options = asked(__doc__, PROBLEMS, SEEDS)
    done = {cell_of(row) for row in finished_rows()}
    first = next(cells())
    work_through(
        (cell for cell in cells() if options.wants(cell) and cell not in done),
        lambda hook: Starts(options.root, hook).result,
        keep_cell,
        folder=HERE,
        lock=DeviceLock.for_section(recipe_of(first, {}, options.root).latency),
        hours=options.hours,
    )


assert set(BEFORE) == set(PROBLEMS)

if __name__ == "__main__":
    main()

"""What a search would cost and what it could show, before it is begun."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nas_attn import data
from nas_attn.evaluation.plan import Plan
from nas_attn.evaluation.workbench import intra_op_threads, pick_device, plan_for
from nas_attn.recipe import Recipe
from nas_attn.study.searching import default_workers, ideas, threads_each
from nas_attn.training import Trainer

TYPICAL_SEED_SD = 0.009
"""Spread of one placement's accuracy over seeds on a small task; what a study really has, it measures itself."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Size, cost and resolving power of a search."""

    study: str
    placements: int
    trials: int
    baselines: int
    epoch_s: float | None
    """Seconds per epoch of the bare backbone, one worker; None with an evaluator of one's own."""
    total_s: float | None
    """Upper bound: nothing pruned, one worker."""
    smallest_difference: float | None
    """Accuracy difference between two candidates that their scores could show at 95 %, with the confirming seeds."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """For a person."""
        lines = [
            f"study {self.study}: {self.trials} of {self.placements:,} placements, {self.baselines} of them baselines",
        ]
        if self.epoch_s is not None and self.total_s is not None:
            lines.append(
                f"one epoch takes about {self.epoch_s:.1f} s here; the whole search at most {self.total_s / 60:.1f} "
                "minutes with one worker, less what is pruned and what other workers do"
            )
        if self.smallest_difference is not None:
            lines.append(
                f"differences in accuracy above about {self.smallest_difference:.1%} could be shown between two confirmed "
                "candidates; smaller ones are noise at this budget"
            )
        return "\n".join(lines)


def forecast(
    recipe: Recipe, *, device: str = "auto", threads: int | None = None, tried: Sequence[str] = ()
) -> Forecast:
    """Builds everything, times an epoch, trains no candidate and writes nothing.

    Args:
        threads: of the worker that is timed; None: what each of the usual number of workers gets.
        tried: placements of one's own that the search is to evaluate, too.

    Raises:
        UserError: the recipe or one of these placements cannot be carried out.
    """
    where = pick_device(device)
    dataset = None if recipe.data.name == "external" else data.load(recipe.data, device=where)
    plan = plan_for(recipe, dataset)
    ideas(plan, tried)
    if recipe.training.evaluator is not None or dataset is None:
        return _made(recipe, plan, None, None)
    trainer = Trainer(recipe.training, dataset, device=where)
    with intra_op_threads(threads_each(default_workers(device), recipe, threads)):
        began = time.perf_counter()
        trainer.fit(plan.bare(0), seed=0, rungs=[1], learning_rate=recipe.training.learning_rate)
        epoch_s = time.perf_counter() - began
    return _made(recipe, plan, epoch_s, len(dataset.validation))


def _made(recipe: Recipe, plan: Plan, epoch_s: float | None, images: int | None) -> Forecast:
    training, search = recipe.training, recipe.search
    placements = plan.space.count()
    baselines = {"all": len(plan.space.baselines()), "bare": 1, "none": 0}[search.baselines]
    trials = min(search.trials, placements + baselines)
    backbone = training.backbone_epochs if training.start == "backbone" else 0
    confirmed = min(6, trials) * search.confirm_seeds
    epochs = backbone + training.rungs[-1] * (trials * training.seeds + confirmed)
    sessions = recipe.latency.session_seconds * trials if "latency" in recipe.objectives else 0.0
    difference = None
    if images:
        sd = math.hypot(TYPICAL_SEED_SD, 0.5 / math.sqrt(images) * 0.8)
        difference = 1.96 * sd * math.sqrt(2 / (training.seeds + search.confirm_seeds))
    return Forecast(
        study=recipe.name,
        placements=placements,
        trials=trials,
        baselines=min(baselines, trials),
        epoch_s=epoch_s,
        total_s=None if epoch_s is None else epoch_s * epochs + sessions,
        smallest_difference=difference,
    )

"""What `nas-attn fidelity` is to compare: placements, the reference, the cheap ways of training."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.objectives import COSTS
from nas_attn.errors import RecipeError
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.records import ResolvedPlacement
from nas_attn.space import SearchSpace

REFERENCE_SEEDS = 1000
"""The reference's seeds begin this far above the cheap settings'."""
FEWEST = 4
"""Placements below which an order says nothing."""
STARTS = ("backbone", "scratch", "pretrained")


@dataclass(frozen=True, slots=True)
class FidelityPlan:
    """What is to be compared with what."""

    recipe: Recipe
    placements: int
    seeds: int
    reference_start: str
    reference_epochs: int
    epochs: tuple[int, ...]
    starts: tuple[str, ...]
    subsets: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of training, which gives a setting per rung, metric and number of seeds."""

    start: str
    subset: float
    rungs: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def cost(self) -> float:
        """Epochs' worth of images of one run."""
        return self.subset * self.rungs[-1]

    def __str__(self) -> str:
        share = "" if self.subset == 1 else f" on {100 * self.subset:.3g} % of the images"
        return f"start {self.start}, {self.rungs[-1]} epochs{share}"


def make_fidelity_plan(
    recipe: Recipe,
    *,
    placements: int = 12,
    seeds: int = 4,
    reference_start: str | None = None,
    reference_epochs: int | None = None,
    epochs: Sequence[int] = (1, 2, 4),
    starts: Sequence[str] | None = None,
    subsets: Sequence[float] | None = None,
) -> FidelityPlan:
    """Fills in what was left open, and checks it.

    Args:
        reference_start: None: as the recipe's target says.
        reference_epochs: None: the target's, and at least as many as the cheap runs have.
        starts: None: from scratch and as far as the recipe allows from trained weights.
        subsets: shares of the training images; None: all and half of them.

    Raises:
        RecipeError: a start, share or number that this recipe cannot have.
    """
    training = recipe.training
    possible = [
        "scratch",
        *(["backbone"] if recipe.data.name != "external" and not recipe.trained_by_ultralytics else []),
    ]
    target = recipe.target_training
    possible += ["pretrained"] if training.weights is not None or target.weights is not None else []
    own_data = not recipe.trained_here
    starts = starts or [s for s in STARTS if s in possible and (s != "backbone" or "pretrained" not in possible)]
    subsets = subsets or ((1.0,) if own_data else (1.0, 0.5))
    reference_start = reference_start or target.start
    last = max(epochs)
    reference_epochs = reference_epochs or max(target.rungs[-1], last)
    for start in (*starts, reference_start):
        if start not in possible:
            raise RecipeError(f"start '{start}' is not to be had with this recipe: it allows {', '.join(possible)}")
    for share in subsets:
        if not 0 < share <= 1 or (own_data and share < 1):
            why = "the evaluator brings its own data, so only 1 is possible" if own_data else "give shares in (0, 1]"
            raise RecipeError(f"subset {share:g} of the training images is not possible: {why}")
    if min(epochs) < 1 or reference_epochs < last:
        raise RecipeError(f"epochs {sorted(epochs)} must lie between 1 and the reference's {reference_epochs}")
    if placements < FEWEST or seeds < 2:
        raise RecipeError(f"{placements} placements with {seeds} seeds: at least {FEWEST} and 2 are needed")
    primary(recipe)
    return FidelityPlan(
        recipe=recipe,
        placements=placements,
        seeds=seeds,
        reference_start=reference_start,
        reference_epochs=reference_epochs,
        epochs=tuple(sorted(set(epochs))),
        starts=tuple(dict.fromkeys(starts)),
        subsets=tuple(sorted(set(subsets), reverse=True)),
    )


def arms(plan: FidelityPlan) -> tuple[Arm, list[Arm]]:
    """The reference, and the cheap ways of training, the cheapest first."""
    first = plan.recipe.search.seed
    seeds = tuple(range(first, first + plan.seeds))
    reference_seeds = tuple(seed + REFERENCE_SEEDS for seed in seeds)
    cheap = [Arm(start, subset, plan.epochs, seeds) for start in plan.starts for subset in plan.subsets]
    reference = Arm(plan.reference_start, 1.0, (plan.reference_epochs,), reference_seeds)
    return reference, sorted(cheap, key=lambda arm: arm.cost)


def epochs_in_all(plan: FidelityPlan) -> float:
    """Epochs of all runs, a backbone per share of the images included."""
    reference, cheap = arms(plan)
    runs = sum(arm.cost * len(arm.seeds) for arm in (reference, *cheap)) * plan.placements
    number, training = min(plan.seeds, plan.recipe.training.backbones), plan.recipe.training
    backbones = sum({arm.subset for arm in cheap if arm.start == "backbone"}) + (reference.start == "backbone")
    return runs + backbones * number * training.backbone_epochs


def networks(plan: FidelityPlan, space: SearchSpace) -> list[ResolvedPlacement]:
    """The placements of a plan: as many as it asks for, or as the space has.

    Raises:
        RecipeError: the space has too few for an order.
    """
    found = spread(space, plan.placements, plan.recipe.search.seed)
    if len(found) < FEWEST:
        raise RecipeError(
            f"search space '{plan.recipe.space.name}' holds {len(found)} different networks, too few for an order"
        )
    return found


def spread(space: SearchSpace, count: int, seed: int) -> list[ResolvedPlacement]:
    """Different networks of a space: every third a baseline (no attention first), the others drawn at random.

    A larger count begins with the smaller count's. Fewer, where the space has fewer.
    """
    rng = random.Random(seed)
    baselines = deque(space.resolve(baseline.values) for baseline in space.baselines())
    found: dict[str, ResolvedPlacement] = {}
    while len(found) < count:
        drawn = None if baselines and len(found) % 3 == 0 else _unseen(space, rng, found)
        if drawn is None and not baselines:
            break
        drawn = drawn or baselines.popleft()
        found.setdefault(drawn.key, drawn)
    return list(found.values())


def _unseen(space: SearchSpace, rng: random.Random, seen: Mapping[str, object]) -> ResolvedPlacement | None:
    if space.count() == 0:
        return None
    drawn = (space.resolve(space.sample(rng)) for _ in range(200))
    return next((placement for placement in drawn if placement.key not in seen), None)


def metrics(recipe: Recipe) -> dict[str, float]:
    """Metrics that rank candidates, with the sign that makes higher better."""
    trained = [objective for objective in recipe.objectives if objective not in COSTS]
    task = recipe.task.facts
    own = {task.metric: 1.0, **dict.fromkeys((*task.losses, "train_loss_sum"), -1.0)}
    own = own if recipe.trained_here else {}
    return {**own, **{objective_name(o): -1.0 if lower_is_better(o) else 1.0 for o in trained}}


def primary(recipe: Recipe) -> str:
    """The objective that the reference is about: the first that comes from training."""
    for objective in recipe.objectives:
        if objective not in COSTS:
            return objective
    if recipe.training.evaluator is not None:
        raise RecipeError(f"objectives {recipe.objectives} name no metric of training.evaluator to rank candidates by")
    return recipe.task.facts.metric

"""What a search tries without being asked: baselines, and controls beside them."""

from __future__ import annotations

import math

from nas_attn.attention.catalogue import CONTROLS
from nas_attn.backbones.larger import larger
from nas_attn.evaluation.plan import (
    Plan,
    wanted,
)
from nas_attn.recipe import Recipe
from nas_attn.records import (
    Assignment,
    BaselineName,
    Choice,
    Placement,
    ResolvedPlacement,
)
from nas_attn.space import BACKBONE_SITE, Baseline, SearchSpace
from nas_attn.study.opening import OpenStudy
from nas_attn.study.trial_book import BASELINE

# searches with at least so many trials have a larger network among them
FEWEST_TRIALS = 10


def larger_networks(recipe: Recipe, plan: Plan, trials: int) -> dict[str, ResolvedPlacement]:
    """Name -> a larger network of the backbone's family. A search of so many trials trains one of
    them as a control, if it measures latency, has enough trials, and the network can have the same
    start: random weights, own training, published weights.
    """
    own_weights = recipe.training.start == "pretrained" and recipe.training.weights != "default"
    if (
        recipe.search.baselines != "all"
        or "latency" not in wanted(recipe)
        or plan.own_build
        or own_weights
    ):
        return {}
    if trials < FEWEST_TRIALS:
        return {}
    return {
        str(BaselineName("control", str(other))): plan.resolved(
            Placement((Assignment(BACKBONE_SITE, other),))
        )
        for other in larger(recipe.backbone)
    }


def first_baselines(recipe: Recipe, space: SearchSpace, trials: int) -> dict[str, Baseline]:
    """Key -> baseline of the recipe, equal networks once; uniform ones: at most three, or a third
    of the trials (two thirds where each seed divides few images anew).
    """
    baselines: dict[str, Baseline] = {}
    if recipe.search.baselines == "none":
        return baselines
    bare, *uniform = space.baselines()
    # where there are few validation images, there are few candidates: these first
    few = recipe.data.resplit is True and trials >= FEWEST_TRIALS
    share = 2 / 3 if few else 1 / 3
    most = 0
    if recipe.search.baselines == "all":
        most = max(3, math.ceil(share * trials))
    # evenly over the types, which follow each other in a search space
    if len(uniform) > most:
        uniform = [uniform[number * len(uniform) // most] for number in range(most)]
    for baseline in (bare, *uniform):
        baselines.setdefault(space.resolve(baseline.values).key, baseline)
    return baselines


def first_controls(recipe: Recipe, plan: Plan, trials: int) -> dict[str, ResolvedPlacement]:
    """Name -> a network with a plain layer at every site, one for each kind of layer. Empty if no
    latency is measured, or if they would take more than half of the trials.
    """
    baselines = first_baselines(recipe, plan.space, trials)
    if recipe.search.baselines != "all" or "latency" not in wanted(recipe):
        return {}
    if 2 * (len(baselines) + len(CONTROLS)) > trials:
        return {}
    networks = {
        str(BaselineName("control", name)): plan.resolved(plan.space.everywhere(Choice(name)))
        for name in CONTROLS
    }
    return {name: resolved for name, resolved in networks.items() if resolved.key not in baselines}


def enqueue_baselines(opened: OpenStudy) -> None:
    """Puts baselines and controls at the front of the queue; queued ones keep their places."""
    with opened.database.creating():
        for baseline in first_baselines(opened.recipe, opened.plan.space, opened.trials).values():
            opened.book.enqueue(baseline.values, {BASELINE: baseline.name})
        for name, resolved in first_controls(opened.recipe, opened.plan, opened.trials).items():
            opened.book.enqueue_outside(resolved.text, {BASELINE: name})

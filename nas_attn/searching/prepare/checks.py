"""What must be there, and fit, before a search begins or goes on."""

from __future__ import annotations

import warnings

from nas_attn.errors import BackboneError, NasAttnWarning
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import tracking
from nas_attn.searching.prepare.baselines import named_controls, user_trials
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.prepare.taking_over import check_source
from nas_attn.searching.propose.samplers import check_sampler
from nas_attn.system.importing import PYTHON, load_object
from nas_attn.training.evaluators import Evaluator, find_evaluator
from nas_attn.training.images import keep_or_compare
from nas_attn.training.numerics import execution_on
from nas_attn.training.plan import Build, check_limits
from nas_attn.training.starts import given_weights, pick_device, read_weights, wanted_weights


def check(plan: SearchPlan) -> None:
    """Checks a plan before anything is written. Raises UserError: it cannot be carried out."""
    recipe = plan.recipe
    check_here(recipe, device=plan.device, build=plan.build, evaluator=plan.evaluator)
    if plan.source is not None:
        check_source(recipe, plan.source.recipe)
    if plan.study is not None:
        keep_or_compare(plan.study.store, recipe, plan.dataset)
    elif plan.is_new:
        # a study that began before this was checked goes on
        check_limits(plan.networks)
    for control in named_controls(recipe, plan.networks).values():
        networks = plan.networks.like(control.other)
        networks.bare(0)
        for needed in wanted_weights(networks.recipe):
            given_weights(networks, needed)
    user_trials(plan.networks, plan.tried)
    if plan.study is None or wanted_weights(recipe):
        for note in read_weights(plan.networks):
            warnings.warn(note, NasAttnWarning, stacklevel=2)


def check_here(
    recipe: Recipe, *, device: str, build: Build | None = None, evaluator: Evaluator | None = None
) -> None:
    """Checks that this process has what a recipe needs.

    Args:
        recipe: what is searched.
        device: of the trainings.
        build: makes the backbone, if a function does.
        evaluator: trains candidates, if a function does.

    Raises:
        RecipeError, BackboneError: the device, the model, the evaluator, the sampler, the latency
            mode or a tracker is not here.
    """
    tracking.check(recipe)
    execution_on(recipe.training, pick_device(device))
    if recipe.backbone.name.startswith(PYTHON) and build is None:
        load_object(recipe.backbone.name, what="backbone", error=BackboneError)
    if recipe.training.evaluator is not None and evaluator is None:
        find_evaluator(recipe.training.evaluator)
    check_sampler(recipe.search.sampler)

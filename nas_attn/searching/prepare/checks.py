"""What must be there, and fit, before a search begins or goes on."""

from __future__ import annotations

import warnings

from nas_attn.errors import BackboneError, NasAttnWarning
from nas_attn.report import tracking
from nas_attn.searching.prepare.baselines import check_other, named_controls, user_trials
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.prepare.taking_over import check_source
from nas_attn.searching.propose.samplers import check_sampler
from nas_attn.system.importing import PYTHON, load_object
from nas_attn.training.evaluators import find_evaluator
from nas_attn.training.images import keep_or_compare
from nas_attn.training.numerics import execution_on
from nas_attn.training.plan import check_limits
from nas_attn.training.starts import pick_device, read_weights


def check(plan: SearchPlan) -> None:
    """Checks a plan before anything is written, and that this process has what it needs. Raises
    UserError: it cannot be carried out.
    """
    recipe = plan.recipe
    _check_here(plan)
    if plan.source is not None:
        check_source(recipe, plan.source.recipe)
    if plan.study is not None:
        keep_or_compare(plan.study.store, recipe, plan.dataset)
    elif plan.is_new:
        # a study that began before this was checked goes on
        check_limits(plan.networks)
    tried = [*named_controls(recipe, plan.networks).values()]
    tried += [own.resolved for own in user_trials(plan.networks, plan.tried)]
    for network in tried:
        if network.other is not None:
            check_other(plan.networks, network.other)
    for note in read_weights(plan.networks):
        warnings.warn(note, NasAttnWarning, stacklevel=2)


def _check_here(plan: SearchPlan) -> None:
    """Raises UserError: the device, the model, the evaluator, the sampler or a tracker is not
    here.
    """
    recipe = plan.recipe
    tracking.check(recipe)
    execution_on(recipe.training, pick_device(plan.device))
    if recipe.backbone.name.startswith(PYTHON) and plan.build is None:
        load_object(recipe.backbone.name, what="backbone", error=BackboneError)
    if recipe.training.evaluator is not None and plan.evaluator is None:
        find_evaluator(recipe.training.evaluator)
    check_sampler(recipe.search.sampler)

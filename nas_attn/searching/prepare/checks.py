"""What must be there before a search begins: the device, the evaluator, weights and images."""

from __future__ import annotations

import warnings

from nas_attn.errors import BackboneError, NasAttnWarning
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import tracking
from nas_attn.searching.propose.proposers import check_sampler
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.importing import PYTHON, load_object
from nas_attn.training.arithmetic import execution_on
from nas_attn.training.evaluators import Evaluator
from nas_attn.training.images import KnownImages, keep_or_compare
from nas_attn.training.plan import Build, Plan, study_plan
from nas_attn.training.programs import find_evaluator
from nas_attn.training.starts import pick_device, read_weights, wanted_weights
from nas_attn.training.tasks.data import data_of


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
    if "latency" in recipe.objectives:
        recipe.latency.refuse_former()
    tracking.check(recipe)
    execution_on(recipe.training, pick_device(device))
    if recipe.backbone.name.startswith(PYTHON) and build is None:
        load_object(recipe.backbone.name, what="backbone", error=BackboneError)
    if recipe.training.evaluator is not None and evaluator is None:
        find_evaluator(recipe.training.evaluator)
    check_sampler(recipe.search.sampler)


def check_weights(plan: Plan) -> None:
    """Reads the weights that a recipe names, and warns of partial matches. Raises BackboneError:
    they do not fit. Raises RecipeError: there are learning rates for another number of stages.
    """
    for note in read_weights(plan):
        warnings.warn(note, NasAttnWarning, stacklevel=2)


def check_start(opened: OpenStudy) -> None:
    """Raises BackboneError if the weights that a study's recipe names are not there or do not
    fit.
    """
    if wanted_weights(opened.recipe):
        check_weights(study_plan(opened.store))


def check_images(opened: OpenStudy) -> KnownImages:
    """Reads a study's images; returns what it knows of them.

    Raises:
        DataError: they are missing, or not those of the study.
    """
    dataset = data_of(tasks.of(opened.recipe)).load(opened.recipe, device="cpu")
    return keep_or_compare(opened.store, opened.recipe, dataset)

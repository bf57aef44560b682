"""Trained weights that a recipe names: what runs start from with `start = "pretrained"`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from nas_attn import backbones
from nas_attn.errors import NasAttnWarning
from nas_attn.evaluation.plan import Plan
from nas_attn.recipe import Recipe


def given_weights(plan: Plan, weights: str | None = None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The state_dict of the bare backbone with trained weights, and what a user should know of them.

    Args:
        weights: a file or `default`; None: those of `training.weights`.

    Raises:
        BackboneError: they cannot be had, or are not this backbone's.
    """
    weights = weights or plan.recipe.training.weights
    assert weights is not None  # the recipe's schema sees to it
    if weights == "default":
        section, shape = plan.recipe.backbone, plan.input_shape
        return backbones.build(section, input_shape=shape, classes=plan.classes, pretrained=True).state_dict(), ()
    model = plan.bare(plan.recipe.search.seed)
    notes = backbones.load_weights(model, weights)
    return model.state_dict(), notes


def check_weights(plan: Plan) -> None:
    """Reads the weights that a recipe names, before anything is begun with them, and warns of what a user should know.

    Raises:
        BackboneError: they cannot be had, or are not this backbone's.
    """
    for weights in wanted_weights(plan.recipe):
        for note in given_weights(plan, weights)[1]:
            warnings.warn(note, NasAttnWarning, stacklevel=2)


def wanted_weights(recipe: Recipe) -> list[str]:
    """The weights that a recipe's search and its target start from, each once."""
    ways = (recipe.training, recipe.target_training)
    return list(dict.fromkeys(way.weights for way in ways if way.start == "pretrained" and way.weights is not None))

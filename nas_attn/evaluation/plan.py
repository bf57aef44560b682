"""What a recipe means before anything is trained: the backbone, its sites, the space laid over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from nas_attn import attachment, backbones
from nas_attn.errors import BackboneError, NasAttnError
from nas_attn.recipe import Recipe
from nas_attn.records import Costs, ResolvedPlacement, Site
from nas_attn.space import SearchSpace, parse, resolve

Build = Callable[[], nn.Module]
"""Builds the bare backbone, randomly initialised from torch's global generator."""


@dataclass(frozen=True)
class Plan:
    """A recipe joined with its backbone."""

    recipe: Recipe
    input_shape: tuple[int, int, int]
    """(channels, height, width) of one image."""
    classes: int
    sites: tuple[Site, ...]
    """Stages, then blocks."""
    space: SearchSpace
    bare_cost: Costs
    build: Build
    own_build: Build | None = None
    """The user's function behind `build`; None: the recipe's backbone."""
    _resolved: dict[str, ResolvedPlacement] = field(default_factory=dict, init=False, repr=False, compare=False)

    def resolved(self, placement: str) -> ResolvedPlacement:
        """The network that a placement in notation means here; the same text is read once.

        Raises:
            PlacementError: it is none of this backbone.
        """
        if placement not in self._resolved:
            self._resolved[placement] = resolve(parse(placement), self.sites, init=self.space.init)
        return self._resolved[placement]

    def bare(self, seed: int) -> nn.Module:
        """The bare backbone with the seed's random weights; the global generator is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()

    def attach(self, model: nn.Module, resolved: ResolvedPlacement, seed: int) -> nn.Module:
        """Puts a placement's modules into a bare model, in place, with the seed's random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return attachment.attach(model, resolved)

    def cost(self, resolved: ResolvedPlacement) -> Costs:
        """What a candidate costs."""
        return attachment.cost(self.attach(self.bare(0), resolved, 0), self.input_shape, self.recipe.objectives)


@dataclass(frozen=True, slots=True)
class Kept:
    """The sites that a study began with."""

    input_shape: tuple[int, int, int]
    """The images' that the points' shapes are for."""
    classes: int
    sites: tuple[Site, ...]


def make_plan(
    recipe: Recipe,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    build: Build | None = None,
    kept: Kept | None = None,
) -> Plan:
    """Joins a recipe with its backbone.

    Args:
        kept: the sites that a study began with; None: those that the backbone has.
        build: replaces the recipe's backbone (a Python object given to `na.search`).

    Raises:
        BackboneError: the backbone cannot be built or has no site.
        RecipeError: the space names what the backbone does not have.
    """

    def from_recipe() -> nn.Module:
        return backbones.build(recipe.backbone, input_shape=input_shape, classes=classes)

    made_by = from_recipe if build is None else _checked(build)
    with torch.random.fork_rng(devices=[]):
        model = made_by()
    wanted = recipe.space.sites
    if kept is not None:
        same = kept.input_shape == input_shape
        sites = kept.sites if same else attachment.reshaped(kept.sites, model, input_shape)
    else:
        sites = attachment.survey(model, input_shape, custom=wanted.custom, heads=wanted.heads).sites
    bare_cost = attachment.cost(model, input_shape, recipe.objectives)
    space = SearchSpace(recipe.space, sites, init=recipe.training.resolved_init)
    return Plan(recipe, input_shape, classes, sites, space, bare_cost, made_by, build)


def _checked(build: Build) -> Build:
    """A user's function, whose failure is told in one sentence."""

    def checked() -> nn.Module:
        try:
            model = build()
        except NasAttnError:
            raise
        except Exception as error:  # whatever a user's own code may raise
            raise BackboneError(f"the model's function raised {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise BackboneError(f"the model's function returned a {type(model).__name__}, not a torch.nn.Module")
        return model

    return checked

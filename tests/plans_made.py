"""Plans of recipes: backbone, sites and space."""

from __future__ import annotations

from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.storage.store import StudyStore
from nas_attn.training.images import keep_or_compare
from nas_attn.training.plan import Build, Plan, kept_sites, plan_for
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import check_trainings


def plan_recipe(
    recipe: Recipe, *, build: Build | None = None, store: StudyStore | None = None
) -> Plan:
    """A recipe's backbone, sites (with `store`: those that the study began with) and space. Loads
    the data, trains nothing.
    """
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    kept = None
    if store is not None:
        keep_or_compare(store, recipe, dataset)
        kept = kept_sites(store)
    check_trainings(recipe, dataset)
    return plan_for(recipe, dataset, build=build, kept=kept)

"""A study's sites: those that it began with, whatever a later version finds in its backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas_attn import data, tasks
from nas_attn.evaluation.plan import Build, Kept, Plan, make_plan
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import frozen_recipe
from nas_attn.records import Point, Site
from nas_attn.storage import StudyStore


def kept_sites(store: StudyStore) -> Kept | None:
    """The sites that a study began with; None where that has not been written down yet."""
    text = store.sites
    if text is None:
        return None
    content = json.loads(text)
    channels, height, width = content["input_shape"]
    return Kept((channels, height, width), content["classes"], tuple(_site(entry) for entry in content["sites"]))


def keep_sites(store: StudyStore, plan: Plan) -> None:
    """Writes the sites of a study down, by the plan of its own recipe; with another's data nothing is written."""
    if frozen_recipe(store.recipe, where=f"study '{store.name}'").data != plan.recipe.data:
        return
    content = {
        "input_shape": plan.input_shape,
        "classes": plan.classes,
        "sites": [_entry(site) for site in plan.sites],
    }
    store.set(sites=json.dumps(content, separators=(",", ":")))


def _entry(site: Site) -> dict[str, object]:
    return {
        "name": site.name,
        "role": site.role,
        "macs_share": site.macs_share,
        "points": {
            position: [[p.path, p.channels, p.height, p.width, p.replaces] for p in points]
            for position, points in site.points
        },
    }


def _site(entry: Mapping[str, Any]) -> Site:
    points = ((position, tuple(Point(*point) for point in found)) for position, found in entry["points"].items())
    return Site(entry["name"], tuple(points), entry["macs_share"], entry["role"])


def plan_for(
    recipe: Recipe, dataset: data.Dataset | None, *, build: Build | None = None, kept: Kept | None = None
) -> Plan:
    """A recipe's plan with the shape and classes of its data.

    Args:
        kept: the sites that the study began with which it is for.
    """
    if dataset is not None:
        shape, classes = dataset.input_shape, len(dataset.classes)
    else:
        shape, classes = tasks.of(recipe).shape_and_classes(recipe)
    return make_plan(recipe, shape, classes, build=build, kept=kept)


def study_plan(store: StudyStore, plan: Plan | None = None) -> Plan:
    """The plan of a study's own recipe, on the sites that it began with, which are written down the first time.

    Args:
        plan: of the recipe as a user has it now, which is taken where nothing has changed since: the file may have been put in
            another order, which names values anew.
    """
    recipe, kept = frozen_recipe(store.recipe, where=f"study '{store.name}'"), kept_sites(store)
    build = plan.own_build if plan is not None else None
    if plan is None and kept is None:
        plan = plan_for(recipe, tasks.of(recipe).load(recipe, device="cpu"))
    elif plan is None or (kept and kept.sites != plan.sites) or recipe.to_json() != plan.recipe.to_json():
        shape, classes = (kept or plan).input_shape, (kept or plan).classes  # type: ignore[union-attr]
        plan = make_plan(recipe, shape, classes, build=build, kept=kept)
    if kept is None:
        keep_sites(store, plan)
    return plan

"""A study keeps the sites that it began with, whatever is found in its backbone later."""

from __future__ import annotations

import json
from pathlib import Path

from plans_made import plan_recipe
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.recipe import reading
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare import beginning
from nas_attn.space import notation
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.plan import kept_sites, study_plan


class Block(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.one, self.two, self.side = (
            nn.Conv2d(i, o, 3, padding=1),
            nn.Conv2d(o, o, 3, padding=1),
            nn.Conv2d(i, o, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = functional.relu(self.two(functional.relu(self.one(x))) + self.side(x))
        return y


class Hourglass(nn.Module):
    """Two sizes down, one up again: the third block has the first one's shape and is in the
    neck.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(1, 8), Block(8, 16), Block(16, 8)])
        self.classes = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        x = self.blocks[1](functional.max_pool2d(x, 2))
        x = self.blocks[2](functional.interpolate(x, scale_factor=2.0))
        y: Tensor = self.classes(x)
        return y


def judge(model: nn.Module, run: object) -> dict[str, float]:
    return {"miou": 0.5}


def recipe(side: int = 16) -> Recipe:
    table = {
        "name": "kept",
        "objectives": ["miou", "params"],
        "space": {"name": "kept", "choices": {"eca": {}, "se": {"reduction": [4]}}},
        "backbone": {"name": f"{__name__}:Hourglass"},
        "data": {"name": "external", "input_shape": [1, side, side]},
        "training": {"evaluator": f"{__name__}:judge", "start": "scratch", "rungs": [1]},
    }
    return reading.recipe_from(table, where="here")


def begun(folder: Path) -> OpenStudy:
    return beginning.begin(recipe(), f"sqlite:///{folder / 'kept.db'}", build=Hourglass)


def read(opened: OpenStudy, placement: str) -> ResolvedPlacement:
    plan = plan_recipe(opened.recipe, build=Hourglass, store=opened.store)
    return plan.resolved(notation.parse(placement))


def with_other_sites(opened: OpenStudy) -> None:
    """stage1 with the neck's block of the same shape, as another way to find sites may have it."""
    content = json.loads(opened.store.sites or "")
    stage, *others = (site for site in content["sites"] if "." not in site["name"])
    neck = next(site for site in others if site["name"] == "neck1")
    for position, points in stage["points"].items():
        if position != "stage":
            points.extend(neck["points"][position])
    content["sites"] = [stage, *(site for site in others if site is not neck)]
    opened.store.set(sites=json.dumps(content))


def test_a_study_goes_by_the_sites_that_it_began_with(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    kept = kept_sites(opened.store)
    assert [site.name for site in kept.sites if "." not in site.name] == [
        "stage1",
        "stage2",
        "neck1",
    ]
    assert [point.path for point, _ in read(opened, "stage1=eca").modules] == ["blocks.0.two"]
    with_other_sites(opened)
    assert [point.path for point, _ in read(opened, "stage1=eca").modules] == [
        "blocks.0.two",
        "blocks.2.two",
    ]
    plan = study_plan(opened.store, plan_recipe(opened.recipe, build=Hourglass))
    assert list(plan.space.parameters) == ["stage1", "stage2"]


def test_their_maps_are_those_of_the_images_at_hand(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    plan = plan_recipe(recipe(side=32), build=Hourglass, store=opened.store)
    assert {
        (p.channels, p.height, p.width) for _, points in plan.sites[0].points for p in points
    } == {(8, 32, 32)}
    assert kept_sites(opened.store).input_shape == (1, 16, 16)

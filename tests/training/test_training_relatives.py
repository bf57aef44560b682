"""A placement in another backbone than the study's: its own sites, its own weights, its own key."""

from __future__ import annotations

from pathlib import Path

import pytest

import nas_attn as na
from nas_attn import backbones
from nas_attn.answer.drawing import code_of
from nas_attn.errors import PlacementError
from nas_attn.model.features import BuiltFor
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse
from nas_attn.storage.opening import open_study
from nas_attn.storage.records import CandidateRow
from nas_attn.training.plan import Plan, make_plan

TABLE = {
    "name": "others",
    "objectives": ["accuracy", "params"],
    "space": {"name": "others", "choices": {"eca": {}}},
    "backbone": {"name": "resnet8", "width": 4},
    "data": {"name": "digits-8x8"},
    "training": {"start": "backbone", "backbone_epochs": 1, "rungs": [1], "batch_size": 128},
    "search": {"trials": 3, "baselines": "none", "pruner": "none", "confirm_seeds": 0},
}
NARROW = "backbone=resnet8(width=3)"
SHAPE = (1, 8, 8)


@pytest.fixture
def recipe() -> Recipe:
    return recipe_from(TABLE, where="others")


@pytest.fixture
def plan(recipe: Recipe) -> Plan:
    return make_plan(recipe, SHAPE, 10)


def test_the_sites_are_those_of_the_other_backbone(plan: Plan) -> None:
    deeper = plan.resolved(parse("backbone=resnet14(width=4) stage3.block2=eca"))
    assert deeper.modules[0][0].path.startswith("layer3.1")
    again = plan.resolved(deeper.placement)
    assert (again.key, again.modules) == (deeper.key, deeper.modules)
    with pytest.raises(PlacementError, match=r"stage3\.block2"):
        plan.resolved(parse("stage3.block2=eca"))


def test_equal_networks_have_equal_keys_and_others_do_not(plan: Plan) -> None:
    texts = (NARROW, f"{NARROW} stage2=none", f"{NARROW} stage2=eca", "stage2=eca", "none")
    keys = [plan.resolved(parse(text)).key for text in texts]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_the_code_of_an_answer_builds_the_network(plan: Plan, recipe: Recipe) -> None:
    resolved = plan.resolved(parse(f"{NARROW} stage2=eca"))
    row = CandidateRow(resolved.key, resolved.placement, 0, "scored", None, "", {}, 0.0)
    code = code_of(recipe, BuiltFor(SHAPE, 10), row)
    names: dict[str, object] = {}
    exec(code, names)
    shapes = [tuple(p.shape) for p in names["model"].parameters()]  # type: ignore[attr-defined]
    assert shapes == [tuple(p.shape) for p in plan.network(resolved, 0).parameters()]


def test_a_search_trains_it_from_a_backbone_of_its_own(
    recipe: Recipe, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    placement = plan.resolved(parse(f"{NARROW} stage2=eca")).text
    study = na.search(
        recipe,
        device="cpu",
        threads=1,
        try_placements=[placement, NARROW],
        say=lambda line: None,
    )
    scored = [view for view in study.candidates() if view.scores]
    named = {str(view.placement): view for view in scored}
    assert {NARROW, placement} <= named.keys()
    store = open_study("others", f"sqlite:///{tmp_path}/nas_attn.db").store
    own = [name for name in store.backbones.all() if "width=3" in name]
    assert len(own) == 2, "one for each seed"
    bare = backbones.create("resnet8", input_shape=SHAPE, classes=10, width=3)
    assert named[NARROW].cost["params"] == sum(p.numel() for p in bare.parameters())

"""Relatives of the backbone that a search tries beside placements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Nas, nas  # noqa: F401
from plans_made import plan_recipe
from torch import nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import CandidateView
from nas_attn.backbones.relatives import Relatives
from nas_attn.errors import BackboneError, PlacementError
from nas_attn.model.features import is_control
from nas_attn.recipe.reading import recipe_from
from nas_attn.searching.prepare import baselines
from nas_attn.searching.prepare.beginning import begin
from nas_attn.searching.run import taking_part
from nas_attn.space.search_space import other_of
from nas_attn.storage.opening import open_study

TABLE: dict[str, Any] = {
    "name": "family",
    "space": {"name": "family", "choices": {"se": {"reduction": [4]}, "simam": {}}},
    "backbone": {"name": "resnet8", "width": 8},
    "data": {"name": "digits-8x8"},
    "target": {"epochs": 1},
    "training": {"batch_size": 256},
    "latency": {"session_seconds": 0.2},
}


def searched(folder: Path, patch: pytest.MonkeyPatch, **search: object) -> list[CandidateView]:
    """The candidates of a search."""
    patch.chdir(folder)
    table = {**TABLE, "search": {"confirm_seeds": 0, **search}}
    recipe = recipe_from(table, where="family")
    na.search(recipe, device="cpu", threads=1, say=lambda line: None)
    return list(snapshot(open_study("family").store).candidates)


def others(candidates: list[CandidateView]) -> list[CandidateView]:
    return [view for view in candidates if other_of(view.placement) is not None]


# 16 candidates with latencies, and all commands; test_prepare_planning.py has one relative
@pytest.mark.slow
def test_a_quarter_of_the_candidates_are_relatives_that_can_be_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nas: Nas,  # noqa: F811
) -> None:
    candidates = searched(tmp_path, monkeypatch, trials=16)
    relatives = others(candidates)
    assert len(candidates) == 16
    assert len(relatives) == 4
    bare = next(view for view in candidates if view.is_bare)
    assert bare.cost is not None
    size = bare.cost["params"]
    sizes = [view.cost["params"] for view in relatives if view.cost]
    assert sum(one > size for one in sizes) == 2
    assert sum(one < size for one in sizes) == 2
    assert all(view.state == "scored" for view in relatives)
    named = str(relatives[0].placement)
    common = ("--workers", "1", "--device", "cpu")
    assert nas("retrain", "--placement", named, *common).status == 0
    assert nas("export", "-o", "net.pt", "--placement", named).status == 0
    assert nas("export", "-o", "net.onnx", "--placement", named).status == 0
    assert nas("test", "--seeds", "2", "--placement", named, *common).status == 0
    for page in ("show", "report", "effects"):
        assert nas(page).status == 0, page


# a search; who tries controls is asked in test_prepare_planning.py
@pytest.mark.slow
def test_controls_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "objectives", ["accuracy", "params"])
    candidates = searched(tmp_path, monkeypatch, trials=8, controls="none")
    assert not any(is_control(view.placement) for view in candidates)


def test_controls_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE, "objectives", ["accuracy", "params"])
    names = ["resnet8(width=12)", "resnet8(width=6)"]
    candidates = searched(tmp_path, monkeypatch, trials=6, controls=names)
    assert {str(other_of(view.placement)) for view in others(candidates)} == set(names)


def test_a_relative_is_tried_though_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = {**TABLE, "search": {"confirm_seeds": 0, "trials": 12}}
    opened = begin(recipe_from(table, where="family"), "sqlite:///nas_attn.db")
    opened.store.set(screen_until=opened.database.now() - 1)
    taking_part.work(opened, taking_part.Options(device="cpu", threads=1, say=lambda line: None))
    (row,) = opened.store.candidates()
    assert other_of(row.placement) is not None
    assert opened.trials == 1


def test_an_empty_list_names_no_controls() -> None:
    search = {"trials": 16, "controls": []}
    recipe = recipe_from({**TABLE, "search": search}, where="family")
    plan = plan_recipe(recipe)
    assert not baselines.named_controls(recipe, plan)
    assert baselines.family_of(recipe, plan, 16) == Relatives()


@pytest.mark.parametrize("weights", [None, "default", "mine.pt"])
def test_relatives_can_start_as_the_target_does(weights: str | None) -> None:
    changes: dict[str, object] = {"backbone": {"name": "torchvision:resnet18"}}
    if weights:
        start = {"start": "pretrained", "weights": weights}
        changes |= {
            "training": {"start": "scratch", "rungs": [1]},
            "target": {"epochs": 1, **start},
        }
    recipe = recipe_from({**TABLE, **changes}, where="family")
    found = baselines.family_of(recipe, plan_recipe(recipe), 10)
    # a file fits no other network
    assert bool(found.larger) == (weights != "mine.pt")


def test_relatives_are_tried_in_a_fixed_order() -> None:
    recipe = recipe_from({**TABLE, "backbone": {"name": "resnet20", "width": 16}}, where="family")
    family = baselines.family_of(recipe, plan_recipe(recipe), 16)
    order = [str(other) for other in baselines.in_turn(family)]
    assert order == [
        "resnet20(width=18)",
        "resnet20(width=14)",
        "resnet32(width=16)",
        "resnet14(width=16)",
    ], "wider, narrower, deeper, shallower"


def test_no_network_is_compared_with_a_python_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search: dict[str, object] = {"trials": 10}
    table = {**TABLE, "search": search}
    recipe = recipe_from({**table, "search": {**search, "controls": ["resnet14"]}}, where="family")
    with pytest.raises(BackboneError, match=r"search\.controls = \['resnet14'\].*backbone\.name"):
        na.begin(recipe, model=cifar_net)
    assert not Path("nas_attn.db").exists()
    study = na.begin(recipe_from(table, where="family"), model=cifar_net)
    assert study.name == "family"


def cifar_net() -> nn.Module:
    return backbones.create("resnet8", input_shape=(1, 8, 8), classes=10, width=8)


def test_a_name_that_cannot_be_read_is_refused_before_a_study_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PlacementError, match=r"search\.controls"):
        searched(tmp_path, monkeypatch, trials=6, controls=["resnet8(width"])
    assert not Path("nas_attn.db").exists()

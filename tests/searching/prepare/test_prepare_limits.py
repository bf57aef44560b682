"""Limits that no placement can be within, and searches that have nothing left to try."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import Nas
from plans_made import plan_recipe

import nas_attn as na
from nas_attn.answer.answer import answer_of
from nas_attn.answer.next_step import next_of
from nas_attn.answer.reading import snapshot
from nas_attn.errors import RecipeError
from nas_attn.recipe.reading import load_recipe, recipe_from
from nas_attn.recipe.tables import COSTS, Cost
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.checks import check
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.run import taking_part
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import open_study
from nas_attn.storage.records import Latency
from nas_attn.training.plan import check_limits, excesses, over_limits

URL = "sqlite:///nas_attn.db"
TINY = {"name": "tiny", "sites": {"include": ["stage3"]}, "choices": {"eca": {}, "simam": {}}}
LIMITED = [pytest.param(row, id=row.name) for row in COSTS.values() if row.function and row.limit]


@pytest.mark.parametrize("cost", LIMITED)
def test_a_limit_that_the_bare_backbone_breaks_is_refused_before_a_study_begins(
    table: Path, cost: Cost
) -> None:
    value = cost_of_bare()[cost.name]
    # of the same type: a limit of a count is a whole number
    half = type(value)(value / 2)
    recipe = load_recipe("table.toml", overrides={f"limits.{cost.limit}": half})
    said = re.escape(f"limits.{cost.limit} = {half:,}")
    with pytest.raises(RecipeError, match=rf"the bare backbone's .* {said}"):
        beginning.begin(recipe, URL)
    assert not Path("nas_attn.db").exists()
    with pytest.raises(RecipeError):
        check(SearchPlan(recipe, URL))


def cost_of_bare() -> dict[str, float]:
    plan = plan_recipe(load_recipe("table.toml"))
    return dict(plan.cost(plan.resolved(BARE)))


@pytest.mark.parametrize("cost", LIMITED)
def test_the_bare_backbones_own_cost_is_no_limit_that_cannot_be_met(
    table: Path, cost: Cost
) -> None:
    limits = {f"limits.{cost.limit}": cost_of_bare()[cost.name]}
    check_limits(plan_recipe(load_recipe("table.toml", overrides=limits)))


def test_an_exhausted_search_advises_nobody_to_go_on(table: Path, nas: Nas) -> None:
    changes = {"space": TINY, "search.trials": 50, "search.confirm_seeds": 0}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL)
    assert next_of(answer_of(snapshot(opened.store))) is not None
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "exhausted"
    step = next_of(answer_of(snapshot(open_study("table", URL).store)))
    assert step is None or step.step.command != "resume"
    following = json.loads(nas("status", "table", "--json").out)["next"]
    assert following is None or "resume" not in following


def test_a_search_with_something_new_to_try_is_not_exhausted_any_more(table: Path) -> None:
    changes = {"space": TINY, "search.trials": 50, "search.confirm_seeds": 0}
    recipe = load_recipe("table.toml", overrides=changes)
    taking_part.work(beginning.begin(recipe, URL), taking_part.Options(say=lambda line: None))
    opened = beginning.begin(recipe, URL, tried=["stage1=eca"])
    assert opened.store.settings.exhausted_at is not None
    ended_at = opened.store.settings.exhausted_at
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "exhausted"
    assert opened.store.settings.exhausted_at > ended_at


@pytest.mark.parametrize("limits", [{"max_latency_ms": 11}, {"max_latency_ratio": 1.1}])
def test_a_limit_in_milliseconds_is_one_of_the_ratio_to_the_bare_backbone(
    limits: dict[str, float],
) -> None:
    changes = {f"limits.{name}": value for name, value in limits.items()}
    recipe = load_recipe("digits", overrides=changes)
    assert over_limits(recipe, {}, Latency(1.05, 1.04, 1.06, 10.0, 4)) == ""
    above = over_limits(recipe, {}, Latency(1.2, 1.19, 1.21, 10.0, 4))
    (name,) = limits
    assert f"limits.{name} = {limits[name]:g}" in above
    assert excesses(recipe, {}, None) == {}


# a search with latencies; the limit itself is asked above
@pytest.mark.slow
def test_a_search_within_a_limit_in_milliseconds_ends_with_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = searched_within(ms=1e6)
    assert any(view.state == "scored" and not view.is_bare for view in study.candidates())
    reference_ms = study.snapshot().reference_ms
    assert reference_ms is not None
    assert study.snapshot().latency_limit == pytest.approx(1e6 / reference_ms)


def test_a_bare_network_above_the_limit_is_said_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"limits\.max_latency_ms = 1e-06 .* takes .* ms here"):
        searched_within(ms=1e-6)
    assert not open_study("limited", URL).store.scores()


def searched_within(*, ms: float, depth: int = 8, trials: int = 3) -> na.Study:
    """Searches a tiny network on digits within a limit."""
    changes: dict[str, object] = {
        "name": "limited",
        "space": {"name": "tiny", "choices": {"se": {"reduction": [4]}, "simam": {}}},
        "backbone": {"name": f"resnet{depth}", "width": 4},
        "data": {"name": "digits-8x8"},
        "target": {"epochs": 1},
        "search": {"trials": trials, "confirm_seeds": 0},
        "latency": {"session_seconds": 0.1, "tolerance": 0.9},
        "limits": {"max_latency_ms": ms},
    }
    recipe = recipe_from(changes, where="limited")
    return na.search(recipe, device="cpu", threads=1, say=lambda line: None)

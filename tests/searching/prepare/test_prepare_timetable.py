"""What a recipe's search does with a given time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.estimate import (
    SearchEstimate,
    TimeUse,
    estimate,
    has_pace,
    time_lines,
)
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.training.trainer import Trainer

URL = "sqlite:///nas_attn.db"
# 100 steps an epoch, and a tenth of that for scoring: 1.1 s an epoch
STEP_S = 0.01
DIGITS = {
    "data.options": {"train": 800, "validation": 400, "test": 60, "size": 12},
    "training.batch_size": 8,
    "backbone.width": 4,
    "target.epochs": 10,
    "search.trials": 20,
}


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch):
    """A function that plans a search of so many minutes, as on a machine of this speed."""
    monkeypatch.setattr(Trainer, "step_s", lambda *arguments: STEP_S)

    def plan(minutes: float, **more: Any) -> SearchEstimate:
        stated = more.pop("trials", None)
        recipe = load_recipe("digits", overrides={**DIGITS, **more})
        search = SearchPlan(recipe, URL, device="cpu")
        return estimate(search, workers=2, seconds=60 * minutes, trials=stated)

    return plan


def use(expected: SearchEstimate) -> TimeUse:
    assert expected.time is not None
    return expected.time


def test_more_time_holds_more_of_the_recipes_candidates(planned) -> None:
    plans = [planned(minutes) for minutes in (3, 5, 60)]
    assert [plan.trials for plan in plans] == sorted(plan.trials for plan in plans)
    assert plans[0].trials < 20
    assert plans[-1].trials == 20
    assert all(use(plan).stated == 20 for plan in plans)
    shown = [plan.smallest_difference for plan in plans]
    assert shown == sorted(shown, reverse=True)


def test_a_time_that_is_too_short_is_said_with_the_one_that_would_do(planned) -> None:
    short = planned(1)
    enough_s = use(short).enough_s
    assert enough_s is not None
    assert use(planned(enough_s / 60)).enough_s is None
    assert time_lines(short) != time_lines(planned(30))


def test_what_the_user_states_stays(planned) -> None:
    assert planned(3, trials=15).trials == 15
    assert use(planned(30)).enough_s is None
    longer = planned(3, **{"target.epochs": 60})
    assert use(longer).enough_s is not None, "no training gets shorter"


def test_an_evaluator_has_no_known_pace(table: Path) -> None:
    plan = SearchPlan(load_recipe("table.toml"), URL, device="cpu")
    assert not has_pace(plan)
    expected = estimate(plan, workers=1, seconds=60.0)
    assert expected.time is None
    assert expected.total_s is None


def test_fewer_candidates_have_fewer_baselines(table: Path) -> None:
    recipe = load_recipe("table.toml", overrides={"space": "plug_and_play", "search.trials": 60})
    opened = beginning.create(SearchPlan(recipe, URL), trials=9)
    assert opened.trials == 9
    assert len(opened.book.all()) == 1 + 3, "the bare backbone, and a third of nine"
    assert beginning.begin(recipe, URL).trials == 9, "it goes on with what was planned"
    beginning.take_up(opened, trials=60)
    assert len(opened.book.all()) == 1 + 20


@pytest.mark.parametrize("epochs", [10, 40])
def test_a_dry_run_times_the_steps_of_the_whole_training(
    monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    """On a GPU, the steps of a short training are launched one by one, those of a long one are
    replayed.
    """
    lengths = []

    def step_s(trainer: Trainer, model: object, steps: int) -> float:
        lengths.append(steps)
        return STEP_S

    monkeypatch.setattr(Trainer, "step_s", step_s)
    recipe = load_recipe("digits", overrides={**DIGITS, "target.epochs": epochs})
    expected = estimate(SearchPlan(recipe, URL, device="cpu"), workers=1)
    assert lengths == [100 * epochs]
    assert expected.epoch_s == pytest.approx(1.17, abs=0.01)


def test_few_images_get_fewer_candidates_with_more_seeds(planned) -> None:
    divided = {"search.trials": 40, "data.options": {}, "data.name": "digits-8x8"}
    divided["data.validation"] = 200
    few = planned(20, **divided)
    usual = planned(20, **divided, **{"data.resplit": False})
    assert (use(few).few, use(usual).few) == (True, False)
    assert few.trials < usual.trials
    assert few.smallest_difference < usual.smallest_difference

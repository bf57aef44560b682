"""What a recipe's search does with a given time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.forecast import forecast
from nas_attn.searching.prepare.planning import Timetable, timetable, timetable_lines
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

    def plan(minutes: float, **more: Any) -> Timetable:
        stated = more.pop("trials", None)
        recipe = load_recipe("digits", overrides={**DIGITS, **more})
        found = timetable(recipe, 60 * minutes, workers=2, device="cpu", trials=stated)
        assert found is not None
        return found

    return plan


def test_more_time_holds_more_of_the_recipes_candidates_and_a_test(planned) -> None:
    plans = [planned(minutes) for minutes in (3, 5, 60)]
    assert [plan.trials for plan in plans] == sorted(plan.trials for plan in plans)
    assert plans[0].trials < 20
    assert (plans[-1].trials, plans[-1].blocks) == (20, 16)
    assert all(plan.stated == 20 for plan in plans)


def test_a_time_that_is_too_short_is_said_with_the_one_that_would_do(planned) -> None:
    short = planned(1)
    assert short.enough_s is not None
    assert planned(short.enough_s / 60).enough_s is None
    assert timetable_lines(short) != timetable_lines(planned(30))


def test_what_the_user_states_stays(planned) -> None:
    assert planned(3, trials=15).trials == 15
    assert planned(30).enough_s is None
    assert planned(3, **{"target.epochs": 60}).enough_s is not None, "no training gets shorter"


def test_an_evaluator_has_no_known_pace(table: Path) -> None:
    assert timetable(load_recipe("table.toml"), 60.0, workers=1, device="cpu") is None


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
    expected = forecast(recipe, device="cpu")
    assert lengths == [100 * epochs]
    assert expected.epoch_s == pytest.approx(1.17, abs=0.01)


def test_few_images_get_fewer_candidates_with_more_seeds(planned) -> None:
    divided = {"search.trials": 40, "data.options": {}, "data.name": "digits-8x8"}
    divided["data.validation"] = 200
    few = planned(20, **divided)
    usual = planned(20, **divided, **{"data.resplit": False})
    assert (few.few, usual.few) == (True, False)
    assert few.trials < usual.trials
    assert few.smallest_difference < usual.smallest_difference

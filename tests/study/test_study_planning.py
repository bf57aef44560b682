"""A search that fits a time: what is planned for it, and that its phases end when they are to."""

from __future__ import annotations

from pathlib import Path

import pytest
from materials import photographs

from nas_attn.errors import DataError
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import planning, searching
from nas_attn.study.opening import open_study
from nas_attn.study.planning import FEWEST, Budget, go_on, plan_folder, start_clock
from nas_attn.study.progress import progress

URL = "sqlite:///nas_attn.db"


def planned(folder: Path, seconds: float, **given: object) -> Budget:
    settings = {"backbone.name": "resnet8", **given}
    return plan_folder(str(folder), seconds, storage=URL, workers=2, device="cpu", given=settings)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    photographs(tmp_path / "photos", of_each=20)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_more_time_is_used_and_too_little_is_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_epoch_s", lambda *arguments: 1.0)  # as on a machine of this speed
    short, long = planned(photos, 600), planned(photos, 36_000)
    assert FEWEST <= short.recipe.search.trials <= long.recipe.search.trials
    assert short.recipe.training.backbones < long.recipe.training.backbones
    assert long.blocks > 0
    assert len(short.text().splitlines()) == 5
    with pytest.raises(DataError, match="--minutes"):
        planned(photos, 20)


def test_what_is_given_is_kept_and_the_folder_is_one_of_a_study_begun_before(photos: Path) -> None:
    budget = planned(photos, 3600, **{"search.trials": 11, "data.size": 16, "name": "mine"})
    recipe = budget.recipe
    assert (recipe.name, recipe.search.trials, recipe.data.size, recipe.backbone.name) == ("mine", 11, 16, "resnet8")
    assert budget.epoch_s > 0
    searching.begin(recipe, URL)
    again = planned(photos, 60, name="mine")
    assert again.recipe.search == recipe.search
    assert searching.begin(again.recipe, URL).trials == 11


@pytest.mark.parametrize("trials", [12, 60])
def test_uniform_baselines_take_a_third_of_the_candidates_at_most(table: Path, trials: int) -> None:
    recipe = load_recipe("table.toml", overrides={"search.trials": trials, "space": "plug_and_play"})
    found = searching.first_baselines(recipe, searching.plan_recipe(recipe).space)
    names = [baseline.name for baseline in found.values()]
    assert names[0] == "none"
    assert len(names) - 1 == min(21, trials // 3)


def test_a_search_whose_time_for_candidates_is_over_confirms_those_it_has(table: Path) -> None:
    opened = searching.begin(load_recipe("table.toml", overrides={"search.trials": 14}), URL)
    start_clock(opened, 3600.0, tested=True)

    def say(line: str) -> None:
        if line.startswith("trial 4"):
            opened.store.set(screen_until=opened.database.now() - 1)

    assert searching.work(opened, searching.Options(say=say)) == "complete"
    assert len(opened.store.candidates()) == opened.trials < 14
    assert {row.run.purpose for row in opened.store.queue.rows()} >= {"search", "confirm"}
    assert progress(opened).finished == progress(opened).trials


def test_a_time_that_is_over_is_forgotten_and_a_pause_does_not_count(table: Path) -> None:
    opened = searching.begin(load_recipe("table.toml"), URL)
    assert go_on(opened) is None
    start_clock(opened, 3600.0, tested=False)
    left = go_on(open_study("table", URL))
    assert left is not None
    assert 3000 < left < 3700
    opened.store.set(ends_at=opened.store.created_at - 1)
    assert go_on(opened) is None
    assert opened.store.settings.ends_at is None

"""Placements of one's own: any that the backbone can carry, also outside the search space."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from plans_made import plan_recipe

import nas_attn as na
from nas_attn.errors import NasAttnWarning
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare import baselines, beginning
from nas_attn.searching.prepare.estimate import SearchEstimate, estimate, estimate_lines
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.run import taking_part
from nas_attn.storage import opening

URL = "sqlite:///nas_attn.db"
OUTSIDE = "stage2.block1@block=eca stage3=se(reduction=8)"
EXPLICIT = "stage2@block=eca(kernel_size=3) stage3=se(reduction=8)"


def silent(line: str) -> None: ...


def expect(recipe: Recipe, *tried: str) -> SearchEstimate:
    """What a search with these placements would do."""
    return estimate(SearchPlan(recipe, URL, tried=tried), workers=1)


def said(expected: SearchEstimate) -> str:
    """The estimate's first sentence."""
    return estimate_lines(expected)[0].text


def loaded() -> optuna.Study:
    return optuna.load_study(study_name="table", storage=URL)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_one_outside_the_space_is_a_candidate_like_the_others(table: Path, sampler: str) -> None:
    better = (  # five modules: the best there is
        "stage1@block=eca stage1=eca stage2=eca stage3@stage=eca stage3=eca"
    )
    changes = {"search.sampler": sampler, "search.confirm_seeds": 0}
    study = na.search(
        "table.toml",
        trials=9,
        try_placements=[OUTSIDE, better],
        overrides=changes,
        say=silent,
        name="table",
    )
    assert sum(study.snapshot().counts.values()) == 9, "the sampler went on"
    assert {str(view.placement): view for view in study.candidates()}[EXPLICIT].state == "scored"
    best = study.front()[0]
    assert str(best.placement).count("eca") == 5
    assert str(best.placement) in study.report().read_text()
    trial = loaded().trials[best.trial]
    assert (trial.params, trial.state, len(trial.values)) == ({}, TrialState.COMPLETE, 2)
    assert trial.user_attrs["placement"] == str(best.placement)
    assert trial.number in {t.number for t in loaded().best_trials}
    effects = study.effects("score")
    assert effects is not None
    assert {"stage2@block", "stage3@stage"} & {row.site for row in effects.at("choice")}


# two searches; the next trials of an exhausted one are in test_prepare_limits.py
@pytest.mark.slow
def test_a_full_study_grows_for_each_of_them_and_a_known_one_is_named(table: Path) -> None:
    na.search("table.toml", trials=5, overrides={"search.confirm_seeds": 0}, say=silent)
    opened = opening.open_study("table", URL)
    plan = plan_recipe(opened.recipe)
    for trial in baselines.user_trials(plan, [OUTSIDE, "stage1=cbam", EXPLICIT, "stage3=simam"]):
        baselines.enqueue_first(opened, [trial])
        baselines.enqueue_first(opened, [trial])
    taking_part.work(opened, taking_part.Options(say=silent))
    states = {str(row.placement): row.trial for row in opened.store.candidates()}
    assert list(states.values()) == list(range(8))
    assert list(states)[5:7] == [EXPLICIT, "stage1=cbam(reduction=8)"]
    with pytest.warns(NasAttnWarning, match=r"trial 5 .*\((scored|pruned)\)"):
        baselines.enqueue_first(opened, baselines.user_trials(plan, [OUTSIDE]))


def test_ideas_come_before_the_baselines_but_for_the_bare_network(table: Path) -> None:
    """So a search that ends early has tried them."""
    recipe = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    expected = expect(recipe, OUTSIDE, "none")
    study = na.search(recipe, try_placements=[OUTSIDE, "none"], say=silent)
    assert [str(view.placement) for view in study.candidates()] == ["none", EXPLICIT]
    assert (expected.trials, expected.baselines, expected.outside, expected.tried) == (2, 1, 1, 1)
    assert "1 of 125 placements and 1 outside" in said(expected)


def test_an_idea_that_is_a_baseline_stays_one(table: Path) -> None:
    everywhere = "stage1=eca stage2=eca stage3=eca"
    recipe = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    expected = expect(recipe, everywhere)
    assert (expected.trials, expected.baselines, expected.tried) == (2, 2, 0)
    study = na.search(recipe, try_placements=[everywhere], say=silent)
    assert [view.baseline for view in study.candidates()] == ["none", "uniform eca"]


# test_prepare_limits.py has an exhausted search with something new
@pytest.mark.slow
def test_a_space_that_is_exhausted_takes_them_too(table: Path) -> None:
    space = {"name": "tiny", "sites": {"include": ["stage3"]}, "choices": {"eca": {}, "simam": {}}}
    recipe = load_recipe(
        "table.toml", overrides={"space": space, "search.trials": 50, "search.confirm_seeds": 0}
    )
    assert "3 of 3 placements, 3 " in said(expect(recipe))
    assert expect(recipe, "stage1=eca").trials == 4
    assert (
        taking_part.work(beginning.begin(recipe, URL), taking_part.Options(say=silent))
        == "exhausted"
    )
    study = na.search(recipe, try_placements=["stage1=eca"], say=silent)
    assert [str(view.placement) for view in study.candidates()][3:] == ["stage1=eca(kernel_size=3)"]

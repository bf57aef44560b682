"""How a search shares its training between attention, other networks and longer trainings, and that
it says so.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command_line import Ended, Nas
from hypothesis import given, settings
from hypothesis import strategies as st
from materials import photographs
from plans_made import plan_recipe

from nas_attn.answer import rounds
from nas_attn.model.features import is_control
from nas_attn.recipe.purposes import LENGTH
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.phases import length
from nas_attn.searching.prepare import beginning, image_folder
from nas_attn.searching.prepare.baselines import FEWEST_TRIALS
from nas_attn.searching.prepare.estimate import SearchEstimate, estimate, time_lines
from nas_attn.searching.prepare.fitting import (
    planned_epochs,
)
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.run import taking_part
from nas_attn.training.plan import Plan, study_plan
from nas_attn.training.trainer import Trainer

DIGITS = {"data.options": {"train": 800, "validation": 400, "test": 60, "size": 12}}
SPACES: dict[str, Any] = {
    "of two modules": {"name": "two", "choices": {"simam": {}, "eca": {}}},
    "small": "small",
    "plug_and_play": "plug_and_play",
}
SAID = re.compile(r"of its training, about ([^;]*);")
# 100 steps an epoch, and a tenth of that for scoring: 1.1 s an epoch
STEP_S = 0.01
FAST = ["--set", "data.options.train=800", "--set", "training.batch_size=8"]


def digits(**changes: Any) -> Recipe:
    return load_recipe("digits", overrides={**DIGITS, **changes})


@pytest.fixture(scope="module")
def networks() -> dict[str, Plan]:
    """Search space -> its networks."""
    return {name: plan_recipe(digits(space=space)) for name, space in SPACES.items()}


@settings(max_examples=200, deadline=None)
@given(
    space=st.sampled_from(list(SPACES)),
    trials=st.integers(10, 60),
    seeds=st.integers(1, 3),
    rounds=st.none() | st.integers(0, 30),
    found=st.booleans(),
)
def test_attention_and_the_bare_backbone_keep_half_of_each_plan(
    networks: dict[str, Plan], space: str, trials: int, seeds: int, rounds: int | None, found: bool
) -> None:
    recipe = digits(**{"space": SPACES[space], "search.trials": trials})
    search = recipe.search.model_copy(update={"confirm_seeds": seeds})
    recipe = recipe.model_copy(update={"search": search})
    if found:
        recipe = recipe.with_length(20)
    planned = planned_epochs(recipe, networks[space], trials, rounds=rounds)
    assert planned.attention >= planned.total / 2, planned
    assert planned.longer > 0, "it is tried"
    assert planned.others > 0, "they are tried"


def percentages(said: str) -> list[int]:
    """The shares that are said, once; empty if none are."""
    found = SAID.findall(" ".join(said.split()).replace("\N{NO-BREAK SPACE}", " "))
    assert len(found) <= 1, said
    return [int(share) for share in re.findall(r"(\d+) %", found[0])] if found else []


@pytest.mark.parametrize("trials", [10, 30, 60])
@pytest.mark.parametrize("minutes", [0.2, 2, 4, 6, 12, 30, 120])
def test_a_time_says_the_shares_of_the_candidates_that_fit(
    monkeypatch: pytest.MonkeyPatch, minutes: float, trials: int
) -> None:
    monkeypatch.setattr(Trainer, "step_s", lambda *arguments: STEP_S)
    changes = {"training.batch_size": 8, "training.backbones": 1}

    def planned(trials: int) -> SearchEstimate:
        recipe = digits(**changes, **{"search.trials": trials})
        plan = SearchPlan(recipe, "sqlite:///nas_attn.db", device="cpu")
        return estimate(plan, workers=2, seconds=60 * minutes)

    table = planned(trials)
    said = percentages("\n".join(line.text for line in time_lines(table)))
    assert table.time is not None
    if table.time.enough_s is not None or table.trials < 6:
        assert not said, "nothing is compared, or nothing but placements"
        return
    assert sum(said) == 100
    assert said[0] >= 50
    assert said[-1] == round(100 * table.longer_share)
    assert (table.others_share > 0) == (table.trials >= FEWEST_TRIALS)
    same = planned(table.trials)
    assert (table.others_share, table.longer_share) == (same.others_share, same.longer_share)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, on a machine of a known speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "step_s", lambda *arguments: STEP_S)
    monkeypatch.setattr(image_folder, "_epoch_s", lambda *arguments: 1.0)
    return tmp_path


def all_said(ended: Ended) -> str:
    assert ended.status == 0, ended.err
    return ended.out + ended.err


@pytest.mark.usefixtures("in_folder")
@pytest.mark.parametrize("how", ["--dry-run", "--create-only"])
def test_a_search_of_a_recipe_says_them_once_and_not_where_nothing_is_compared(
    nas: Nas, how: str
) -> None:
    said = percentages(all_said(nas("search", "digits", *FAST, "--time", "30m", how)))
    assert sum(said) == 100
    assert said[0] >= 50
    short = nas(
        "search",
        "digits",
        *FAST,
        "--time",
        "1m",
        "--set",
        "target.epochs=60",
        how,
        "--name",
        "short",
    )
    assert not percentages(all_said(short))
    if how == "--dry-run":
        unlimited = all_said(nas("search", "digits", *FAST, how))
        assert sum(percentages(unlimited)) == 100


@pytest.mark.parametrize("how", ["--dry-run", "--create-only"])
def test_a_search_of_a_folder_says_them_once(in_folder: Path, nas: Nas, how: str) -> None:
    photographs(in_folder / "photos", of_each=20)
    photos = ["search", "photos", "--backbone", "resnet8"]
    said = percentages(all_said(nas(*photos, "--time", "2h", how)))
    assert sum(said) == 100
    assert said[0] >= 50
    if how == "--dry-run":
        planned = nas(*photos, "--time", "2h", how, "--json", "--name", "other").json
        assert said[-1] == round(100 * planned["longer_share"])


@pytest.mark.slow
def test_a_search_in_which_each_means_may_be_the_best_shares_its_training_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(length, "UNLIKELY", -1.0)
    monkeypatch.setattr(length, "SURE_ENOUGH", 2.0)
    monkeypatch.setattr(rounds, "IN_PLAY", -1.0)
    monkeypatch.setattr(rounds, "SETTLED", -1.0)
    recipe = digits(
        **{
            "data.options": {"train": 96, "validation": 64, "test": 60, "size": 12},
            "target.epochs": 2,
            "search.trials": 10,
            "search.confirm_seeds": 1,
            "latency.session_seconds": 0.02,
            "latency.tolerance": 0.9,
        }
    )
    opened = beginning.begin(recipe, "sqlite:///nas_attn.db")
    options = taking_part.Options(say=lambda line: None, device="cpu", threads=1)
    assert taking_part.work(opened, options) == "complete"
    # in lengths of the target
    epochs = Counter[str]()
    for row in opened.store.queue.rows(state="done"):
        if row.run.purpose == LENGTH:
            epochs["longer"] += 2
        else:
            epochs["others" if is_control(row.run.placement) else "attention"] += 1
    planned = planned_epochs(recipe, study_plan(opened.store), 10)
    for means, expected in asdict(planned).items():
        share = epochs[means] / epochs.total()
        assert share == pytest.approx(expected / planned.total, abs=0.02), (means, epochs)
    assert epochs["attention"] >= epochs.total() / 2

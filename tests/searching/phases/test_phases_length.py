"""How long the target trains, found by training the bare backbone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.answer import reading
from nas_attn.answer.answer import SURE_ENOUGH
from nas_attn.answer.length import may_bring_much
from nas_attn.errors import RecipeError
from nas_attn.recipe.purposes import LENGTH, SEARCH
from nas_attn.recipe.reading import frozen_recipe, load_recipe, recipe_from
from nas_attn.searching.phases.length import UNLIKELY
from nas_attn.searching.prepare import beginning, clock
from nas_attn.searching.prepare.fitting import (
    SEEDS_PER_LENGTH,
)
from nas_attn.searching.run import taking_part
from nas_attn.storage import opening

URL = "sqlite:///nas_attn.db"
# the bare backbone gains up to 40 epochs; each run of any network takes the epochs that it is told
SATURATING = """
def evaluate(model, run):
    with open("calls.txt", "a") as calls:
        calls.write(f"{run.placement}|{run.seed}|{run.epochs}\\n")
    gain = 0.01 * (run.placement != "none")
    return {"accuracy": min(run.epochs, 40) / 100 + gain + run.seed % 100 / 1e4}
"""
OPEN = {
    "target.epochs": "auto",
    "training": {"evaluator": "saturating:evaluate"},
    "objectives": ["accuracy", "params"],
    "search.trials": 2,
    "search.baselines": "bare",
}


@pytest.fixture
def saturating(table: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a study whose networks gain up to 40 epochs."""
    (table / "saturating.py").write_text(SATURATING)
    monkeypatch.delitem(sys.modules, "saturating", raising=False)  # another test's
    return table


def test_a_study_trains_as_long_as_the_bare_network_needs_and_keeps_that(saturating: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides=OPEN), URL)
    assert opened.recipe.target_is_open
    told = list[str]()
    assert taking_part.work(opened, taking_part.Options(say=told.append)) == "complete"
    after = opening.open_study("table", URL)
    assert after.recipe.target_training.rungs == after.recipe.training.rungs == [40]
    assert any("40 epochs are taken, as 80 are not clearly better" in line for line in told)
    calls = [line.split("|") for line in (saturating / "calls.txt").read_text().splitlines()]
    tried = {int(epochs) for placement, _, epochs in calls if placement == "none"}
    assert tried == {20, 40, 80}
    assert {int(epochs) for placement, _, epochs in calls if placement != "none"} == {40}
    again = beginning.begin(load_recipe("table.toml", overrides=OPEN), URL)
    assert again.recipe == after.recipe, "the same command goes on with what was found"
    assert len(reading.snapshot(after.store).candidates) == 2


def test_the_same_recipe_goes_on_with_the_length_that_was_found_wherever_its_space_lies(
    table: Path,
) -> None:
    given = load_recipe("table.toml", overrides={**OPEN, "space": "small"})
    opened = opening.create_study(given, URL)
    opened.store.set(recipe=opened.recipe.with_length(7).to_json())
    assert opening.create_study(given, URL).recipe.target.epochs == 7


def test_a_search_that_is_stopped_while_it_finds_the_length_goes_on(saturating: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides=OPEN), URL)
    options = taking_part.Options(say=lambda line: options.stop.set())
    assert taking_part.work(opened, options) == "stopped"
    before = len((saturating / "calls.txt").read_text().splitlines())
    resumed = opening.open_study("table", URL)
    assert resumed.recipe.target_is_open
    assert taking_part.work(resumed, taking_part.Options(say=lambda line: None)) == "complete"
    assert opening.open_study("table", URL).recipe.target.epochs == 40
    lengths = resumed.store.queue.rows(purposes=[LENGTH])
    assert len(lengths) == 2 * 3, "no length is trained again"
    assert before >= 1


def test_too_short_a_time_takes_the_longest_length_that_was_tried(
    saturating: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides=OPEN), URL)
    clock.start_clock(opened, 3600.0)
    opened.store.set(screen_until=opened.database.now() - 1)
    monkeypatch.setattr("nas_attn.searching.phases.length.epoch_seconds", lambda store: 20.0)
    told = list[str]()

    def say(line: str) -> None:
        told.append(line)
        if line.startswith("target: the bare"):
            options.stop.set()

    options = taking_part.Options(say=say)
    assert taking_part.work(opened, options) == "stopped"
    after = opening.open_study("table", URL).recipe
    assert after.target_training.rungs == after.training.rungs == [20]
    assert any("no time" in line for line in told)


def test_a_bare_network_that_learns_nothing_ends_the_search_before_any_candidate(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table / "guessing.py").write_text("""
def evaluate(model, run):
    with open("calls.txt", "a") as calls:
        calls.write(f"{run.placement}\\n")
    return {"accuracy": 0.25 + run.seed / 100, "balanced_accuracy": 0.25}
""")
    monkeypatch.delitem(sys.modules, "guessing", raising=False)
    overrides = OPEN | {"training": {"evaluator": "guessing:evaluate"}}
    opened = beginning.begin(load_recipe("table.toml", overrides=overrides), URL)
    with pytest.raises(RecipeError):
        taking_part.work(opened, taking_part.Options(say=lambda line: None))
    assert set((table / "calls.txt").read_text().split()) == {"none"}
    assert opening.open_study("table", URL).recipe.target_is_open


@pytest.mark.parametrize("epochs", [10, 12])
def test_rungs_and_a_length_to_find_exclude_each_other(epochs: int) -> None:
    """Ten epochs are also what `rungs` is without being given."""
    with pytest.raises(RecipeError, match=r"target\.epochs = 'auto'"):
        load_recipe("digits", overrides={"target.epochs": "auto", "training.rungs": [epochs]})
    kept = load_recipe("digits", overrides={"target.epochs": "auto"})
    assert frozen_recipe(kept.to_json(), where="a study").target_is_open


def test_a_recipe_that_names_no_length_leaves_it_open() -> None:
    open_recipe = load_recipe("digits", overrides={"target": {}})
    assert open_recipe.target_is_open
    assert not load_recipe("digits").target_is_open
    assert not load_recipe("digits", overrides={"target": {}, "training.rungs": [3]}).target_is_open


# real trainings; what an open gain decides is asked in test_answer_length.py
@pytest.mark.slow
def test_a_longer_training_goes_on_over_seeds_as_long_as_it_is_open_what_it_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes: dict[str, object] = {
        "name": "open",
        "objectives": ["accuracy", "params"],
        "space": {"name": "tiny", "choices": {"se": {"reduction": [4]}, "simam": {}}},
        "backbone": {"name": "resnet8", "width": 4},
        "data": {"name": "digits-8x8"},
        "target": {"epochs": 2},
        # so slow that two seeds leave it open
        "training": {"learning_rate": 0.001},
        "search": {"trials": 6, "confirm_seeds": 1},
    }
    recipe = recipe_from(changes, where="open")
    study = na.search(recipe, device="cpu", threads=1, say=lambda line: None)
    store = opening.open_study("open", URL).store
    longer = study.snapshot().longer
    assert longer is not None
    (bare,) = (view.key for view in study.candidates() if view.is_bare)
    seeds = {stored.score.seed for stored in store.scores(bare, protocol=SEARCH)}
    is_sure = longer.gain.probability >= SURE_ENOUGH
    is_likely = longer.of_trainings.probability > UNLIKELY
    is_open = (is_likely and not is_sure) or may_bring_much(longer, "accuracy")
    assert longer.seeds >= SEEDS_PER_LENGTH
    assert not is_open or longer.seeds == len(seeds)

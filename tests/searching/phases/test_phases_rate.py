"""At which rate a study trains, found by training the bare backbone at three."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_attn.answer import reading
from nas_attn.answer.answer_text import answer_lines
from nas_attn.answer.progress import further_runs
from nas_attn.answer.rate import RATES, better_rate
from nas_attn.recipe.purposes import LENGTH, is_length
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.phases import length
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.fitting import SEEDS_PER_LENGTH
from nas_attn.searching.prepare.taking_over import recipe_like
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.ending import Ending
from nas_attn.storage import opening
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import Score

URL = "sqlite:///nas_attn.db"


def recipe(**changes: object) -> Recipe:
    """A search whose usual rate, that of SGD, is far too high for its optimizer."""
    table: dict[str, object] = {
        "name": "rates",
        "objectives": ["accuracy", "params"],
        "space": {"name": "tiny", "choices": {"simam": {}}},
        "backbone": {"name": "resnet8", "width": 4},
        "data": {"name": "digits-8x8"},
        "training": {"optimizer": "AdamW"},
        "search": {"trials": 12},
    }
    return recipe_from({**table, **changes}, where="a test")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(length, "usual_epochs", lambda *_: 1)
    monkeypatch.setattr(length, "MOST_LENGTHS", 2)


def find(opened: opening.OpenStudy, told: list[str]) -> Ending:
    """Takes part in the study until its target is known."""

    def say(line: str) -> None:
        told.append(line)
        if told[-1].startswith("target: the bare"):
            options.stop.set()

    options = taking_part.Options(say=say, device="cpu", threads=1)
    return taking_part.work(opened, options)


@pytest.mark.usefixtures("here")
def test_a_far_too_high_usual_rate_gives_way_to_a_lower_one_also_after_a_stop() -> None:
    asked = recipe()
    assert asked.rate_is_open
    opened = beginning.begin(asked, URL)
    options = taking_part.Options(device="cpu", threads=1, say=lambda _: options.stop.set())
    assert taking_part.work(opened, options) is Ending.STOPPED
    resumed = opening.open_study("rates", URL)
    assert resumed.recipe.rate_is_open
    told: list[str] = []
    find(resumed, told)
    after = opening.open_study("rates", URL)
    found = after.recipe.training
    assert found.rate_factor == RATES[0]
    assert found.peak_rate == pytest.approx(asked.training.peak_rate / 3)
    assert after.recipe.target_training.peak_rate == found.peak_rate
    assert any("clearly better" in line for line in told)
    rows = after.store.queue.rows(purposes=[LENGTH])
    at = {rate: [r for r in rows if is_length(r.run.protocol, rate)] for rate in RATES}
    lengths = len(at[RATES[0]]) // SEEDS_PER_LENGTH
    assert {rate: len(of) for rate, of in at.items()} == {
        RATES[0]: lengths * SEEDS_PER_LENGTH,
        1.0: SEEDS_PER_LENGTH,
        3.0: SEEDS_PER_LENGTH,
    }, "what follows is trained at the rate that was found, and nothing is trained twice"
    again = beginning.begin(asked, URL)
    assert again.recipe == after.recipe, "the same command goes on with what was found"
    gain = reading.snapshot(after.store).rate
    assert gain is not None
    assert gain.usual == pytest.approx(asked.training.peak_rate)
    assert gain.gain is None or gain.gain.low > 0
    assert any(f"{gain.rate:.2g} instead of {gain.usual:.2g}" in line for line in told_of(after))
    longer = recipe_like(after, {"target.epochs": 9})
    assert longer.target_training.peak_rate == found.peak_rate
    assert not longer.rate_is_open
    named = recipe_like(after, {"training.learning_rate": 0.01})
    assert named.training.peak_rate == named.target_training.peak_rate == 0.01, "a named rate holds"


def told_of(opened: opening.OpenStudy) -> list[str]:
    return answer_lines(reading.answer(opened.store))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"optimizer": "AdamW", "learning_rate": 0.01}},
        {"search": {"trials": 3, "confirm_seeds": 1}},
    ],
    ids=["named", "too small a search"],
)
def test_a_named_rate_and_a_small_search_ask_for_no_other(changes: dict[str, object]) -> None:
    opened = beginning.begin(recipe(**changes), URL)
    find(opened, [])
    after = opening.open_study("rates", URL)
    assert not after.recipe.target_is_open
    assert after.recipe.training.rate_factor == 1
    rows = after.store.queue.rows(purposes=[LENGTH])
    assert all(is_length(row.run.protocol) for row in rows)
    assert reading.snapshot(after.store).rate is None


@pytest.mark.parametrize("trials", [10, 30, 60])
def test_other_rates_cost_less_than_a_tenth_of_a_search(trials: int) -> None:
    asked = recipe(search={"trials": trials})
    runs = trials + further_runs(asked, trials)
    assert (len(RATES) - 1) * SEEDS_PER_LENGTH <= 0.1 * runs


IMAGES = 400


def score(seed: int, right: float) -> Score:
    correct = np.arange(IMAGES) < right * IMAGES
    packed = np.packbits(correct).tobytes()
    metrics = {"accuracy": float(correct.mean())}
    return Score(seed, 0, 5, metrics, examples=IMAGES, correct=packed)


@pytest.mark.parametrize(
    ("lower", "usual", "higher", "found"),
    [
        ((0.8, 0.8), (0.6, 0.6), (0.5, 0.5), RATES[0]),
        ((0.5, 0.5), (0.6, 0.6), (0.9, 0.8), 3.0),
        ((0.61, 0.61), (0.6, 0.6), (0.6, 0.6), 1.0),
        # on one seed only
        ((0.9, 0.5), (0.6, 0.6), (0.6, 0.6), 1.0),
        # the usual one failed
        ((0.7, 0.7), (), (0.6, 0.6), RATES[0]),
        # another one failed on one seed
        ((0.9,), (0.6, 0.6), (0.6, 0.6), 1.0),
        ((), (), (), 1.0),
    ],
)
def test_another_rate_is_taken_if_it_is_clearly_better(
    lower: tuple[float, ...], usual: tuple[float, ...], higher: tuple[float, ...], found: float
) -> None:
    runs = {
        rate: {seed: score(seed, right) for seed, right in enumerate(of)}
        for rate, of in zip(RATES, (lower, usual, higher), strict=True)
    }
    assert better_rate(recipe(), runs, "accuracy", ValidationLabels()) == found

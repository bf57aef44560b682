"""All tests of one pair of networks, taken together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import recipe, usual
from scipy.special import stdtrit

from nas_attn.answer import pair_tests
from nas_attn.answer.forecast import forecast_validation
from nas_attn.answer.pair_tests import (
    ERROR,
    FEWEST_MORE,
    MOST_POOLED_BLOCKS,
    Family,
    PairTest,
    ValidationResult,
    critical,
    pair_test,
)
from nas_attn.answer.reading import searched_snapshot, snapshot
from nas_attn.answer.validation_text import announcement
from nas_attn.space.notation import parse

PAIR = {"key-002": "stage1=cbam stage2=cbam stage3=cbam", "key-000": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pooled")


def test_one_look_is_the_pool_of_one_and_a_second_adds_its_blocks(
    folder: Path,
) -> None:
    made = usual(folder)
    before = searched_snapshot(made.store)
    made.validation(PAIR, gain={"key-002": 0.05})
    now = snapshot(made.store)
    (verdict,) = now.validations[0].verdicts
    (test,) = now.pooled
    assert (test.looks, test.blocks, test.comparisons) == (1, 8, 1)
    assert test == verdict
    assert test.word == "better"

    made.validation(PAIR, gain={"key-002": 0.0})
    now = snapshot(made.store)
    (test,) = now.pooled
    assert (test.looks, test.blocks, test.comparisons) == (2, 16, 2)
    assert now.validations[0].verdicts == (verdict,), "the first test is still reported as it was"
    (own, bare) = (np.mean([of.values[key] for of in now.validations]) for key in PAIR)
    assert test.difference == pytest.approx(own - bare)

    after = searched_snapshot(made.store)
    assert after.evidence["accuracy"].gains("key-000") == before.evidence["accuracy"].gains(
        "key-000"
    ), "the search does not see what was tested"
    gain, old = now.find("key-002").gains["accuracy"], before.find("key-002").gains["accuracy"]
    assert gain.mean < old.mean, "a test without a gain counts in the answer"


COMPARISONS = (("a", "none"), ("b", "none"), ("a", "b"))


def first_test(rng: np.random.Generator, blocks: int, sd: float, gain: float = 0.0) -> PairTest:
    """Of three networks, where `a` has such a gain; `sd`: of a block's difference."""
    values = {key: rng.normal(0.7, sd / 2**0.5, blocks) for key in ("none", "a", "b")}
    values["a"] += gain
    networks = tuple(
        pair_tests.TestedNetwork(
            key, parse("none" if key == "none" else f"stage1={module}"), "named"
        )
        for key, module in (("none", ""), ("a", "se"), ("b", "eca"))
    )
    family = Family(1, networks, COMPARISONS, blocks, None, "accuracy", 1000, 9)
    of_keys = {key: tuple(row.tolist()) for key, row in values.items()}
    result = ValidationResult(family, blocks, values=of_keys)
    return pair_test(recipe(), ("a", "none"), [result])


@pytest.mark.parametrize("blocks", [4, 8])
def test_the_noise_behind_a_forecast_is_that_of_the_trainings_in_a_family_too(blocks: int) -> None:
    rng = np.random.default_rng(0)
    sd = 0.01
    variances = [first_test(rng, blocks, sd).by_blocks for _ in range(400)]
    assert np.mean(variances) == pytest.approx(sd**2 / blocks, rel=0.15)


def test_the_blocks_that_are_asked_for_decide_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    sd = 0.012
    shown: list[bool] = []
    while len(shown) < 150:
        test = first_test(rng, 5, sd, gain=0.008)
        more = test.blocks_to_decide()
        if test.word != "not shown" or test.difference <= 0 or more is None:
            continue
        # the truth is as large as what was seen: of the old blocks the mean is known, not each
        old = rng.normal(0, sd, test.blocks)
        old += test.difference - old.mean()
        differences = np.append(old, rng.normal(test.difference, sd, more))
        error = ERROR / (test.comparisons + 1)
        statistic = differences.mean() / (differences.std(ddof=1) / len(differences) ** 0.5)
        shown.append(bool(statistic > float(stdtrit(len(differences) - 1, 1 - error / 2))))
    assert np.mean(shown) > 0.65


def of(difference: float, half: float, blocks: int, new: float | None = None) -> PairTest:
    """A test of one comparison; half-widths on these images and for new ones."""
    errors = critical(1, blocks - 1)
    by_blocks = (half / errors) ** 2
    return PairTest(
        key="key",
        control="none",
        word="better" if difference > (new or half) else "not shown",
        placement=parse("stage1=se"),
        metric="accuracy",
        epochs=9,
        looks=1,
        comparisons=1,
        blocks=blocks,
        difference=difference,
        low=difference - half,
        high=difference + half,
        new_low=None if new is None else difference - new,
        new_high=None if new is None else difference + new,
        by_blocks=by_blocks,
        by_images=0.0 if new is None else (new / errors) ** 2 - by_blocks,
        before=0.7,
        after=0.7 + difference,
    )


def test_more_blocks_are_asked_for_where_the_difference_is_smaller() -> None:
    wanted = [of(d, 0.02, 10).blocks_to_decide() for d in (0.03, 0.012, 0.008)]
    assert wanted[0] == FEWEST_MORE
    assert wanted[0] < wanted[1] < wanted[2] < MOST_POOLED_BLOCKS


def test_nothing_is_asked_for_where_no_affordable_test_would_decide() -> None:
    assert of(0.0, 0.02, 10).blocks_to_decide() is None
    assert of(0.0005, 0.02, 10).blocks_to_decide() is None


def test_what_the_images_leave_open_takes_more_of_them_and_no_number_of_blocks() -> None:
    assert of(0.012, 0.01, 10).word == "better"
    seen = of(0.012, 0.01, 10, new=0.03)
    assert seen.word == "not shown", "these images may flatter it"
    assert seen.blocks_to_decide() is None


def test_an_announcement_says_how_many_seeds_a_difference_takes(folder: Path) -> None:
    apart = folder / "more"
    apart.mkdir()
    made = usual(apart)
    made.validation(PAIR, gain={"key-002": 0.02})
    now = snapshot(made.store)
    family = replace(now.validations[0].family, number=2, first_seed=2_000_000, blocks=6)
    forecast = forecast_validation(now, family)
    assert forecast.noise_blocks == 8
    hardly_any = announcement(now, family, forecast, difference=1e-6)
    assert str(hardly_any[-1]).count("over 256") == 1, "both ends of the range are the same"

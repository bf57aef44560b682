"""Validations as they stand in a store: looks, early ends, diverged runs, what is said of new
images, in words.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_study import MadeStudy, everywhere, recipe

from nas_attn.answer import pair_tests
from nas_attn.answer.forecast import ValidationForecast, forecast_validation
from nas_attn.answer.pair_tests import (
    Family,
    PairTest,
    ValidationResult,
    blocks_for,
    critical,
    detectable,
    pair_test,
)
from nas_attn.answer.reading import snapshot
from nas_attn.answer.validation_text import validation_headline, validation_sentences
from nas_attn.space.notation import parse
from nas_attn.storage.records import FILLED, Arithmetic

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"


PLAIN = Arithmetic("float32", "channels_last", "eager", "none", True, FILLED)


@pytest.fixture
def made(tmp_path: Path) -> MadeStudy:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none")
    made.candidate(everywhere(SE), baseline=f"uniform {SE}")
    made.candidate(everywhere(CBAM), baseline=f"uniform {CBAM}")
    made.sessions(6)
    return made


NETWORKS = {"key-002": everywhere(CBAM), "key-001": everywhere(SE), "key-000": "none"}
AGAINST_NONE = {"key-001": everywhere(SE), "key-000": "none"}


def results(made: MadeStudy) -> tuple[ValidationResult, ...]:
    return snapshot(made.store).validations


def said(made: MadeStudy) -> str:
    now = snapshot(made.store)
    return " ".join(
        [validation_headline(now.validations[-1]), *validation_sentences(now.validations[-1], now)]
    )


def test_no_verdict_is_given_before_all_blocks_have_ended(made: MadeStudy) -> None:
    made.validation(NETWORKS, blocks=12, done=3)
    (result,) = results(made)
    assert (result.blocks, result.verdicts, result.complete) == (3, (), False)
    assert "3 of 12 seeds" in said(made)
    assert "after" in said(made)
    made.validation(AGAINST_NONE, blocks=12, gain={"key-001": 0.05})
    last = results(made)[-1]
    assert (last.blocks, last.complete, last.verdicts[0].word) == (12, True, "better")


@pytest.mark.parametrize(("mixed", "judged"), [(0, 8), (3, 5), (6, 2), (7, 0)])
def test_blocks_whose_networks_were_computed_in_different_arithmetic_do_not_count(
    made: MadeStudy, mixed: int, judged: int
) -> None:
    def arithmetic(key: str, block: int) -> str:
        low = key == "key-001" and block < mixed
        return replace(PLAIN, precision="bfloat16" if low else "float32").text

    made.validation(AGAINST_NONE, gain={"key-001": 0.05}, arithmetic=arithmetic)
    (result,) = results(made)
    assert (result.mixed, result.blocks, result.complete) == (mixed, 8, True)
    assert [verdict.blocks for verdict in result.verdicts] == ([judged] if judged else [])
    assert {len(values) for values in result.values.values()} == ({judged} if judged else set())
    assert ("different arithmetic" in said(made)) == bool(mixed)


def test_a_run_that_diverged_counts_as_chance_and_that_is_said(made: MadeStudy) -> None:
    made.validation(AGAINST_NONE, gain={"key-001": 0.05}, diverged="key-001")
    (result,) = results(made)
    assert result.values["key-001"][0] == 0.1
    assert result.diverged == {"key-001": 1}
    assert result.verdicts[0].word == "not shown", "one run of eight came to nothing"
    assert "1 of 8 runs diverged" in said(made)
    made.validation(AGAINST_NONE, diverged="key-001", evaluator=True)
    result = results(made)[1]
    assert result.values["key-001"][0] == min(
        v for values in result.values.values() for v in values
    )
    assert "worst score" in said(made)


def test_new_images_count_only_where_there_are_results_per_image(made: MadeStudy) -> None:
    made.validation(NETWORKS)
    (result,) = results(made)
    for verdict in result.verdicts:
        assert verdict.new_low is not None
        assert verdict.new_low < verdict.low
        assert verdict.between == (verdict.new_low, verdict.new_high)
    made.validation(NETWORKS, evaluator=True)
    assert all(v.new_low is None for v in results(made)[1].verdicts)


def test_with_a_margin_it_says_what_may_be_lost(made: MadeStudy) -> None:
    made.validation(AGAINST_NONE, blocks=20, margin=0.02)
    assert "more than 2.0 points" in said(made)
    made.validation(AGAINST_NONE, blocks=20, margin=0.02, gain={"key-001": -0.3})
    assert "worse, −" in said(made)


@pytest.mark.parametrize(
    ("recommended", "gain", "conclusion"),
    [
        ("key-001", {"key-001": 0.04, "key-002": 0.04}, "confirms the recommendation"),
        ("key-001", {"key-001": -0.04}, "contradicts the recommendation"),
        (
            "key-001",
            {"key-002": 0.04},
            f"is not confirmed; uniform {CBAM} (named) is better",
        ),
        ("key-000", {"key-002": 0.04}, f"uniform {CBAM} (named) is better"),
        ("key-000", {}, "agrees with the search"),
        ("", {"key-001": 0.04}, ""),
    ],
)
def test_what_the_test_means_for_the_recommendation(
    made: MadeStudy, recommended: str, gain: dict[str, float], conclusion: str
) -> None:
    made.validation(NETWORKS, gain=gain, recommended=recommended)
    assert conclusion in said(made)
    assert ("So the " in said(made)) is bool(conclusion)


def forecast(made: MadeStudy) -> ValidationForecast:
    now = snapshot(made.store)
    return forecast_validation(now, now.validations[-1].family)


def test_the_noise_of_a_block_is_known_from_the_validations_before(made: MadeStudy) -> None:
    made.validation(NETWORKS, blocks=8, done=3)
    assert forecast(made).noise_blocks == 0
    made.validation(NETWORKS, blocks=8, done=8)
    first = results(made)[-1]
    known = forecast(made)
    own = [
        np.subtract(first.values[a], first.values[b]).std(ddof=1)
        for a, b in first.family.comparisons
    ]
    assert known.sd_low < float(np.sqrt(np.mean(np.square(own)))) < known.sd_high
    assert known.noise_blocks == 8
    made.validation(NETWORKS, blocks=8, done=8)
    more = forecast(made)
    assert more.sd_high / more.sd_low < known.sd_high / known.sd_low, "more blocks, better known"
    assert more.noise_blocks == 16


KEYS = ("a", "b", "none")
FAMILY = (("a", "none"), ("b", "none"))


def blocks(rng: np.random.Generator, n: int, *, gain: float = 0.0) -> dict[str, Any]:
    """Networks that share each block's level."""
    level = 5 * rng.standard_normal(n)
    values = {key: level + rng.standard_normal(n) for key in KEYS}
    return values | {"a": values["a"] + gain}


def judged(
    values: dict[str, Any],
    comparisons: tuple[tuple[str, str], ...] = FAMILY,
    *,
    metric: str = "rmse",
    margin: float | None = None,
    images: dict[str, Any] | None = None,
    examples: int = 0,
) -> PairTest:
    """The first comparison's test, of one look; more is better."""
    networks = tuple(pair_tests.TestedNetwork(key, parse("none"), "named") for key in values)
    count = len(values["none"])
    family = Family(1, networks, comparisons, count, margin, metric, 0, 1)
    rows = {key: tuple(row) for key, row in values.items()}
    result = ValidationResult(family, count, values=rows, images=images or {}, examples=examples)
    return pair_test(recipe(), comparisons[0], [result])


@pytest.mark.parametrize("n", [2, 3, 8])
def test_equal_networks_are_seldom_called_better_and_intervals_cover(n: int) -> None:
    rng = np.random.default_rng(n)
    better = covered = 0
    for _ in range(400):
        values = blocks(rng, n)
        tests = [judged(values, FAMILY), judged(values, FAMILY[::-1])]
        better += any(test.word == "better" for test in tests)
        covered += all(test.low <= 0 <= test.high for test in tests)
    # 5 %, of which 2.5 % are expected: more than 20 of 400 has a probability below 0.2 %
    assert better <= 20
    assert covered >= 0.92 * 400


def test_what_is_forecast_comes_true() -> None:
    rng = np.random.default_rng(1)
    gain = detectable(2, 6, 2**0.5)
    shown = sum(judged(blocks(rng, 6, gain=gain)).word == "better" for _ in range(300))
    assert 0.7 < shown / 300 < 0.9


def test_more_blocks_show_less_and_a_smaller_difference_takes_more() -> None:
    assert detectable(1, 4, 1.0) > detectable(1, 8, 1.0) > detectable(1, 16, 1.0)
    few = blocks_for(2, 1.0, 2.0)
    many = blocks_for(2, 1.0, 1.0)
    assert few is not None
    assert many is not None
    assert detectable(2, few, 1.0) <= 2.0 < detectable(2, few - 1, 1.0)
    assert few < many
    assert blocks_for(1, 1.0, 0.001) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-100, 100), st.floats(0.01, 100))
def test_levels_of_blocks_and_units_do_not_matter(seed: int, shift: float, scale: float) -> None:
    values = blocks(np.random.default_rng(seed), 5)
    moved = {key: scale * (row + shift * np.arange(5)) for key, row in values.items()}
    before = judged(values)
    after = judged(moved)
    assert after.difference == pytest.approx(scale * before.difference, rel=1e-6, abs=1e-6 * scale)
    assert after.high - after.low == pytest.approx(scale * (before.high - before.low), rel=1e-6)


def test_more_comparisons_ask_for_more() -> None:
    assert critical(1, 7) < critical(2, 7) < critical(4, 7)


def test_a_margin_says_not_worse_where_better_is_not_shown() -> None:
    level = np.random.default_rng(0).standard_normal(8)
    values = {"a": level + 0.01 * (-1.0) ** np.arange(8), "none": level}
    test = judged(values, FAMILY[:1], margin=0.5)
    assert (test.word, test.not_worse) == ("not shown", True)
    assert judged(values, FAMILY[:1]).not_worse is None


def test_new_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    # the gain hangs on few images, the same in every block
    helped = rng.random(300) < 0.1
    images = {
        "a": [(hard + 0.05 * rng.standard_normal(300) < 0.7) | helped for _ in range(6)],
        "none": [hard + 0.05 * rng.standard_normal(300) < 0.7 for _ in range(6)],
    }
    values = {key: [float(right.mean()) for right in rows] for key, rows in images.items()}
    test = judged(values, FAMILY[:1], images=images)
    first = {key: scores[:2] for key, scores in values.items()}
    few = judged(first, FAMILY[:1], images={key: rows[:2] for key, rows in images.items()})
    assert few.new_low is not None
    assert few.new_low <= few.low
    assert test.word == "better"
    low, high = test.between
    assert high - low > 1.5 * (test.high - test.low)
    # what drawing the images anew does to the gain
    sd = np.sqrt(np.var(helped & (hard > 0.7)) / 300)
    assert (high - low) / 2 == pytest.approx(1.96 * sd, rel=0.5)


def test_blocks_that_agree_exactly_are_not_known_better_than_one_image() -> None:
    values = {"a": [22 / 36, 21 / 36], "none": [21 / 36, 20 / 36]}
    assert judged(values, FAMILY[:1]).word == "better"
    test = judged(values, FAMILY[:1], metric="accuracy", examples=36)
    assert test.word == "not shown"
    assert test.high - test.difference > 1 / 36
    ended = judged({"a": [0.9, 0.1], "none": [0.2, 0.6]}, FAMILY[:1], metric="accuracy")
    assert (ended.low, ended.high, ended.word) == (-1.0, 1.0, "not shown")

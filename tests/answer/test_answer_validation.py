"""Validations as they stand in a store: looks, early ends, diverged runs, what is said of new
images, in words.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_study import MadeStudy, everywhere
from scipy.stats import studentized_range

from nas_attn.answer import validation
from nas_attn.answer.reading import snapshot
from nas_attn.answer.validation_text import validation_headline, validation_sentences
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


def results(made: MadeStudy) -> tuple[validation.ValidationResult, ...]:
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


def test_new_images_are_spoken_of_only_where_there_are_results_per_image(made: MadeStudy) -> None:
    made.validation(NETWORKS)
    (result,) = results(made)
    for verdict in result.verdicts:
        assert verdict.new_low is not None
        assert verdict.new_low < verdict.low
    assert "For new images" in said(made)
    made.validation(NETWORKS, evaluator=True)
    assert all(v.new_low is None for v in results(made)[1].verdicts)
    assert "new images" not in said(made)


def test_with_a_margin_it_says_what_may_be_lost_and_what_is_gained_in_time(made: MadeStudy) -> None:
    made.validation(
        {"key-001": everywhere(SE), "key-002": everywhere(CBAM)}, blocks=20, margin=0.02
    )
    assert "faster by 28" in said(made)  # 1.15 against 1.60
    made.validation(AGAINST_NONE, blocks=20, margin=0.02)
    assert "slower by 14" in said(made)
    made.validation(AGAINST_NONE, blocks=20, margin=0.02, gain={"key-001": -0.1})
    assert "worse, −" in said(made)
    assert "more than 2.0 points" in said(made)


@pytest.mark.parametrize(
    ("recommended", "gain", "conclusion"),
    [
        ("key-001", {"key-001": 0.04, "key-002": 0.04}, "confirms the recommendation"),
        ("key-001", {"key-001": -0.04}, "contradicts the recommendation"),
        (
            "key-001",
            {"key-002": 0.04},
            f"is not confirmed; uniform {CBAM} (named) is better, at",
        ),
        ("key-000", {"key-002": 0.04}, f"uniform {CBAM} (named) is better, at"),
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


def test_the_noise_of_a_block_is_known_from_the_validations_before(made: MadeStudy) -> None:
    assert validation.block_noise(results(made)) is None
    made.validation(NETWORKS, blocks=8, done=8)
    (first,) = found = results(made)
    low, high, blocks = validation.block_noise(found) or (0.0, 0.0, 0)
    own = [
        np.subtract(first.values[a], first.values[b]).std(ddof=1)
        for a, b in first.family.comparisons
    ]
    assert low < float(np.sqrt(np.mean(np.square(own)))) < high
    assert blocks == 8
    made.validation(NETWORKS, blocks=8, done=8)
    narrower = validation.block_noise(results(made)) or (0.0, 0.0, 0)
    assert narrower[1] / narrower[0] < high / low, "more blocks, better known"
    assert narrower[2] == 16


def test_the_interval_of_a_blocks_noise_holds_what_it_says(made: MadeStudy) -> None:
    rng, held, sd = np.random.default_rng(1), 0, 0.01 * 2**0.5
    made.validation(AGAINST_NONE, blocks=5, done=5)
    (result,) = results(made)
    for _ in range(150):
        values = {key: tuple(rng.normal(0.5, 0.01, 5)) for key in result.values}
        low, high, _ = validation.block_noise([replace(result, values=values)]) or (0.0, 0.0, 0)
        held += low <= sd <= high
    assert 0.7 < held / 150 < 0.9


KEYS = ("a", "b", "none")
FAMILY = (("a", "none"), ("b", "none"))


def blocks(
    rng: np.random.Generator, n: int, *, gain: float = 0.0, sd: float = 1.0
) -> dict[str, Any]:
    """Networks that share each block's level."""
    level = 5 * rng.standard_normal(n)
    values = {key: level + sd * rng.standard_normal(n) for key in KEYS}
    return values | {"a": values["a"] + gain}


@pytest.mark.parametrize("n", [3, 8])
def test_equal_networks_are_seldom_called_better_and_intervals_cover(n: int) -> None:
    rng = np.random.default_rng(n)
    better = covered = 0
    for _ in range(400):
        verdicts = validation.judge(blocks(rng, n), FAMILY)
        better += any(v.word == "better" for v in verdicts)
        covered += all(v.low <= 0 <= v.high for v in verdicts)
    assert (
        better <= 20
    )  # 5 %, of which 2.5 % are expected: more than 20 of 400 has a probability below 0.2 %
    assert covered >= 0.92 * 400


def test_what_is_forecast_comes_true() -> None:
    rng = np.random.default_rng(1)
    gain = validation.detectable(2, 6, 2**0.5)
    shown = sum(
        validation.judge(blocks(rng, 6, gain=gain), FAMILY)[0].word == "better" for _ in range(300)
    )
    assert 0.7 < shown / 300 < 0.9


def test_more_blocks_show_less_and_a_smaller_difference_takes_more() -> None:
    assert (
        validation.detectable(1, 4, 1.0)
        > validation.detectable(1, 8, 1.0)
        > validation.detectable(1, 16, 1.0)
    )
    few, many = validation.blocks_for(2, 1.0, 2.0), validation.blocks_for(2, 1.0, 1.0)
    assert few is not None
    assert many is not None
    assert validation.detectable(2, few, 1.0) <= 2.0 < validation.detectable(2, few - 1, 1.0)
    assert few < many
    assert validation.blocks_for(1, 1.0, 0.001, most=32) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-100, 100), st.floats(0.01, 100))
def test_levels_of_blocks_and_units_do_not_matter(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = blocks(rng, 5)
    moved: dict[str, Any] = {
        key: scale * (row + shift * np.arange(5)) for key, row in values.items()
    }
    for before, after in zip(
        validation.judge(values, FAMILY), validation.judge(moved, FAMILY), strict=True
    ):
        assert after.difference == pytest.approx(
            scale * before.difference, rel=1e-6, abs=1e-6 * scale
        )
        assert after.high - after.low == pytest.approx(scale * (before.high - before.low), rel=1e-6)


def test_a_larger_family_asks_for_more() -> None:
    one, two = (
        validation.contrast_matrix(KEYS, FAMILY[:1]),
        validation.contrast_matrix(KEYS, FAMILY),
    )
    assert (
        validation.critical_value(one, 8, 0.05)
        < validation.critical_value(two, 8, 0.05)
        < validation.critical_value(one, 8, 0.025)
    )


@pytest.mark.parametrize("freedoms", [1, 7, 200])
def test_all_pairs_of_three_networks_are_tukeys_test(freedoms: int) -> None:
    pairs = np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    expected = studentized_range.ppf(0.95, 3, freedoms) / math.sqrt(2)
    assert validation.critical_t(pairs.tobytes(), pairs.shape, freedoms) == pytest.approx(
        expected, rel=0.03
    )


def test_a_margin_says_not_worse_where_better_is_not_shown() -> None:
    level = np.random.default_rng(0).standard_normal(8)
    values: dict[str, Any] = {"a": level + 0.01 * (-1.0) ** np.arange(8), "none": level}
    verdict = validation.judge(values, FAMILY[:1], margin=0.5)[0]
    assert (verdict.word, verdict.not_worse) == ("not shown", True)
    assert validation.judge(values, FAMILY[:1])[0].not_worse is None


def test_new_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    helped = rng.random(300) < 0.1  # the gain hangs on few images, the same in every block
    images = {
        "a": [(hard + 0.05 * rng.standard_normal(300) < 0.7) | helped for _ in range(6)],
        "none": [hard + 0.05 * rng.standard_normal(300) < 0.7 for _ in range(6)],
    }
    values = {key: [right.mean() for right in rows] for key, rows in images.items()}
    verdict = validation.judge(values, FAMILY[:1], images=images)[0]
    first = {key: scores[:2] for key, scores in values.items()}
    seen = {key: rows[:2] for key, rows in images.items()}
    few = validation.judge(first, FAMILY[:1], images=seen)[0]
    assert few.new_low <= few.low
    assert verdict.word == "better"
    assert verdict.new_high - verdict.new_low > 1.5 * (verdict.high - verdict.low)
    sd = np.sqrt(
        np.var(helped & (hard > 0.7)) / 300
    )  # what drawing the images anew does to the gain
    assert (verdict.new_high - verdict.new_low) / 2 == pytest.approx(1.96 * sd, rel=0.5)


def test_blocks_that_agree_exactly_are_not_known_better_than_one_image() -> None:
    values = {"a": [22 / 36, 21 / 36], "none": [21 / 36, 20 / 36]}
    assert validation.judge(values, FAMILY[:1])[0].word == "better"
    verdict = validation.judge(values, FAMILY[:1], differences=validation.Differences(step=1 / 36))[
        0
    ]
    assert verdict.word == "not shown"
    assert verdict.high - verdict.difference > 1 / 36
    ended = validation.judge(
        {"a": [0.9, 0.1], "none": [0.2, 0.6]},
        FAMILY[:1],
        differences=validation.Differences(widest=1.0),
    )[0]
    assert (ended.low, ended.high, ended.word) == (-1.0, 1.0, "not shown")

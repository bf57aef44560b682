"""What a family of comparisons may say: errors held, intervals that cover, forecasts that come true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.validation import (
    Comparison,
    blocks_for,
    contrast_matrix,
    critical_value,
    detectable,
    judge,
)

KEYS = ("a", "b", "none")
FAMILY = (Comparison("a", "none"), Comparison("b", "none"))


def blocks(rng: np.random.Generator, n: int, *, gain: float = 0.0, sd: float = 1.0) -> dict[str, np.ndarray]:
    """Networks that share each block's level."""
    level = 5 * rng.standard_normal(n)
    values = {key: level + sd * rng.standard_normal(n) for key in KEYS}
    return values | {"a": values["a"] + gain}


@pytest.mark.parametrize("n", [3, 8])
def test_equal_networks_are_seldom_called_better_and_intervals_cover(n: int) -> None:
    rng = np.random.default_rng(n)
    better = covered = 0
    for _ in range(400):
        verdicts = judge(blocks(rng, n), FAMILY)
        better += any(v.word == "better" for v in verdicts)
        covered += all(v.low <= 0 <= v.high for v in verdicts)
    assert better <= 20  # 5 %, of which 2.5 % are expected: more than 20 of 400 has a probability below 0.2 %
    assert covered >= 0.92 * 400


def test_what_is_forecast_comes_true() -> None:
    rng = np.random.default_rng(1)
    gain = detectable(2, 6, 2**0.5)
    shown = sum(judge(blocks(rng, 6, gain=gain), FAMILY)[0].word == "better" for _ in range(300))
    assert 0.7 < shown / 300 < 0.9


def test_more_blocks_show_less_and_a_smaller_difference_takes_more() -> None:
    assert detectable(1, 4, 1.0) > detectable(1, 8, 1.0) > detectable(1, 16, 1.0)
    few, many = blocks_for(2, 1.0, 2.0), blocks_for(2, 1.0, 1.0)
    assert few is not None
    assert many is not None
    assert detectable(2, few, 1.0) <= 2.0 < detectable(2, few - 1, 1.0)
    assert few < many
    assert blocks_for(1, 1.0, 0.001, most=32) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-100, 100), st.floats(0.01, 100))
def test_levels_of_blocks_and_units_do_not_matter(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values = blocks(rng, 5)
    moved = {key: scale * (row + shift * np.arange(5)) for key, row in values.items()}
    for before, after in zip(judge(values, FAMILY), judge(moved, FAMILY), strict=True):
        assert after.difference == pytest.approx(scale * before.difference, rel=1e-6, abs=1e-6 * scale)
        assert after.high - after.low == pytest.approx(scale * (before.high - before.low), rel=1e-6)


def test_a_larger_family_asks_for_more() -> None:
    one, two = contrast_matrix(KEYS, FAMILY[:1]), contrast_matrix(KEYS, FAMILY)
    assert critical_value(one, 8, 0.05) < critical_value(two, 8, 0.05) < critical_value(one, 8, 0.025)


def test_a_margin_says_not_worse_where_better_is_not_shown() -> None:
    level = np.random.default_rng(0).standard_normal(8)
    values = {"a": level + 0.01 * (-1.0) ** np.arange(8), "none": level}
    verdict = judge(values, FAMILY[:1], margin=0.5)[0]
    assert (verdict.word, verdict.not_worse) == ("not shown", True)
    assert judge(values, FAMILY[:1])[0].not_worse is None


def test_new_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(300)
    helped = rng.random(300) < 0.1  # the gain hangs on few images, the same in every block
    images = {
        "a": [(hard + 0.05 * rng.standard_normal(300) < 0.7) | helped for _ in range(6)],
        "none": [hard + 0.05 * rng.standard_normal(300) < 0.7 for _ in range(6)],
    }
    values = {key: [right.mean() for right in rows] for key, rows in images.items()}
    verdict = judge(values, FAMILY[:1], images=images)[0]
    assert verdict.word == "better"
    assert verdict.new_low is not None
    assert verdict.new_high is not None
    assert verdict.new_high - verdict.new_low > 1.5 * (verdict.high - verdict.low)
    sd = np.sqrt(np.var(helped & (hard > 0.7)) / 300)  # what drawing the images anew does to the gain
    assert (verdict.new_high - verdict.new_low) / 2 == pytest.approx(1.96 * sd, rel=0.5)


def test_blocks_that_agree_exactly_are_not_known_better_than_one_image() -> None:
    values = {"a": [22 / 36, 21 / 36], "none": [21 / 36, 20 / 36]}
    assert judge(values, FAMILY[:1])[0].word == "better"
    verdict = judge(values, FAMILY[:1], step=1 / 36)[0]
    assert verdict.word == "not shown"
    assert verdict.high - verdict.difference > 1 / 36

"""Means over seeds: their intervals hold, missing seeds do not count, and few discoveries are
false.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from research.means import discoveries, mean_of, means


def test_intervals_of_any_number_of_seeds_hold_and_tests_are_those_of_student() -> None:
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 8):
        values = rng.normal(1.0, 2.0, (4000, seeds))
        found = means(values)
        covered = np.abs(found.mean - 1.0) <= found.half
        assert covered.mean() == pytest.approx(0.95, abs=0.012)
        expected = stats.ttest_1samp(values, 0.0, axis=1).pvalue
        np.testing.assert_allclose(found.p, expected)


def test_a_missing_seed_does_not_count() -> None:
    found = means([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan], [np.nan] * 3])
    assert found.seeds.tolist() == [2, 1, 0]
    assert found.mean[:2].tolist() == [1.5, 3.0]
    assert str(found.at(0)) == str(mean_of([1.0, 2.0])) == "+1.50 ± 6.35"
    assert found.at(1) is None
    assert found.at(2) is None
    assert np.isnan(found.p[1:]).all()


def test_seeds_that_all_have_the_same_value_show_nothing() -> None:
    """Accuracies are shares of a number of images, so two differences may well be equal."""
    assert means([0.3 - 0.1, 0.2]).p == 1.0


def test_a_test_that_is_not_made_is_not_of_the_family() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.9])
    assert discoveries(p).tolist() == [True, False, False, False]
    assert discoveries(p[:3]).tolist() == [True, False, True]
    assert not discoveries(np.full(3, np.nan)).any()

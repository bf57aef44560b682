from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_attn.analysis.fronts import hypervolume, hypervolume_contributions, non_dominated_rank
from nas_attn.model.proposals import non_dominated

points = st.integers(1, 4).flatmap(
    lambda m: st.integers(0, 8).flatmap(lambda n: arrays(float, (n, m), elements=st.integers(0, 5).map(float)))
)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def grid_volume(values: np.ndarray, corner: np.ndarray) -> float:
    """Unit cells below the corner that some integer point dominates."""
    cells = np.indices([int(c) for c in corner]).reshape(len(corner), -1).T
    return float(sum(any((value <= cell).all() for value in values) for cell in cells))


@settings(max_examples=60, deadline=None)
@given(points)
def test_rank_is_the_longest_chain_of_dominating_rows(values: np.ndarray) -> None:
    ranks = non_dominated_rank(values)
    for i, row in enumerate(values):
        above = [int(ranks[j]) for j, other in enumerate(values) if dominates(other, row)]
        assert ranks[i] == max(above, default=-1) + 1


def test_a_row_with_nan_comes_last_and_is_never_on_the_front() -> None:
    values = [[1.0, 2.0], [np.nan, 0.0], [2.0, 3.0], [np.inf, 0.0]]
    assert non_dominated_rank(values).tolist() == [0, 2, 1, 0]
    assert non_dominated(values).tolist() == [True, False, False, True]
    assert non_dominated([[np.nan, 1.0]]).tolist() == [False]


@settings(max_examples=60, deadline=None)
@given(points)
def test_hypervolume_counts_the_dominated_cells(values: np.ndarray) -> None:
    corner = np.full(values.shape[1], 4.0)
    assert hypervolume(values, corner) == pytest.approx(grid_volume(values, corner))


@settings(max_examples=60, deadline=None)
@given(points)
def test_a_contribution_is_what_is_lost_without_the_point(values: np.ndarray) -> None:
    corner = np.full(values.shape[1], 5.0)
    whole = hypervolume(values, corner)
    lost = [whole - hypervolume(np.delete(values, i, axis=0), corner) for i in range(len(values))]
    assert hypervolume_contributions(values, corner).tolist() == pytest.approx(lost)


def test_one_list_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(n, m\)"):
        non_dominated_rank([1.0, 2.0])

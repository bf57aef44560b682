"""Fronts, and who goes on at a rung."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas_attn.answer.fronts import front_of, net, survives, without_invisible
from nas_attn.model.dominance import non_dominated, non_dominated_rank

OBJECTIVES = ("accuracy", "latency")


def test_a_front_is_of_what_has_all_objectives() -> None:
    rows = {
        "a": (0.7, 1.0),
        "b": (0.8, 1.2),
        "c": (0.6, 1.1),
        "d": (None, 0.5),
        "e": (0.9, math.nan),
        "f": (0.9,),
    }
    assert front_of(OBJECTIVES, rows) == {"a", "b"}
    assert front_of(OBJECTIVES, {}) == set()


def test_digits_that_no_run_had_put_nothing_on_a_front() -> None:
    rows = {"bare": (0.99861, 1.0), "eca": (0.99874, 2.36), "ese": (0.99869, 1.34)}
    assert front_of(OBJECTIVES, rows) == {"bare", "eca", "ese"}
    visible = without_invisible(OBJECTIVES, rows, {"accuracy": 1.0})
    assert front_of(OBJECTIVES, visible) == {"bare"}
    assert without_invisible(("-mAP",), {"a": (None,), "b": (0.1,)}, {"mAP": 0.0}) == {
        "a": (None,),
        "b": (0.0,),
    }


tables = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(*[st.integers(0, 6).map(float)] * 2),
    min_size=1,
    max_size=14,
)


def survivors(table: dict[str, tuple[float, ...]], eta: float) -> set[str]:
    return {key for key in table if survives(table, key, eta)}


@settings(max_examples=30, deadline=None)
@given(tables, st.sampled_from([1.5, 2.0, 3.0, 4.0]))
def test_exactly_the_best_share_goes_on_and_none_that_a_loser_dominates(
    table: dict[str, tuple[float, ...]], eta: float
) -> None:
    went_on = survivors(table, eta)
    assert len(went_on) == math.ceil(len(table) / eta)
    ranks = dict(zip(table, non_dominated_rank(list(table.values())), strict=True))
    losers = table.keys() - went_on
    assert max(ranks[key] for key in went_on) <= min((ranks[key] for key in losers), default=99)


@pytest.mark.parametrize(
    ("table", "eta", "expected"),
    [
        ({"first": (0.9, 5.0)}, 3.0, {"first"}),
        ({"a": (math.nan, 1.0)}, 3.0, set()),
        ({"a": (math.nan, 1.0), "b": (9.0, 9.0)}, 2.0, {"b"}),
        ({"a": (0.2, 1.0), "b": (0.2, 1.0), "c": (0.1, 2.0), "d": (0.9, 9.0)}, 2.0, {"a", "c"}),
        ({"a": (0.2, math.inf), "b": (0.3, 1.0), "c": (0.4, 2.0)}, 3.0, {"b"}),
        ({str(i): (float(i),) for i in range(9)}, 3.0, {"0", "1", "2"}),
    ],
)
def test_special_tables(
    table: dict[str, tuple[float, ...]], eta: float, expected: set[str]
) -> None:
    """The first to arrive, NaN, equals, infinities, and one objective, which is plain halving."""
    assert survivors(table, eta) == expected


def test_within_a_front_the_ends_and_the_spread_out_stay_and_the_crowded_leave() -> None:
    front: dict[str, tuple[float, ...]] = {
        "fast": (0.9, 1.0),
        "a": (0.50, 1.50),
        "b": (0.49, 1.51),
        "c": (0.48, 1.52),
        "accurate": (0.1, 2.0),
        "d": (0.47, 1.53),
    }
    assert survivors(front, 2.0) >= {"fast", "accurate"}


points = st.integers(1, 4).flatmap(
    lambda m: st.integers(0, 8).flatmap(
        lambda n: arrays(float, (n, m), elements=st.integers(0, 5).map(float))
    )
)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@settings(max_examples=25, deadline=None)
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


def made(
    rng: np.random.Generator, *, seeds: int, candidates: int, shift: float
) -> dict[str, dict[Any, float]]:
    """Candidates on one seed each, `none` on all of them."""
    level = shift * rng.standard_normal(seeds)
    truth = 0.01 * rng.standard_normal(candidates)
    runs = {f"c{i}": {i % seeds: truth[i] + level[i % seeds]} for i in range(candidates)}
    return runs | {"none": {s: level[s] for s in range(seeds)}}


def test_a_lucky_backbone_makes_no_winner() -> None:
    values = made(np.random.default_rng(0), seeds=3, candidates=30, shift=0.2)
    before = [next(iter(runs.values())) for key, runs in values.items() if key != "none"]
    after = [next(iter(runs.values())) for key, runs in net(values).items() if key != "none"]
    assert np.std(before) > 0.05
    assert np.std(after) < 0.015

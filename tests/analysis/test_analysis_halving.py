from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.fronts import non_dominated_rank, survives

tables = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.tuples(*[st.integers(0, 6).map(float)] * 2), min_size=1, max_size=14
)


def survivors(table: dict[str, tuple[float, ...]], eta: float) -> set[str]:
    return {key for key in table if survives(table, key, eta)}


@settings(max_examples=80, deadline=None)
@given(tables, st.sampled_from([1.5, 2.0, 3.0, 4.0]))
def test_exactly_the_best_share_goes_on_and_none_that_a_loser_dominates(
    table: dict[str, tuple[float, ...]], eta: float
) -> None:
    went_on = survivors(table, eta)
    assert len(went_on) == math.ceil(len(table) / eta)
    ranks = dict(zip(table, non_dominated_rank(list(table.values())), strict=True))
    losers = table.keys() - went_on
    assert max(ranks[key] for key in went_on) <= min((ranks[key] for key in losers), default=99)


@settings(max_examples=30, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_arrival_in_the_table_does_not_matter(table: dict[str, tuple[float, ...]], random: object) -> None:
    items = list(table.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert survivors(table, 3.0) == survivors(dict(items), 3.0)


def test_the_first_to_arrive_goes_on() -> None:
    assert survives({"a": (0.9, 5.0)}, "a", 3.0)


def test_a_nan_never_goes_on() -> None:
    assert not survives({"a": (math.nan, 1.0)}, "a", 3.0)
    assert survives({"a": (math.nan, 1.0), "b": (9.0, 9.0)}, "b", 2.0)


def test_within_a_front_the_ends_and_the_spread_out_stay_and_the_crowded_leave() -> None:
    front = {
        "fast": (0.9, 1.0),
        "a": (0.50, 1.50),
        "b": (0.49, 1.51),
        "c": (0.48, 1.52),
        "accurate": (0.1, 2.0),
        "d": (0.47, 1.53),
    }
    assert survivors(front, 2.0) >= {"fast", "accurate"}


def test_of_two_equal_candidates_one_takes_the_place() -> None:
    table = {"a": (0.2, 1.0), "b": (0.2, 1.0), "c": (0.1, 2.0), "d": (0.9, 9.0)}
    assert survivors(table, 2.0) == {"a", "c"}


def test_infinite_latency_is_the_worst_not_an_error() -> None:
    assert survivors({"a": (0.2, math.inf), "b": (0.3, 1.0), "c": (0.4, 2.0)}, 3.0) == {"b"}


def test_a_single_objective_is_plain_halving() -> None:
    assert survivors({str(i): (float(i),) for i in range(9)}, 3.0) == {"0", "1", "2"}

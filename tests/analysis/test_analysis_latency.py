from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.latency import (
    Order,
    dropped,
    estimate,
    half_width,
    needs_more,
    open_keys,
)
from nas_attn.records import Fingerprint, Latency, Session, SessionSample

HERE = Fingerprint("cpu", "test", ())


def session(log_ratios: dict[str, float], control: float = 0.0, reference_ms: float = 2.0) -> Session:
    samples = tuple(
        SessionSample(key, value, reference_ms * math.exp(value), value, reference_ms * math.exp(value), 50)
        for key, value in log_ratios.items()
    )
    return Session(HERE, {}, 0.0, 3.0, reference_ms, control, samples)


def drawn(count: int, truth: dict[str, float], spread: float, seed: int) -> list[Session]:
    rng = np.random.default_rng(seed)
    return [
        session({key: value + rng.normal(0, spread) for key, value in truth.items()}, rng.normal(0, spread / 4))
        for _ in range(count)
    ]


def test_the_estimate_is_the_median_over_sessions_with_the_studys_reference_time() -> None:
    sessions = [session({"a": math.log(r)}, reference_ms=ms) for r, ms in ((1.1, 2.0), (1.2, 9.0), (1.3, 3.0))]
    latency = estimate(sessions)["a"]
    assert latency.ratio == pytest.approx(1.2)
    assert latency.reference_ms == 3.0
    assert latency.ms == pytest.approx(3.6)
    assert latency.sessions == 3
    assert latency.measured
    assert estimate([]) == {}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 8, 12])
def test_intervals_cover_the_truth_at_every_number_of_sessions(count: int) -> None:
    """Other candidates of the study show the spread between sessions; nominal is 95 %."""
    truth = {key: 0.1 * i for i, key in enumerate("abcdef")}
    hits = []
    for seed in range(100):
        others = drawn(8, {"x": 0.5, "y": 0.2}, 0.02, seed + 10_000)
        found = estimate([*others, *drawn(count, truth, 0.02, seed)], seed=seed)
        hits += [found[key].low <= math.exp(value) <= found[key].high for key, value in truth.items()]
    assert 0.90 <= np.mean(hits) <= 0.995


def test_one_lonely_session_is_not_taken_for_certain() -> None:
    latency = estimate([session({"a": 0.1})])["a"]
    assert half_width(latency) > 0.02
    assert needs_more(latency, 0.02)


def test_more_sessions_narrow_the_interval_until_it_is_enough() -> None:
    sessions = drawn(40, {"a": 0.3}, 0.02, 1)
    widths = [half_width(estimate(sessions[:n])["a"]) for n in (2, 8, 40)]
    assert widths[0] > widths[1] > widths[2]
    assert not needs_more(estimate(sessions)["a"], 0.02)
    assert needs_more(estimate(sessions[:2])["a"], 0.01)


def test_what_was_never_measured_needs_measuring() -> None:
    assert needs_more(None, 0.02)
    assert needs_more(Latency(1.1, 1.1, 1.1, 2.0, 0, measured=False), 0.02)


def test_sessions_with_a_bad_control_are_dropped_and_counted() -> None:
    good = [session({"a": 0.1}, control=c) for c in (0.001, -0.002, 0.003, -0.001, 0.002, 0.004)]
    bad = session({"a": 0.9}, control=0.08)
    assert dropped([*good, bad]) == (bad,)
    assert estimate([*good, bad]) == estimate(good)


def test_a_control_within_one_percent_never_drops_a_session() -> None:
    assert dropped([session({"a": 0.1}, control=c) for c in (0.0, 0.0001, -0.0001, 0.0, 0.009)]) == ()


def test_a_noisy_machine_keeps_the_sessions_that_are_as_noisy_as_all_others() -> None:
    assert dropped([session({"a": 0.1}, control=c) for c in (0.02, -0.03, 0.025, -0.02, 0.05)]) == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=15), st.integers(0, 3))
def test_estimates_repeat_and_contain_their_middle(values: list[float], seed: int) -> None:
    sessions = [session({"a": value, "b": -value}) for value in values]
    found = estimate(sessions, seed=seed)
    assert found == estimate(sessions, seed=seed)
    for latency in found.values():
        assert latency.low <= latency.ratio <= latency.high


def test_which_is_faster_is_certain_where_pairs_agree_and_open_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.05, 10)  # sessions differ by more than the candidates do
    sessions = [session({"a": 0.10 + c, "b": 0.11 + c + rng.normal(0, 0.002), "twin": 0.10 + c}) for c in common]
    assert Order(sessions).probability_faster("a", "b") > 0.7
    assert Order(sessions).probability_faster("a", "b") == pytest.approx(
        1 - Order(sessions).probability_faster("b", "a")
    )
    assert Order(sessions).probability_faster("a", "twin") == pytest.approx(0.5)
    assert Order(sessions).probability_faster("a", None) < 0.05


def test_equal_candidates_are_rarely_called_different() -> None:
    calls = [Order(drawn(8, {"a": 0.2, "b": 0.2}, 0.02, seed)).probability_faster("a", "b") for seed in range(300)]
    assert np.mean([p > 0.975 or p < 0.025 for p in calls]) < 0.09
    assert np.mean(calls) == pytest.approx(0.5, abs=0.06)


def test_candidates_that_never_met_are_compared_by_their_estimates() -> None:
    apart = [*drawn(4, {"a": 0.1}, 0.01, 1), *drawn(4, {"b": 0.2}, 0.01, 2)]
    assert Order(apart).probability_faster("a", "b") > 0.99
    with pytest.raises(KeyError):
        Order(apart).probability_faster("a", "c")


def test_the_spread_between_sessions_is_recovered() -> None:
    assert Order(drawn(30, {"a": 0.1, "b": 0.5}, 0.03, 3)).spread == pytest.approx(0.03, rel=0.25)


def test_the_neediest_are_measured_first_and_never_beyond_their_share() -> None:
    sessions = [*drawn(8, {"sure": 0.1}, 0.001, 0), *drawn(3, {"open": 0.2}, 0.08, 1)]
    keys = ["sure", "open", "new"]
    assert open_keys(sessions, keys, tolerance=0.02, max_sessions=9) == ["new", "open"]
    assert open_keys(sessions, keys, tolerance=0.02, max_sessions=3) == ["new"]
    assert open_keys(sessions, ["sure"], tolerance=0.02, max_sessions=9) == []

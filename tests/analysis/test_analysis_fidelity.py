"""Fidelity on simulated worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nas_attn.analysis import fidelity_statistics as statistics
from nas_attn.analysis.fidelity import Fidelity, Runs, assess

Array = statistics.Array


def world(
    rng: np.random.Generator, *, placements: int = 12, seeds: int = 4, noise: float = 1.0, like: float = 1.0
) -> tuple[Array, Array]:
    """Reference and cheap values (placements, seeds); true values of spread 1, correlated by `like`."""
    truth = rng.standard_normal(placements)
    cheap = like * truth + np.sqrt(1 - like**2) * rng.standard_normal(placements)
    shared = rng.standard_normal(seeds)  # a seed that is good for all placements changes no order
    return (
        truth[:, None] + noise * rng.standard_normal((placements, seeds)),
        cheap[:, None] + noise * rng.standard_normal((placements, seeds)) + shared,
    )


def reference(values: Array) -> Runs:
    return Runs("scratch", 1.0, (20,), "accuracy", values, 20.0)


def cheap(values: Array, *, start: str = "backbone", epochs: int = 1, metric: str = "accuracy") -> Runs:
    return Runs(start, 1.0, (epochs,), metric, values, float(epochs))


def held(runs: Runs, *others: Runs, seed: int = 0) -> Fidelity:
    names = [f"p{i}" for i in range(len(runs.values))]
    return assess(names, np.arange(len(names), dtype=float), "macs", runs, others, seed=seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=9))
def test_tau_b_with_ties_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    ours = float((statistics.orders(x[None]) * statistics.orders(y[None])).sum())
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert ours == 0
    else:
        assert ours == pytest.approx(kendalltau(x, y).statistic)


def test_averages_that_differ_by_rounding_are_ties() -> None:
    values = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.4, 0.4, 0.4]])
    order = statistics.orders(statistics.means_over(values, [(0, 1, 2)]))[0]
    assert order[0, 1] == 0
    assert order[2, 0] > 0


def test_tau_is_that_with_the_mean_of_the_other_seeds() -> None:
    ref, low = world(np.random.default_rng(0), seeds=3)
    found = held(reference(ref), cheap(low))
    others = [np.delete(ref, s, axis=1).mean(axis=1) for s in range(3)]
    two = [low[:, list(c)].mean(axis=1) for c in ((0, 1), (0, 2), (1, 2))]
    expected = {
        1: np.mean([kendalltau(low[:, s], o).statistic for s in range(3) for o in others]),
        2: np.mean([kendalltau(m, o).statistic for m in two for o in others]),
        3: np.mean([kendalltau(low.mean(axis=1), o).statistic for o in others]),
    }
    assert {row.setting.seeds: row.tau for row in found.rows} == pytest.approx(expected)
    assert found.floor.tau == pytest.approx(np.mean([kendalltau(ref[:, s], others[s]).statistic for s in range(3)]))


def test_reliability_is_found_again_and_predicts_that_of_means() -> None:
    rng = np.random.default_rng(1)
    one, four = [], []
    for _ in range(40):
        _, low = world(rng, placements=40, seeds=8, noise=2.0)
        one.append(statistics.reliability(low[:, :4]))
        four.append(np.corrcoef(low[:, :4].mean(axis=1), low[:, 4:].mean(axis=1))[0, 1])
    assert np.mean(one) == pytest.approx(0.2, abs=0.03)  # 1 / (1 + 2^2)
    assert statistics.spearman_brown(float(np.mean(one)), 4) == pytest.approx(np.mean(four), abs=0.06)


@pytest.mark.parametrize(("placements", "noise", "like"), [(12, 1.0, 0.8), (16, 0.5, 0.9)])
def test_intervals_cover_what_is_to_be_expected(placements: int, noise: float, like: float) -> None:
    rng = np.random.default_rng(2)
    many = [world(rng, placements=placements, noise=noise, like=like) for _ in range(1000)]
    found = [held(reference(ref), cheap(low)) for ref, low in many[:60]]
    for index, k in enumerate((1, 2, 4)):
        single = [(low[:, :k].mean(axis=1), ref[:, 1:].mean(axis=1)) for ref, low in many]
        expected = np.mean([statistics.orders(np.array(pair)).prod(axis=0).sum() for pair in single])
        rows = [f.rows[index] for f in found]
        assert np.mean([row.low <= expected <= row.high for row in rows]) >= 0.85
        assert np.mean([row.tau for row in rows]) == pytest.approx(expected, abs=0.08)
        assert np.mean([row.high - row.low for row in rows]) < 1.0  # it does not cover by saying nothing
    floor = np.mean([kendalltau(ref[:, 0], ref[:, 1:].mean(axis=1)).statistic for ref, _ in many])
    assert np.mean([f.floor.low <= floor <= f.floor.high for f in found]) >= 0.85


def test_where_nothing_ranks_nothing_is_recommended() -> None:
    rng = np.random.default_rng(3)
    recommended = 0
    for index in range(40):
        ref, first = world(rng, like=0.0)
        _, second = world(rng)
        found = held(reference(ref), cheap(first), cheap(second, start="scratch"), seed=index)
        recommended += found.advice.setting is not None
        if found.advice.setting is None:
            assert "No cheap setting was shown to rank" in found.advice.sentences[0]
    assert recommended <= 5  # 2 expected


def test_the_cheapest_of_equally_good_settings_is_recommended_and_said_to_be_no_proof() -> None:
    ref, low = world(np.random.default_rng(4), placements=20, noise=0.3)
    _, wrong = world(np.random.default_rng(5), placements=20, noise=0.3)
    elsewhere = Runs("scratch", 1.0, (1,), "accuracy", wrong, 0.1)  # cheaper still, but ranks another world
    found = held(reference(ref), cheap(low), cheap(low, epochs=4), elsewhere)
    chosen = found.advice.setting
    assert chosen is not None
    assert (chosen.start, chosen.epochs) == ("backbone", 1)
    said = " ".join(found.advice.sentences)
    assert "by cost and not by proof" in said
    assert f"{20 // chosen.seeds} times less than one long run" in said


def test_a_clearly_better_setting_is_taken_at_its_price() -> None:
    rng = np.random.default_rng(6)
    ref, good = world(rng, placements=24, noise=0.2)
    poor = good.mean(axis=1, keepdims=True) + 1.5 * rng.standard_normal((24, 4))
    found = held(reference(ref), cheap(poor), cheap(good, epochs=4))
    chosen = found.advice.setting
    assert chosen is not None
    assert chosen.epochs == 4


def test_another_metric_of_the_same_runs_is_compared() -> None:
    rng = np.random.default_rng(7)
    ref, sharp = world(rng, placements=24, noise=0.2)
    dull = sharp + rng.standard_normal((24, 1))  # in all seeds, so that more of them do not help
    found = held(reference(ref), cheap(dull), cheap(sharp, metric="loss"))
    assert found.advice.setting is not None
    assert found.advice.setting.metric == "accuracy"
    assert any(s.startswith("The same runs rank better by loss") for s in found.advice.sentences)


def test_an_order_that_misses_the_front_is_recommended_with_a_warning() -> None:
    """Right about the eighteen bad placements, upside down among the six good ones, which are the front."""
    rng = np.random.default_rng(9)
    truth = np.array([5.0, 5.2, 5.4, 5.6, 5.8, 6.0, *(-np.arange(18.0))])
    seen = np.array([*truth[:6][::-1], *truth[6:]])
    noise = 0.01 * rng.standard_normal((2, 24, 4))
    upside_down = held(reference(truth[:, None] + noise[0]), cheap(seen[:, None] + noise[1]))
    right = held(reference(truth[:, None] + noise[0]), cheap(truth[:, None] + noise[1]))
    for found, warned in ((upside_down, True), (right, False)):
        assert found.advice.setting is not None
        assert any("of the reference's front, no more than a random" in s for s in found.advice.sentences) == warned


def test_front_and_extremes() -> None:
    ref, _ = world(np.random.default_rng(8), noise=0.0)
    found = held(reference(ref), cheap(ref), cheap(-ref, start="scratch"))
    right, wrong = found.rows[0], found.rows[-1]
    assert (right.tau, wrong.tau) == (pytest.approx(1), pytest.approx(-1))
    assert right.front == 1
    assert wrong.front < 1
    assert found.chance_front < 1
    assert found.advice.setting == right.setting
    assert right.reliability == found.reference_reliability == 1
    assert found.noise_sd == pytest.approx(0, abs=1e-9)


def test_scores_that_are_all_equal_rank_nothing() -> None:
    ref, _ = world(np.random.default_rng(9))
    row = held(reference(ref), cheap(np.full_like(ref, 0.7))).rows[0]
    assert (row.tau, row.low, row.high, row.reliability) == (0, 0, 0, 0)


def test_equal_runs_give_equal_results() -> None:
    ref, low = world(np.random.default_rng(10))
    assert held(reference(ref), cheap(low), seed=5) == held(reference(ref), cheap(low), seed=5)
    assert statistics.seed_counts(3) == [1, 2, 3]
    assert statistics.seed_counts(8) == [1, 2, 4, 8]

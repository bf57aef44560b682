from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.estimates import NoiseModel, Runs


def runs(*values: float, examples: int = 0) -> Runs:
    return Runs(dict(enumerate(values)), {}, examples)


def simulated(
    tau: float, sigma: float, seeds: int, candidates: int, rng: np.random.Generator
) -> tuple[dict[str, Runs], dict[str, float]]:
    truth = {f"c{i:02}": 0.7 + tau * rng.standard_normal() for i in range(candidates)}
    return {key: runs(*(t + sigma * rng.standard_normal(seeds))) for key, t in truth.items()}, truth


def test_the_noise_floor_and_the_spread_are_found_again() -> None:
    table, _ = simulated(0.02, 0.01, 4, 60, np.random.default_rng(0))
    floor = NoiseModel("score", table).floor
    assert floor.seed_sd == pytest.approx(0.01, rel=0.15)
    assert floor.between_sd == pytest.approx(0.02, rel=0.25)
    assert floor.reliability(1) == pytest.approx(0.8, abs=0.08)
    assert floor.reliability(4) > floor.reliability(1)
    assert (floor.source, floor.repeated, floor.runs) == ("seeds", 60, 240)


def test_shrunken_estimates_are_nearer_to_the_truth_than_raw_means_and_cover_it() -> None:
    rng = np.random.default_rng(1)
    raw, shrunken, covered, total = 0.0, 0.0, 0, 0
    for _ in range(20):
        table, truth = simulated(0.005, 0.01, 2, 15, rng)
        model = NoiseModel("score", table)
        for key, true in truth.items():
            estimate = model.estimate(key)
            raw += (estimate.raw_mean - true) ** 2
            shrunken += (estimate.mean - true) ** 2
            low, high = estimate.interval
            covered += low <= true <= high
            total += 1
    assert shrunken < 0.75 * raw
    assert 0.9 <= covered / total <= 0.99


def test_stated_probabilities_come_true_also_for_the_best_looking() -> None:
    rng = np.random.default_rng(2)
    stated, right = [], []
    for _ in range(150):
        table, truth = simulated(0.005, 0.01, 2, 12, rng)
        model = NoiseModel("score", table)
        best = max(truth, key=lambda key: model.estimate(key).mean)
        if best != "c00":
            stated.append(model.probability(best, "c00"))
            right.append(truth[best] > truth["c00"])
    assert np.mean(stated) == pytest.approx(np.mean(right), abs=0.08)


def test_equal_candidates_are_not_told_apart_by_luck() -> None:
    rng = np.random.default_rng(3)
    sure = 0
    for _ in range(60):
        table, truth = simulated(0.0, 0.01, 3, 12, rng)
        model = NoiseModel("score", table)
        best = max(truth, key=lambda key: model.estimate(key).mean)
        sure += model.probability(best, "c05" if best != "c05" else "c06") > 0.95
    assert sure <= 6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 0.9), min_size=1, max_size=3), min_size=1, max_size=6))
def test_probabilities_are_antisymmetric_and_estimates_lie_within_the_data(table: list[list[float]]) -> None:
    model = NoiseModel("accuracy", {f"c{i}": runs(*values, examples=500) for i, values in enumerate(table)})
    means = [float(np.mean(values)) for values in table]
    for i in range(len(table)):
        estimate = model.estimate(f"c{i}")
        assert min(means) - 1e-9 <= estimate.mean <= max(means) + 1e-9
        assert estimate.sd > 0
        p, q = model.probability("c0", f"c{i}"), model.probability(f"c{i}", "c0")
        assert p + q == pytest.approx(1.0)


def test_more_seeds_pull_less_towards_the_mean() -> None:
    table = {"a": runs(0.80), "b": runs(0.80, 0.79, 0.81, 0.80), "c": runs(0.70, 0.71), "d": runs(0.72)}
    model = NoiseModel("score", table)
    assert model.estimate("c").mean < model.estimate("a").mean < model.estimate("b").mean < 0.80
    assert model.estimate("b").sd < model.estimate("a").sd


def test_lower_is_better_turns_the_probability_round() -> None:
    table = {"a": runs(0.50, 0.51), "b": runs(0.90, 0.91)}
    assert NoiseModel("loss", table, lower_is_better=True).probability("a", "b") > 0.9
    assert NoiseModel("loss", table).probability("a", "b") < 0.1
    gain, _ = NoiseModel("loss", table, lower_is_better=True).gain("a", "b")
    assert gain == pytest.approx(0.4, abs=0.1)


def test_without_repeated_runs_the_validation_set_gives_the_floor() -> None:
    floor = NoiseModel("accuracy", {"a": runs(0.8, examples=10_000), "b": runs(0.8, examples=10_000)}).floor
    assert floor.source == "images"
    assert floor.seed_sd == pytest.approx(0.004)
    assert floor.binomial_sd == floor.seed_sd


def test_where_nothing_is_known_about_the_noise_it_is_said() -> None:
    model = NoiseModel("rmse", {"a": runs(0.8)})
    assert (model.floor.source, model.floor.seed_sd, model.floor.reliability()) == ("none", None, None)
    assert model.estimate("a").mean == 0.8
    assert model.probability("a", "a") is None
    assert NoiseModel("rmse", {"a": runs(0.8), "b": runs(0.9)}).floor.source == "assumed"
    assert NoiseModel("rmse", {}).floor.runs == 0
    assert NoiseModel("rmse", {}).estimate("a") is None


@pytest.mark.parametrize("value", [1.0, 72.4])
def test_an_accuracy_that_is_no_share_has_no_binomial_spread(value: float) -> None:
    model = NoiseModel("accuracy", {"a": runs(value, examples=500), "b": runs(value + 0.1, examples=500)})
    assert model.floor.binomial_sd is None
    assert model.floor.seed_sd > 0
    assert 0.3 < model.probability("b", "a") < 0.95


def test_a_deterministic_evaluator_is_believed() -> None:
    model = NoiseModel("score", {"a": runs(0.5, 0.5), "b": runs(0.6, 0.6)})
    assert (model.probability("b", "a"), model.probability("a", "b"), model.probability("a", "a")) == (1.0, 0.0, 0.5)


def with_bits(*bits: np.ndarray) -> Runs:
    return Runs(
        {s: float(b.mean()) for s, b in enumerate(bits)},
        {s: np.packbits(b).tobytes() for s, b in enumerate(bits)},
        len(bits[0]),
    )


def test_images_that_both_get_right_sharpen_the_comparison() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(3001) < 0.3
    table = {f"c{i}": ~hard | (rng.random(3001) < 0.02 * i) for i in range(5)}
    paired = {key: with_bits(bits) for key, bits in table.items()}
    apart = {key: Runs(r.values, {}, r.examples) for key, r in paired.items()}
    shuffled = {key: with_bits(rng.permutation(bits)) for key, bits in table.items()}
    sharp = NoiseModel("accuracy", paired)
    assert sharp.floor.seed_sd < 0.6 * sharp.floor.binomial_sd
    assert sharp.probability("c4", "c2") > NoiseModel("accuracy", apart).probability("c4", "c2") + 0.02
    assert sharp.probability("c4", "c2") > NoiseModel("accuracy", shuffled).probability("c4", "c2") + 0.02


def test_the_validation_images_bound_how_sure_a_comparison_can_be() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.random(200) < 0.75, rng.random(200) < 0.65
    table = {"a": with_bits(a, a, a), "b": with_bits(b, b, b)}
    few = NoiseModel("accuracy", table | {f"o{i}": runs(0.5 + i / 10, 0.5 + i / 10) for i in range(5)})
    blind = {key: Runs(r.values, {}, 0) for key, r in table.items()}
    many = NoiseModel("accuracy", blind | {f"o{i}": runs(0.5 + i / 10, 0.5 + i / 10) for i in range(5)})
    assert many.probability("a", "b") == 1.0
    assert few.probability("a", "b") < 0.999


def test_seeds_that_move_all_candidates_together_cancel_in_the_comparison() -> None:
    rng = np.random.default_rng(6)
    common = 0.02 * rng.standard_normal(6)
    table = {f"c{i}": runs(*(0.7 + 0.004 * i + common + 0.001 * rng.standard_normal(6))) for i in range(6)}
    scrambled = {
        key: Runs({s + 10 * i: v for s, v in r.values.items()}, {}) for i, (key, r) in enumerate(table.items())
    }
    assert (
        NoiseModel("score", table).probability("c5", "c3")
        > NoiseModel("score", scrambled).probability("c5", "c3") + 0.05
    )

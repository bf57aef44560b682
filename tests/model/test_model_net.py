"""Levels of seeds: what is common to them goes, what distinguishes candidates stays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_attn.analysis.fronts import net


def made(rng: np.random.Generator, *, seeds: int, candidates: int, shift: float) -> dict[str, dict[int, float]]:
    """Candidates on one seed each, `none` on all of them."""
    level = shift * rng.standard_normal(seeds)
    truth = 0.01 * rng.standard_normal(candidates)
    runs = {f"c{i}": {i % seeds: truth[i] + level[i % seeds]} for i in range(candidates)}
    return runs | {"none": {s: level[s] for s in range(seeds)}}


def test_one_seed_has_no_level() -> None:
    values = {"a": {3: 0.5}, "b": {3: 0.7}}
    assert net(values) == values


def test_a_lucky_backbone_makes_no_winner() -> None:
    values = made(np.random.default_rng(0), seeds=3, candidates=30, shift=0.2)
    before = [next(iter(runs.values())) for key, runs in values.items() if key != "none"]
    after = [next(iter(runs.values())) for key, runs in net(values).items() if key != "none"]
    assert np.std(before) > 0.05
    assert np.std(after) < 0.015


@given(st.floats(-1, 1), st.integers(0, 2**32 - 1))
def test_what_is_added_to_all_runs_of_a_seed_changes_no_comparison(shift: float, seed: int) -> None:
    values = made(np.random.default_rng(seed), seeds=3, candidates=12, shift=0.1)
    moved = {key: {s: v + shift * (s == 1) for s, v in runs.items()} for key, runs in values.items()}
    flat = [v for runs in net(values).values() for v in runs.values()]
    again = [v for runs in net(moved).values() for v in runs.values()]
    assert np.subtract(again, flat) == pytest.approx(np.mean(np.subtract(again, flat)), abs=1e-9)


def test_what_is_not_finite_is_left_alone() -> None:
    found = net({"a": {0: float("nan"), 1: 0.5}, "b": {0: 0.4, 1: 0.6}})
    assert np.isnan(found["a"][0])
    assert np.isfinite(found["b"][0])

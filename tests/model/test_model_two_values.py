"""Runs that lie at two values, as a network either finds what its task needs or does not."""

from __future__ import annotations

import numpy as np
from runs_made import additive, placements
from runs_made import runs as drawn

from nas_attn.model import Run, fit

TEXTS = placements(30, np.random.default_rng(0))


def by_chance(rng: np.random.Generator, chance: float, *, failed: tuple[str, ...] = ()) -> list[Run]:
    """One run of each placement, with four further seeds for three of them; at .93 by chance, else at .53."""
    found = []
    for seed, keys in enumerate([list(TEXTS), *[["k000", "k001", "k002"]] * 4]):
        for key in keys:
            high = rng.random() < chance and not (seed == 0 and key in failed)
            found.append(Run(key, seed, 0, (0.93 if high else 0.53) + 0.004 * float(rng.standard_normal())))
    return found


def test_who_failed_once_by_chance_is_not_surely_worse() -> None:
    """Before, its failed run was cut as a broken one, and what was cut off taken for its own, for certain."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        model = fit(by_chance(rng, 0.75, failed=("k000", "k007")), TEXTS, metric="accuracy")
        assert model is not None
        assert model.two_values is not None
        assert np.allclose(model.two_values, (0.53, 0.93), atol=0.01)
        surest = max(gain.probability for key, gain in model.gains("k000").items() if key != "k000")
        assert surest < 0.95
        assert model.noise.paired_sd is not None
        assert model.noise.paired_sd > 0.08


def test_one_that_always_finds_it_looks_better_than_one_that_never_does() -> None:
    """Every other placement always does; one of them, which ran five times, by chance."""
    rng, always = np.random.default_rng(1), {key: i % 2 for i, key in enumerate(TEXTS)}
    runs = [
        run
        if run.key == "k002"
        else Run(run.key, run.seed, 0, 0.53 + 0.4 * always[run.key] + 0.004 * float(rng.standard_normal()))
        for run in by_chance(rng, 0.5)
    ]
    model = fit(runs, TEXTS, metric="accuracy")
    assert model is not None
    assert model.two_values is not None
    gain = model.gain("k001", "k000")
    assert gain is not None
    assert gain.probability > 0.5
    assert gain.worse < 0.1
    assert gain.low <= 0.4 <= gain.high


def test_differences_of_placements_seeds_and_a_few_broken_runs_are_no_two_values() -> None:
    rng = np.random.default_rng(2)
    apart = {key: 0.4 * (i % 2) for i, key in enumerate(TEXTS)}  # placements at two values, each always at its own
    seeds = drawn(additive(TEXTS, rng, 0.001), rng, noise=0.001, seeds=3, level=0.1)  # levels far apart
    broken = drawn(additive(TEXTS, rng, 0.01), rng, noise=0.005, seeds=2)
    broken[4] = Run(broken[4].key, broken[4].seed, 0, 0.1)
    for runs in (drawn(apart, rng, noise=0.005, seeds=2), seeds, broken):
        model = fit(runs, TEXTS, metric="accuracy")
        assert model is not None
        assert model.two_values is None


def test_a_chance_that_the_backbone_decides_is_one_too() -> None:
    rng = np.random.default_rng(3)
    finds = {(key, b): bool(rng.random() < 0.6) for key in TEXTS for b in range(3)}
    runs = [
        Run(key, seed, 0, (0.93 if finds[key, seed] else 0.53) + 0.004 * float(rng.standard_normal()), seed)
        for key in TEXTS
        for seed in range(3)
    ]
    model = fit(runs, TEXTS, metric="accuracy")
    assert model is not None
    assert model.two_values is not None
    assert model.noise.interaction_sd is not None
    assert model.noise.paired_sd is not None
    assert np.hypot(model.noise.paired_sd, model.noise.interaction_sd) > 0.1

"""What few runs at the target say beside many of a search."""

from __future__ import annotations

import numpy as np
import pytest
import runs_made as made

from nas_attn.model import TARGET_RUNG, Evidence, ScoredRun, fit
from nas_attn.space.placement import BARE


def study(
    seed: int, slope: float, tried: int, blocks: int
) -> tuple[Evidence, Evidence, dict[str, float]]:
    """(model of the search alone, of the search and the target, gains at the target over
    `k000`).
    """
    rng = np.random.default_rng(seed)
    texts = made.placements(30, rng)
    effects = {key: 0.006 * float(rng.standard_normal()) for key in texts}
    other = {key: 0.006 * float(rng.standard_normal()) for key in texts}
    there = {key: slope * effects[key] + np.sqrt(1 - slope**2) * other[key] for key in texts}
    runs = made.runs(effects, rng, noise=0.003, level=0.004, seeds=2)
    some = dict(list(there.items())[:tried])
    target = made.runs(
        some,
        rng,
        noise=0.003,
        level=0.004,
        seeds=blocks,
        rung=TARGET_RUNG,
        first_seed=1000,
        base=0.8,
    )
    gains = {key: float(value - there["k000"]) for key, value in there.items()}
    return fit(runs, texts, metric="accuracy"), fit(runs + target, texts, metric="accuracy"), gains


def widths(model: Evidence, keys: list[str]) -> float:
    return float(np.mean([gain.high - gain.low for gain in model.gains("k000", keys).values()]))


def test_where_brief_runs_say_nothing_of_the_target_its_gains_are_uncertain_and_else_they_are_not() -> (
    None
):
    untried, wide, correlation, covered = [f"k{i:03}" for i in range(12, 30)], {}, {}, []
    for slope in (0.0, 1.0):
        search, both, gains = study(1, slope, tried=12, blocks=2)
        wide[slope], correlation[slope] = (
            widths(both, untried) / widths(search, untried),
            both.noise.correlation,
        )
        covered += [
            gain.low <= gains[key] <= gain.high
            for key, gain in both.gains("k000").items()
            if key != "k000"
        ]
    assert wide[0.0] > 1.2 * wide[1.0]
    assert wide[0.0] > 1.5
    assert correlation[1.0] > correlation[0.0] + 0.2
    assert np.mean(covered) > 0.85


def test_three_networks_at_the_target_leave_the_others_uncertain() -> None:
    search, both, _ = study(2, 1.0, tried=3, blocks=8)
    tried, untried = ["k001", "k002"], [f"k{i:03}" for i in range(3, 30)]
    assert widths(both, untried) > 1.5 * widths(search, untried)
    assert widths(both, tried) < 0.7 * widths(both, untried)


def test_what_ran_counts_with_the_best_runs_that_it_has() -> None:
    _, both, _ = study(3, 1.0, tried=3, blocks=4)
    assert both.rung == TARGET_RUNG
    assert (both.estimates["k001"].seeds, both.estimates["k009"].seeds) == (4, 2)
    assert both.estimates["k009"].mean == pytest.approx(0.8, abs=0.02)
    alone = fit([ScoredRun("k000", 0, TARGET_RUNG, 0.8)], {"k000": BARE}, metric="accuracy")
    assert alone.estimates["k000"].mean == pytest.approx(0.8)


TEXTS = made.placements(30, np.random.default_rng(0))


def by_chance(
    rng: np.random.Generator, chance: float, *, failed: tuple[str, ...] = ()
) -> list[ScoredRun]:
    """One run of each placement, with four further seeds for three of them; at .93 by chance, else
    at .53.
    """
    found = []
    for seed, keys in enumerate([list(TEXTS), *[["k000", "k001", "k002"]] * 4]):
        for key in keys:
            high = rng.random() < chance and not (seed == 0 and key in failed)
            found.append(
                ScoredRun(
                    key, seed, 0, (0.93 if high else 0.53) + 0.004 * float(rng.standard_normal())
                )
            )
    return found


def test_two_runs_at_the_target_that_fail_by_chance_do_not_overturn_a_search() -> None:
    search = [run for run in by_chance(np.random.default_rng(5), 0.8) if run.key != "k000"]
    search += [ScoredRun("k000", seed, 0, 0.53 + 0.002 * seed) for seed in range(5)]
    target = [ScoredRun("k000", 9, TARGET_RUNG, 0.537), ScoredRun("k001", 9, TARGET_RUNG, 0.529)]
    gain = fit(search + target, TEXTS, metric="accuracy").gain("k001", "k000")
    assert gain.probability > 1.5 * gain.worse, "a tie is likely, a loss is not"
    assert gain.high > 0.1


def test_who_failed_once_by_chance_is_not_surely_worse() -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        model = fit(by_chance(rng, 0.75, failed=("k000", "k007")), TEXTS, metric="accuracy")
        assert np.allclose(model.two_values, (0.53, 0.93), atol=0.01)
        surest = max(gain.probability for key, gain in model.gains("k000").items() if key != "k000")
        assert surest < 0.95
        assert model.noise.paired_sd > 0.08


def test_differences_of_placements_seeds_and_a_few_broken_runs_are_no_two_values() -> None:
    rng = np.random.default_rng(2)
    apart = {
        key: 0.4 * (i % 2) for i, key in enumerate(TEXTS)
    }  # placements at two values, each always at its own
    seeds = made.runs(
        made.additive(TEXTS, rng, 0.001), rng, noise=0.001, seeds=3, level=0.1
    )  # levels far apart
    broken = made.runs(made.additive(TEXTS, rng, 0.01), rng, noise=0.005, seeds=2)
    broken[4] = ScoredRun(broken[4].key, broken[4].seed, 0, 0.1)
    for runs in (made.runs(apart, rng, noise=0.005, seeds=2), seeds, broken):
        model = fit(runs, TEXTS, metric="accuracy")
        assert model.two_values is None

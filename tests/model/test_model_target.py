"""Runs of the target above those of the search: what brief runs say about it is learned, and is uncertain until then."""

from __future__ import annotations

import numpy as np
import pytest
import runs_made as made

from nas_attn.model import TARGET, Evidence, Run, fit


def study(seed: int, slope: float, tried: int, blocks: int) -> tuple[Evidence, Evidence, dict[str, float]]:
    """(model of the search alone, of the search and the target, gains at the target over `k000`)."""
    rng = np.random.default_rng(seed)
    texts = made.placements(30, rng)
    effects = {key: 0.006 * float(rng.standard_normal()) for key in texts}
    other = {key: 0.006 * float(rng.standard_normal()) for key in texts}
    there = {key: slope * effects[key] + np.sqrt(1 - slope**2) * other[key] for key in texts}
    runs = made.runs(effects, rng, noise=0.003, level=0.004, seeds=2)
    some = dict(list(there.items())[:tried])
    target = made.runs(some, rng, noise=0.003, level=0.004, seeds=blocks, rung=TARGET, first_seed=1000, base=0.8)
    gains = {key: float(value - there["k000"]) for key, value in there.items()}
    return fit(runs, texts, metric="accuracy"), fit(runs + target, texts, metric="accuracy"), gains


def widths(model: Evidence, keys: list[str]) -> float:
    return float(np.mean([gain.high - gain.low for gain in model.gains("k000", keys).values()]))


def test_where_brief_runs_say_nothing_of_the_target_its_gains_are_uncertain_and_else_they_are_not() -> None:
    untried, wide, correlation, covered = [f"k{i:03}" for i in range(12, 30)], {}, {}, []
    for slope in (0.0, 1.0):
        search, both, gains = study(1, slope, tried=12, blocks=2)
        wide[slope], correlation[slope] = widths(both, untried) / widths(search, untried), both.noise.correlation
        covered += [gain.low <= gains[key] <= gain.high for key, gain in both.gains("k000").items() if key != "k000"]
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
    search, both, _ = study(3, 1.0, tried=3, blocks=4)
    assert both.rung == TARGET
    assert (both.estimates["k001"].seeds, both.estimates["k009"].seeds) == (4, 2)
    assert both.estimates["k001"].raw_mean > 0.75 > both.estimates["k009"].raw_mean
    assert both.estimates["k009"].raw_mean == pytest.approx(search.estimates["k009"].raw_mean)
    assert both.estimates["k009"].mean == pytest.approx(0.8, abs=0.02)
    assert fit([Run("k000", 0, TARGET, 0.8)], {"k000": "none"}, metric="accuracy").estimates[
        "k000"
    ].mean == pytest.approx(0.8)

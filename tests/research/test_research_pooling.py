"""The pooled fit: what made-up comparisons with known effects say, and what it does not claim."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from research.evidence.comparisons import PublishedComparison, comparisons
from research.evidence.fitted import TABLE_FILE, Situation, pooled
from research.evidence.pooling import (
    LEVELS,
    PENALTY_SD,
    SLOPE_SD,
    SPREADS,
    STEPS,
    fit,
    fitted_pairs,
    fitted_table,
)

NECK = Situation("detection", "neck", "pretrained", "random", "se")
BACKBONE = replace(NECK, place="backbone")


def row(source: str, network: str, situation: Situation, gain: float) -> PublishedComparison:
    return PublishedComparison(
        source=source,
        data="data",
        test="",
        network=network,
        situation=situation,
        recipe="",
        without=None,
        with_attention=None,
        gain=gain,
        error=None,
        unit="mAP",
        kind="exact",
    )


def made(
    effects: dict[Situation, float], sources: int, spread: float, seed: int = 0
) -> list[PublishedComparison]:
    """Four networks in each source, with these mean gains, and a spread of sources."""
    rng = np.random.default_rng(seed)
    rows: list[PublishedComparison] = []
    for source in range(sources):
        for situation, effect in effects.items():
            own = effect + spread * rng.standard_normal()
            for network in range(4):
                gain = own + 0.3 * rng.standard_normal()
                rows.append(row(f"source {source}", f"network {network}", situation, gain))
    return rows


def test_the_package_has_the_fit_of_these_comparisons() -> None:
    """Else: run `make docs`."""
    made_now = fitted_table(comparisons())
    shipped = json.loads(TABLE_FILE.read_text(encoding="utf-8"))
    assert shipped.keys() == made_now.keys()
    assert shipped["modules"] == made_now["modules"]
    assert shipped["degrees"] == made_now["degrees"]
    for name in ("effects", "covariance"):
        assert shipped[name] == pytest.approx(made_now[name], rel=1e-6, abs=1e-9)
    assert shipped["spreads"] == pytest.approx(made_now["spreads"])
    for kept, now in zip(shipped["settings"], made_now["settings"], strict=True):
        assert list(kept["modules"]) == list(now["modules"])
        usual = now.pop("usual")
        assert kept.pop("usual") == (usual and pytest.approx(usual, rel=1e-6))
        assert kept.pop("mean") == pytest.approx(now.pop("mean"))
        assert kept == now


def test_known_effects_are_found_within_their_errors() -> None:
    found = fit(made({NECK: 1.5, BACKBONE: -1.0}, sources=12, spread=0.3))
    for situation, truth in ((NECK, 1.5), (BACKBONE, -1.0)):
        gain = found.gain(situation)
        assert abs(gain.mean - truth) < 3 * gain.error
        assert gain.error < 0.4
        assert (gain.rows, gain.groups, len(gain.sources)) == (48, 48, 12)
    assert found.gain(NECK).probability > 0.95 > 0.05 > found.gain(BACKBONE).probability


def test_intervals_hold_what_a_new_source_shows() -> None:
    held = 0
    for seed in range(20):
        *known, new = np.split(np.array(made({NECK: 0.5}, 9, 0.6, seed), dtype=object), 9)
        gain = fit([one for source in known for one in source]).gain(NECK)
        held += sum(gain.low <= one.gain <= gain.high for one in new)
    assert 0.65 <= held / 80 <= 0.95


def test_one_source_with_many_rows_is_no_proof() -> None:
    """Fifty rows of one source say less of the next source than ten rows of ten."""
    rng = np.random.default_rng(0)
    others = made({BACKBONE: 0.0}, sources=6, spread=0.6)
    noise = 0.3 * rng.standard_normal(50)
    one = [row("alone", f"network {i}", NECK, 1.0 + noise[i]) for i in range(50)]
    ten = [row(f"source {i}", "network", NECK, 1.0 + noise[i]) for i in range(10)]
    from_one = fit([*others, *one]).gain(NECK)
    from_ten = fit([*others, *ten]).gain(NECK)
    assert from_one.error > 1.5 * from_ten.error
    assert len(from_one.sources) == 1


def test_a_setting_without_rows_is_an_extrapolation_with_a_wider_interval() -> None:
    known = pooled().gain(Situation("classification", "backbone", "scratch", "random", "se"))
    unknown = pooled().gain(Situation("segmentation", "backbone", "pretrained", "identity", "se"))
    assert unknown.sources == ()
    assert unknown.rows == 0
    assert unknown.sd > known.sd
    assert 0.3 < unknown.probability < 0.7


def test_a_task_of_one_source_is_not_fitted() -> None:
    """It would widen the spreads for all tasks, and does not say how far another source may be."""
    alone = [row for row in comparisons() if row.situation.task == "segmentation"]
    assert len({row.source for row in alone}) == 1
    others = [row for row in comparisons() if row.situation.task != "segmentation"]
    assert fit(comparisons()).spreads == fit(others).spreads
    two = [replace(row, source=f"{row.source} {number % 2}") for number, row in enumerate(alone)]
    assert fit([*others, *two]).knows("segmentation")
    assert not pooled().knows("segmentation")


def test_a_task_that_is_not_fitted_has_its_plain_figures() -> None:
    (seen,) = (one for one in pooled().settings if one.setting.task == "segmentation")
    own = [row for row in comparisons() if row.situation.task == "segmentation"]
    assert (seen.setting.place, seen.setting.start, seen.usual) == ("head", "pretrained", None)
    assert seen.mean == pytest.approx(np.mean([row.gain for row in own]))
    assert (seen.rows.rows, seen.positive, seen.rows.groups) == (48, 48, 6)


def test_a_setting_says_no_more_than_its_rows_and_the_mean_of_all() -> None:
    middle = fitted_table(comparisons())["effects"][0]
    for one in pooled().fitted:
        bounds = sorted([one.mean, middle])
        assert bounds[0] - 0.35 <= pooled().usual_gain(one.setting).mean <= bounds[1] + 0.35


def test_the_order_of_rows_does_not_matter() -> None:
    again = fit(comparisons()[::-1])
    for situation in (NECK, BACKBONE):
        assert again.gain(situation).mean == pytest.approx(pooled().gain(situation).mean, abs=1e-6)


def plain_likelihood(rows: tuple[PublishedComparison, ...], spreads: dict[str, float]) -> float:
    """The restricted likelihood's logarithm, from the covariance of the rows."""
    extent = np.array([math.sqrt(one.situation.end - one.situation.begin) for one in rows])
    depth = np.array([(one.situation.begin + one.situation.end) / 2 - 0.5 for one in rows])
    shared = SLOPE_SD**2 * np.outer(depth, depth)
    for name, level_of in LEVELS.items():
        levels = [level_of(one) for one in rows]
        shared += spreads[name] ** 2 * np.array([[a == b for a in levels] for b in levels])
    noise = [(one.error or 0.0) ** 2 + spreads["rest"] ** 2 for one in rows]
    covariance = shared * np.outer(extent, extent) + np.diag(noise)
    gain = np.array([one.gain for one in rows])
    of_mean, of_gain = np.linalg.solve(covariance, np.stack([extent, gain], axis=1)).T
    information = float(extent @ of_mean)
    misfit = float(gain @ of_gain) - float(extent @ of_gain) ** 2 / information
    determinants = float(np.linalg.slogdet(covariance)[1]) + math.log(information)
    penalty = sum(math.log(sd) - sd / PENALTY_SD for sd in spreads.values())
    return penalty - (determinants + misfit) / 2


def test_no_other_spread_is_more_likely() -> None:
    rows = fitted_pairs(comparisons())
    spreads = pooled().spreads
    best = plain_likelihood(rows, spreads)
    for name in SPREADS:
        for factor in (STEPS[-1], 1 / STEPS[-1]):
            other = plain_likelihood(rows, spreads | {name: factor * spreads[name]})
            assert other < best + 1e-9


def test_a_fit_uses_no_threads() -> None:
    """Beside other work, those of a BLAS took 2 to 15 s of the processor's time for 0.1 s of
    work.
    """
    code = (
        "import time; from research.evidence.pooling import comparisons, fit;"
        "began = time.process_time() - time.thread_time(); fit(comparisons());"
        "print(time.process_time() - time.thread_time() - began)"
    )
    env = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert float(ran.stdout) < 0.1

"""The analysis of the trial: what it makes of rows whose truth is known, and of any part of them."""

from __future__ import annotations

import csv
import io
import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.means import Floats, means
from research.trial import analysis, gains
from research.trial.expected import expectations
from research.trial.gains import (
    FULL,
    HELPS,
    HURTS,
    MEAN,
    NETWORKS,
    PLACE,
    PLACED,
    PLACEMENTS,
    QUARTER,
    WIDER,
    Trial,
)
from research.trial.picture import figure
from research.trial.table import (
    BARE,
    PROBLEMS,
    SCHEDULES,
    SEEDS,
    LatencyRatio,
    Row,
    everywhere,
    planned_networks,
)

CELL = ("seed", "problem", "network", "schedule")
ALL_CELLS = list(itertools.product(map(str, SEEDS), PROBLEMS, planned_networks(), SCHEDULES))
SHAPE = (len(PROBLEMS), 2, len(NETWORKS), len(SEEDS))
WIDTH_RATIOS = dict(zip(WIDER, (1.2, 1.5, 2.0), strict=True))


def truth() -> Floats:
    """No network differs from the bare one: (problems, schedules, networks), in points."""
    return np.zeros(SHAPE[:-1])


def made(effects: Floats, *, noise: float = 1.0, draw: int = 0) -> Trial:
    """All cells. The seed has a level of its own, and a module's noise is partly that of the seed,
    which both schedules share.
    """
    rng = np.random.default_rng([draw, 1])
    level = 5 * rng.standard_normal((len(PROBLEMS), 1, 1, len(SEEDS)))
    shared = rng.standard_normal((SHAPE[0], 1, *SHAPE[2:]))
    own = rng.standard_normal(SHAPE)
    points = 60 + effects[..., None] + level + noise * (0.6 * shared + 0.8 * own)
    accuracy = np.round(points / 100, 5)
    ratios = {network: 1.0 + 0.02 * PLACE[network] for network in PLACEMENTS} | WIDTH_RATIOS
    return Trial(
        {"accuracy": accuracy, "brier": 1 - accuracy, "loss": 2 - 2 * accuracy},
        {network: LatencyRatio(ratio, ratio, ratio) for network, ratio in ratios.items()},
    )


def effects_of(problem: str, schedule: int, points: dict[str, float]) -> Floats:
    effects = truth()
    for network, value in points.items():
        effects[list(PROBLEMS).index(problem), schedule, PLACE[network]] = value
    return effects


def test_planted_gains_and_losses_are_found_and_little_else() -> None:
    planted = dict.fromkeys(PLACEMENTS[:10], 4.0)
    planted |= dict.fromkeys(PLACEMENTS[10:15], -4.0)
    trial = made(effects_of("digits", FULL, planted))
    verdicts = {network: trial.verdict("digits", network) for network in PLACEMENTS}
    assert all(verdicts[network] == HELPS for network in PLACEMENTS[:10])
    assert all(verdicts[network] == HURTS for network in PLACEMENTS[10:15])
    others = [trial.verdict(problem, n) for problem in PROBLEMS for n in PLACEMENTS[15:]]
    assert np.count_nonzero(others) <= 3
    gain = trial.gain("digits", PLACEMENTS[0])
    assert gain is not None
    assert abs(gain.mean - 4.0) < gain.half * 1.5
    mean = trial.gain(MEAN, PLACEMENTS[0])
    assert mean is not None
    assert abs(mean.mean - 1.0) < mean.half * 1.5


def test_where_nothing_differs_one_trial_in_twenty_says_so() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((600, 1 + len(PLACEMENTS), 4 * 8)).astype(np.float64)
    found = means((scores[:, 1:] - scores[:, :1]).reshape(600, len(PLACEMENTS), 4, 8))
    false = [np.count_nonzero(gains.signs(found[number])) > 0 for number in range(600)]
    assert np.mean(false) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_of_what_is_shown_at_most_five_percent_is_false() -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((300, 1 + len(PLACEMENTS), 4, 8))
    scores[:, 1:20] += 2.0
    found = means(scores[:, 1:] - scores[:, :1])
    signs = np.array([gains.signs(found[number]) for number in range(300)])
    true = (signs[:, :19] == HELPS).sum(axis=(1, 2))
    false = np.count_nonzero(signs[:, 19:], axis=(1, 2))
    assert true.mean() > 0.7 * 19 * 4
    assert np.mean(false / np.maximum(true + false, 1)) < 0.055


def test_what_the_first_seeds_show_is_judged_by_the_others() -> None:
    nothing = made(truth()).replication
    assert nothing is not None
    assert nothing.best_first > 0.5
    assert abs(nothing.best_later) < 0.5
    planted = np.repeat(effects_of("cifar", FULL, {PLACEMENTS[3]: 9.0})[:1], 4, axis=0)
    found = made(planted, noise=0.5).replication
    assert found is not None
    assert found.listed >= 4
    assert found.held >= 4
    assert found.best_first == pytest.approx(9.0, abs=0.8)
    assert found.best_later == pytest.approx(9.0, abs=0.8)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_noise_does_not_lower_the_correlation_of_quarter_and_full(correlation: float) -> None:
    rng = np.random.default_rng(2)
    said = []
    errors = []
    for draw in range(30):
        full = rng.standard_normal((len(PROBLEMS), len(NETWORKS)))
        rest = rng.standard_normal(full.shape)
        quarter = correlation * full + np.sqrt(1 - correlation**2) * rest
        trial = made(np.stack([full, quarter], axis=1), noise=1.4, draw=draw)
        for problem in PROBLEMS:
            agreement = trial.agreement(problem)
            assert agreement is not None
            said.append(agreement.correlation)
            errors.append(agreement.error)
    assert np.mean(said) == pytest.approx(correlation, abs=0.05)
    assert np.mean(errors) == pytest.approx(np.std(said), rel=0.35)


def test_a_module_that_collapses_does_not_make_the_correlation() -> None:
    rng = np.random.default_rng(4)
    effects = rng.standard_normal((len(PROBLEMS), 2, len(NETWORKS)))
    effects[:, :, [PLACE[everywhere("sge")], PLACE["stage3=sge"]]] = -30.0
    trial = made(effects, noise=0.5)
    all_modules = trial.agreement("cifar")
    others = trial.agreement("cifar", without="sge")
    assert all_modules is not None
    assert others is not None
    assert all_modules.correlation > 0.9
    assert abs(others.correlation) < 0.4


@pytest.mark.parametrize("verdict", [HELPS, HURTS])
def test_what_the_quarter_shows_stays_is_open_or_turns(verdict: float) -> None:
    effects = truth()
    effects[0, QUARTER, PLACED[:12]] = 6.0 * verdict
    effects[0, FULL, PLACED[:3]] = 6.0 * verdict
    effects[0, FULL, PLACED[8:12]] = -6.0 * verdict
    fate = made(effects, noise=0.5).fate(["cifar"], verdict)
    assert (fate.stay, fate.turn) == (3, 4)
    assert fate.open - 5 == fate.shown - 12
    assert 0 <= fate.shown - 12 <= 2


def test_a_module_is_compared_with_the_width_of_its_latency() -> None:
    """Larger networks gain 10 points for each time of the bare network's latency."""
    effects = truth()
    for network, ratio in WIDTH_RATIOS.items():
        effects[:, :, PLACE[network]] = 10 * (ratio - 1)
    effects[:, :, PLACED] = 5.0
    trial = made(effects, noise=1e-3)
    for network in PLACEMENTS:
        against = trial.against_larger.at(0, FULL, PLACE[network])
        assert against is not None
        slower = min(trial.latencies[network].ratio, 2.0) - 1
        assert against.mean == pytest.approx(5 - 10 * slower, abs=0.1)
    unmeasured = Trial(trial.scores, {})
    assert np.isnan(unmeasured.against_larger.mean).all()


def test_expectations_are_judged_by_the_figures() -> None:
    effects = truth()
    effects[:3, :, [PLACE[everywhere("se")], PLACE[everywhere("eca")]]] = 4.0
    effects[:3, QUARTER, PLACE[everywhere("eca")]] = -4.0
    effects[3, FULL, PLACE["stage3=gc"]] = 3.0
    few, little, brief, larger = expectations(made(effects, noise=0.4))
    assert few.held is True
    assert "2 of 24" in few.figure
    assert little.held is False
    assert "stage3=gc" in little.figure
    assert "3 of 4 at every stage" in brief.figure
    assert larger.held is not None


def rows_of(kept: list[int], seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    accuracy = rng.uniform(0.2, 0.9, len(kept)).round(2).tolist()
    brier = rng.choice([0.5, 0.6, np.nan], len(kept)).tolist()
    loss = rng.choice([1.5, 1.6, np.inf], len(kept)).tolist()
    return [
        {
            **dict(zip(CELL, ALL_CELLS[number], strict=True)),
            "accuracy": str(accuracy[row]),
            "brier": str(brier[row]),
            "loss": str(loss[row]),
        }
        for row, number in enumerate(kept)
    ]


def words(page: str) -> int:
    """Those that a reader reads, as the tests of the pages count them."""
    read = re.sub(r"\]\([^)]*\)", "]", page).split()
    return sum(re.search(r"\w", word) is not None for word in read)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_part_of_the_rows_has_a_page_that_says_what_is_missing(data: st.DataObject) -> None:
    """Whatever was trained first, and whatever is missing of it."""
    upto = data.draw(st.integers(0, len(ALL_CELLS)))
    step = data.draw(st.sampled_from([1, 1, 2, 7]))
    order = (
        range(upto) if data.draw(st.booleans()) else range(len(ALL_CELLS) - upto, len(ALL_CELLS))
    )
    kept = set(order[::step]) - data.draw(st.sets(st.integers(0, len(ALL_CELLS) - 1), max_size=9))
    trial = gains.read(rows_of(sorted(kept), data.draw(st.integers(0, 9))))
    said = analysis.page(trial)
    assert f"{len(kept):,} of 3,904 trainings are done" in said
    assert words(said) <= 400
    assert "nan" not in said
    assert "nan" not in figure(trial)
    assert "nan" not in analysis.table(trial)
    assert len(list(expectations(trial))) == 4
    if len({ALL_CELLS[number][0] for number in kept}) < 2:
        assert "- **Answer**: Not known yet" in said
        assert np.isnan(trial.verdicts).all()
    assert (len(kept) == len(ALL_CELLS)) == ("So far" not in said and trial.whole_seeds == 8)


def test_a_seed_counts_if_the_figures_own_cells_are_there() -> None:
    trial = made(truth())
    accuracy = trial.scores["accuracy"].copy()
    accuracy[1, FULL, PLACE["stage3=se"], 2] = np.nan
    part = Trial({**trial.scores, "accuracy": accuracy}, {})
    seeds = [part.gain(p, "stage3=se") for p in ("cifar", "fashion", MEAN)]
    assert [gain.seeds for gain in seeds if gain is not None] == [8, 7, 7]
    other = part.gain("fashion", "stage3=eca")
    assert other is not None
    assert other.seeds == 8
    assert part.whole_seeds == 7


def complete() -> Trial:
    rng = np.random.default_rng(3)
    effects = truth()
    effects[:] = 1.5 * rng.standard_normal(effects.shape)
    effects[:, :, PLACE[BARE]] = 0.0
    return made(effects)


def test_the_pages_numbers_are_the_tables() -> None:
    trial = complete()
    said = analysis.page(trial)
    table = list(csv.DictReader(io.StringIO(analysis.table(trial))))
    assert len(table) == 60 * 5 * 2
    full = [row for row in table if row["schedule"] == "full"]
    for problem in PROBLEMS:
        verdicts = [row["verdict"] for row in full if row["problem"] == problem]
        counts = [verdicts.count(v) for v in ("helps", "hurts", "no difference shown")]
        assert f"| {problem} | 8 | {' | '.join(map(str, counts))} |" in said
    means_ = {row["network"]: row for row in full if row["problem"] == MEAN}
    highest = [row for row in means_.values() if row["network"] in PLACEMENTS]
    highest.sort(key=lambda row: -float(row["gain"]))
    lines = re.findall(
        r"^\| (\w+), (every|last) stage \| (\S+) ± (\S+) \| .* \|$", said, re.MULTILINE
    )
    assert len(lines) == 5
    for line, row in zip(lines, [*highest[:3], *highest[-2:]], strict=True):
        module, place, gain, half = line
        network = everywhere(module) if place == "every" else f"stage3={module}"
        assert row["network"] == network
        assert float(gain) == pytest.approx(float(row["gain"]), abs=0.006)
        assert float(half) == pytest.approx(float(row["high"]) - float(row["gain"]), abs=0.006)


def test_brier_score_and_log_loss_have_the_same_tables() -> None:
    """They are made of the accuracy here, so they say the same with the other sign."""
    for row in csv.DictReader(io.StringIO(analysis.table(complete()))):
        assert row["brier_verdict"] == row["loss_verdict"] == row["verdict"]
        assert 100 * float(row["brier"]) == pytest.approx(-float(row["gain"]), abs=0.002)
        assert row["latency_ratio"] == f"{float(row['latency_ratio']):.5f}"


def test_a_complete_page_leaves_nothing_open() -> None:
    said = analysis.page(complete())
    assert words(said) <= 400
    assert "not known yet" not in said.lower()
    assert "So far" not in said


def test_the_figure_has_a_dot_for_each_gain() -> None:
    legend = 3
    assert figure(complete()).count("<circle") == legend + 5 * (len(NETWORKS) - 1)


def test_the_kept_page_figure_and_table_are_made_of_the_kept_rows() -> None:
    trial = gains.read()
    again = "run python -m research.trial.analysis"
    assert analysis.PAGE.read_text("utf-8") == analysis.page(trial), again
    assert analysis.PICTURE.read_text("utf-8") == figure(trial), again
    assert analysis.TABLE.read_text("utf-8") == analysis.table(trial), again

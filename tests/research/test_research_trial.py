"""The table of the trial of all modules, and the problems that samplers are compared with on it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.problems import Problem, trial_problems
from benchmarks.search import Job, judged, search
from nas_attn.attention.catalogue import ROWS
from nas_attn.errors import DataError
from research.trial.table import MODULES as TRIED
from research.trial.table import (
    PROBLEMS,
    SCHEDULES,
    SEEDS,
    Row,
    everywhere,
    kept_rows,
    planned_networks,
    read_trial,
)

MODULES = ("se", "eca", "cbam", "simam", "gc")
GAIN = {"se": 2.0, "eca": 1.0, "cbam": -1.0, "simam": 0.5, "gc": 0.0}


def rows(seeds: int) -> list[Row]:
    """Cells of the bare network and some modules, with a known gain at the last stage."""
    rng = np.random.default_rng(0)
    made: list[Row] = []
    gains = {"none": 0.0}
    for module in MODULES:
        gains[f"stage3={module}"] = GAIN[module]
        gains[everywhere(module)] = GAIN[module] - 0.5
    for network, gain in gains.items():
        for seed in range(seeds):
            right = rng.random(1000) < 0.6 + gain / 100
            made.append(
                {
                    "problem": "cifar",
                    "network": network,
                    "schedule": "full",
                    "seed": str(seed),
                    "accuracy": str(right.mean()),
                    "brier": str(1 - right.mean()),
                    "loss": "",
                }
            )
    return made


def test_the_trial_is_as_large_as_planned_and_its_networks_can_be_built_and_were_timed() -> None:
    assert len(PROBLEMS) * len(SCHEDULES) * len(SEEDS) * len(planned_networks()) == 3904
    assert set(TRIED) <= set(ROWS)
    assert np.isfinite(read_trial("cifar", rows=[]).step).all()


def test_what_is_there_is_read_and_what_is_missing_is_said() -> None:
    table = read_trial("cifar", rows=rows(3))
    network = table.networks.index("stage3=se")
    assert np.isfinite(table.accuracy[network]).tolist() == [True] * 3 + [False] * 5
    assert 0.5 < table.accuracy[network, 1] < 0.7
    assert table.brier[network, 1] == 1 - table.accuracy[network, 1]
    assert np.isnan(table.loss[network]).all()
    assert f"{3 * 11} of {len(table.networks) * 8} cells" in table.completeness
    assert table.completeness.startswith("0 of ")
    with pytest.raises(DataError, match="fashion"):
        read_trial("mnist")
    with pytest.raises(DataError, match="quarter"):
        read_trial("cifar", "half")


def test_the_kept_rows_are_read() -> None:
    for schedule in ("full", "quarter"):
        table = read_trial("cifar", schedule)
        kept = [row for row in kept_rows() if row["schedule"] == schedule]
        assert table.trained == table.accuracy.size == len(kept) // len(PROBLEMS)


def test_samplers_search_in_an_incomplete_trial_that_says_so() -> None:
    (problem,) = trial_problems(0, [read_trial("cifar", rows=rows(4))])
    assert isinstance(problem, Problem)
    assert "incomplete" in problem.name
    assert len(problem.codes) == 2 * (1 + len(MODULES))
    places, accuracies = search(problem, Job("trials", "placement", 0, 8))
    regrets = judged(problem, places, accuracies)
    assert len(set(places.tolist())) == 8
    assert all(np.isfinite(list(regrets.values())))
    (said,) = trial_problems(0, [read_trial("cifar", rows=rows(1))])
    assert isinstance(said, str)
    assert "cells" in said


def test_a_search_by_optunas_defaults_counts_a_repeated_placement_once() -> None:
    (problem,) = trial_problems(0, [read_trial("cifar", rows=rows(4))])
    assert isinstance(problem, Problem)
    places, accuracies = search(problem, Job("trials", "optuna", 0, 12))
    assert len(places) == 12
    assert len(set(places.tolist())) < 12
    once = sorted(dict(zip(places, accuracies, strict=True)).items())
    regrets = judged(problem, places, accuracies)
    alone = judged(problem, np.array([p for p, _ in once]), np.array([v for _, v in once]))
    assert regrets["raw"] == alone["raw"]

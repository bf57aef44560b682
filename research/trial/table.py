"""The trial's results as a table: accuracies and, per image, what was right, by network and seed.

    from research.trial.table import read_trial
    table = read_trial("cifar", "full")
    print(table.completeness)                    # 19 of 61 networks with all 8 seeds, …
    table.accuracy[table.networks.index("stage3=se")]

Cells that are not trained yet are NaN. Loads no torch.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row
from nas_attn.errors import DataError
from research.trial.cells import HERE, SEEDS, finished_rows, networks
from research.trial.plan import DEAR, PROBLEMS

Floats = NDArray[np.float64]
METRICS = ("accuracy", "brier", "loss")
LATENCIES = HERE / "latency.csv"
"""What `research.trial.latency` has measured."""


@dataclass(frozen=True)
class LatencyRatio:
    """A network's latency over that of the bare one, with a 95 % interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class TrialTable:
    """One problem and schedule of the trial."""

    problem: str
    schedule: str
    networks: tuple[str, ...]
    """All that are planned, in notation: the bare one (`none`) first."""
    seeds: tuple[int, ...]
    accuracy: Floats
    """(networks, seeds) share of the test images that is right; NaN: not trained yet."""
    brier: Floats
    """(networks, seeds) Brier score on the test images; NaN: not trained yet, or diverged."""
    loss: Floats
    """(networks, seeds) log-loss on the test images, nats; NaN: not trained yet, or diverged."""
    right: dict[tuple[str, int], NDArray[np.bool_]]
    """(network, seed) -> for each test image whether it is right; of trained cells."""
    step: Floats
    """(networks,) time of a training step over that of the bare backbone; NaN: not timed."""

    @property
    def trained(self) -> int:
        """Cells that have a row."""
        return int(np.isfinite(self.accuracy).sum())

    @property
    def completeness(self) -> str:
        """How much of the plan is there, as a sentence's beginning."""
        whole = int(np.isfinite(self.accuracy).all(axis=1).sum())
        return (
            f"{whole} of {len(self.networks)} networks with all {len(self.seeds)} seeds,"
            f" {self.trained} of {self.accuracy.size} cells"
        )


def read_trial(
    problem: str, schedule: str = "full", rows: Iterable[Row] | None = None
) -> TrialTable:
    """The cells that are there. Raises DataError: there is no such problem or schedule.

    Args:
        rows: in the place of the problem's file.
    """
    if problem not in PROBLEMS:
        raise DataError(f"'{problem}' is no problem of the trial: {', '.join(PROBLEMS)}")
    schedules = PROBLEMS[problem].schedules
    if schedule not in schedules:
        raise DataError(f"'{schedule}' is no schedule of the trial: {', '.join(schedules)}")
    planned = planned_networks()
    places = {network: place for place, network in enumerate(planned)}
    scores = {metric: np.full((len(planned), len(SEEDS)), np.nan) for metric in METRICS}
    right: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for row in finished_rows(problem) if rows is None else rows:
        if row["schedule"] != schedule or row["network"] not in places:
            continue
        for metric, of_cells in scores.items():
            of_cells[places[row["network"]], row["seed"]] = row.get(metric, np.nan)
        bits = np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), dtype=np.uint8))
        right[row["network"], row["seed"]] = bits.astype(bool)
    return TrialTable(
        problem=problem,
        schedule=schedule,
        networks=planned,
        seeds=tuple(SEEDS),
        right=right,
        step=_steps(planned),
        **scores,
    )


def planned_networks() -> tuple[str, ...]:
    """All networks of the trial, in notation: the bare one first, then the larger ones."""
    return tuple(network for network in networks() if network not in DEAR)


def read_latencies(path: Path = LATENCIES) -> dict[str, LatencyRatio]:
    """Network -> latency ratio, of those that are measured; none where there is no file."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as lines:
        return {
            row["network"]: LatencyRatio(float(row["ratio"]), float(row["low"]), float(row["high"]))
            for row in csv.DictReader(lines)
        }


def _steps(planned: Iterable[str]) -> Floats:
    with (HERE / "costs.csv").open(encoding="utf-8", newline="") as lines:
        steps = {row["network"]: float(row["step"]) for row in csv.DictReader(lines)}
    return np.array([steps.get(network, np.nan) for network in planned])

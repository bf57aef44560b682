"""The trial's plan, and its results as a table: accuracies by network and seed.

    from research.trial.table import read_trial
    table = read_trial("cifar", "full")
    print(table.completeness)                    # 61 of 61 networks with all 8 seeds, …
    table.accuracy[table.networks.index("stage3=se")]

Cells that are not trained are NaN. Loads no torch. The programs that trained and timed the networks
stand in commit 1f0a14c8: `research/trial/run.py`, `latency.py`, `costs.py`.
"""

from __future__ import annotations

import csv
import functools
import io
import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.errors import DataError

Floats = NDArray[np.float64]
Row = dict[str, str]
"""Column -> its text."""
HERE = Path(__file__).parent
METRICS = ("accuracy", "brier", "loss")
BARE = "none"
WIDTHS = (10, 12, 16)
"""Channels of the larger networks' first stage; the bare backbone has 8."""
SEEDS = range(8)
SCHEDULES = ("full", "quarter")
"""As long as the bare backbone needs; a training of its own with a quarter of that."""
MODULES = (
    "se",
    "eca",
    "ese",
    "nam",
    "srm",
    "gct",
    "gc",
    "cbam",
    "bam",
    "gam",
    "simam",
    "sge",
    "scse",
    "triplet",
    "ema",
    "shuffle",
    "mlca",
    "psa",
    "ge",
    "lska",
    "lsk",
    "sk",
    "caa",
    "cpca",
    "coord",
    "ela",
    "scsa",
    "sdpa",
    "mhsa",
    "dwconv",
    "conv",
)
"""The catalogue before the first run: what has joined it since is not of the trial."""
NO_ATTENTION = ("dwconv", "conv")
"""Controls among the modules."""
LAST = "stage3"
STAGES = ("stage1", "stage2", LAST)


@dataclass(frozen=True)
class Problem:
    """Data and training."""

    name: str
    epochs: int
    """Of the full training: as long as the bare backbone needs (research/notes/trials.md)."""
    pretrained: bool = False
    """Fine-tuned from a backbone that is trained on other classes, one for each seed."""


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("cifar", 40),
        Problem("fashion", 40),
        Problem("digits", 40),
        Problem("transfer", 20, pretrained=True),
    )
}


def everywhere(module: str) -> str:
    """The module at every stage, with its default knobs of the day of the plan."""
    return " ".join(f"{stage}={module}" for stage in STAGES)


DEAR = frozenset(everywhere(module) for module in ("ema", "cpca", "sdpa", "lsk", "mhsa"))
"""Networks that are left out: a step takes more than 3 times the bare backbone's (networks.csv)."""


def planned_networks() -> tuple[str, ...]:
    """All networks of the trial, in notation: the bare one, the larger ones, then each module at
    every stage and at the last one.
    """
    found = [BARE, *(f"backbone=resnet8(width={width})" for width in WIDTHS)]
    for module in MODULES:
        found += [everywhere(module), f"{LAST}={module}"]
    return tuple(network for network in found if network not in DEAR)


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
    """(networks, seeds) share of the test images that is right; NaN: not trained."""
    brier: Floats
    """(networks, seeds) Brier score on the test images; NaN: not trained, or diverged."""
    loss: Floats
    """(networks, seeds) log-loss on the test images, nats; NaN: not trained, or diverged."""
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


@functools.cache
def kept_rows() -> tuple[Row, ...]:
    """All finished cells, a row each."""
    text = lzma.decompress((HERE / "rows.csv.xz").read_bytes()).decode()
    return tuple(csv.DictReader(io.StringIO(text)))


def read_trial(
    problem: str, schedule: str = "full", rows: Iterable[Row] | None = None
) -> TrialTable:
    """The cells that are there. Raises DataError: there is no such problem or schedule.

    Args:
        rows: in the place of the kept ones.
    """
    if problem not in PROBLEMS:
        raise DataError(f"'{problem}' is no problem of the trial: {', '.join(PROBLEMS)}")
    if schedule not in SCHEDULES:
        raise DataError(f"'{schedule}' is no schedule of the trial: {', '.join(SCHEDULES)}")
    planned = planned_networks()
    places = {network: place for place, network in enumerate(planned)}
    scores = {metric: np.full((len(planned), len(SEEDS)), np.nan) for metric in METRICS}
    for row in kept_rows() if rows is None else rows:
        is_of_table = row["problem"] == problem and row["schedule"] == schedule
        if not is_of_table or row["network"] not in places:
            continue
        for metric, of_cells in scores.items():
            of_cells[places[row["network"]], int(row["seed"])] = float(row[metric] or "nan")
    return TrialTable(
        problem=problem,
        schedule=schedule,
        networks=planned,
        seeds=tuple(SEEDS),
        step=_steps(planned),
        **scores,
    )


def read_latencies() -> dict[str, LatencyRatio]:
    """Network -> latency ratio, of those that were measured."""
    return {
        row["network"]: LatencyRatio(float(row["ratio"]), float(row["low"]), float(row["high"]))
        for row in _timed()
        if row["ratio"]
    }


def _timed() -> list[Row]:
    """Each network with the time of its training step and its latency, where they were measured."""
    with (HERE / "networks.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _steps(planned: Iterable[str]) -> Floats:
    steps = {row["network"]: float(row["step"]) for row in _timed() if row["step"]}
    return np.array([steps.get(network, np.nan) for network in planned])

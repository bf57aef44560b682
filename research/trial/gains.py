"""What the rows of the trial say, as numbers: points 1 to 7 of research/notes/trials.md's analysis.

Arrays have the axes problem, schedule, network, seed. The problems are those of the plan and, last,
the mean over them. NaN: not known yet. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from research.means import FEWEST_SEEDS, Floats, Mean, Means, discoveries, means
from research.trial.table import (
    BARE,
    LAST,
    METRICS,
    MODULES,
    NO_ATTENTION,
    PROBLEMS,
    SCHEDULES,
    SEEDS,
    WIDTHS,
    LatencyRatio,
    Row,
    everywhere,
    planned_networks,
    read_latencies,
    read_trial,
)

NETWORKS = planned_networks()
PLACE = {network: place for place, network in enumerate(NETWORKS)}
WIDER = tuple(f"backbone=resnet8(width={width})" for width in WIDTHS)
PLACEMENTS = tuple(network for network in NETWORKS if network not in (BARE, *WIDER))
"""Modules, and convolutions placed like them."""
COLLAPSED = "sge"
"""The module whose losses, of tens of points, hide what the others do (notes/trials.md)."""
FULL, QUARTER = range(len(SCHEDULES))
MEAN = "mean"
"""Of all problems."""
SUMMED = (*PROBLEMS, MEAN)
FIRST = slice(0, len(SEEDS) // 2)
LATER = slice(len(SEEDS) // 2, len(SEEDS))
"""The two halves of the seeds."""
HELPS, NOT_SHOWN, HURTS = 1.0, 0.0, -1.0
BETTER = {"accuracy": 1, "brier": -1, "loss": -1}
"""Sign of a difference that is an improvement."""
UNITS = {"accuracy": 100.0, "brier": 1.0, "loss": 1.0}
"""Accuracies are differences in points."""


def places(networks: Iterable[str]) -> list[int]:
    """Where they are on the axis of networks."""
    return [PLACE[network] for network in networks]


PLACED = places(PLACEMENTS)


def module_of(placement: str) -> str:
    """The module that a placement has at its stages."""
    return placement.rpartition("=")[2]


@dataclass(frozen=True)
class Replication:
    """What seeds 4 to 7 say of what seeds 0 to 3 have shown (full schedule)."""

    listed: int
    """Helps and hurts of the first half, of all problems."""
    held: int
    """Those of them with the same sign in the second half."""
    gains: int
    """All placements in all problems."""
    alike: int
    """Those of them whose gain has the same sign in both halves, shown or not."""
    best_first: float
    """Gain of each problem's best placement of the first half, there; mean over problems."""
    best_later: float
    """Gain of the same placements in the second half."""


@dataclass(frozen=True)
class Agreement:
    """How the gains of a quarter of the training go with those of the full one in a problem."""

    correlation: float
    """Over placements, without the noise of either; NaN: the halves of the seeds share nothing."""
    error: float
    """Its standard error, from leaving out module after module."""


@dataclass(frozen=True)
class Fate:
    """What becomes in full of the gains (or losses) that a quarter of the training shows."""

    shown: int
    """By the quarter."""
    stay: int
    """Shown in full, too."""
    open: int
    """Not shown in full, which does not mean that they are gone."""
    turn: int
    """The opposite is shown in full."""


@dataclass(frozen=True)
class Trial:
    """All scores that are there, and latencies."""

    scores: Mapping[str, Floats]
    """Metric -> scores, without the mean over problems."""
    latencies: Mapping[str, LatencyRatio]
    """Network -> its time over that of the bare backbone, of those that are measured."""

    @property
    def trained(self) -> int:
        """Cells that have a row."""
        return int(np.isfinite(self.scores["accuracy"]).sum())

    @property
    def planned(self) -> int:
        return self.scores["accuracy"].size

    @property
    def whole_seeds(self) -> int:
        """Seeds with which all is trained."""
        return len(whole(self.scores["accuracy"]))

    def differences(self, metric: str) -> Floats:
        """Of each network from the bare one, seed by seed."""
        scores = self.scores[metric]
        # of a diverged training, Brier score and log-loss are no numbers
        scores = UNITS[metric] * np.where(np.isfinite(scores), scores, np.nan)
        own = scores - scores[:, :, :1]
        return np.concatenate([own, own.mean(axis=0, keepdims=True)])

    @cached_property
    def differences_in_points(self) -> Floats:
        return self.differences("accuracy")

    @cached_property
    def gains(self) -> Means:
        """Point 1, and point 3 for the mean over problems: axes problem, schedule, network."""
        return means(self.differences_in_points)

    @cached_property
    def verdicts(self) -> Floats:
        """Point 2, of the accuracy."""
        return verdicts(self.gains, BETTER["accuracy"])

    @cached_property
    def ratios(self) -> Floats:
        """Latency ratio of each network."""
        latencies = {BARE: LatencyRatio(1.0, 1.0, 1.0), **self.latencies}
        return np.array([latencies[n].ratio if n in latencies else np.nan for n in NETWORKS])

    @cached_property
    def against_larger(self) -> Means:
        """Point 6: gain of each network minus that of a larger network of its latency."""
        return means(against_larger(self.differences_in_points, self.ratios))

    @cached_property
    def replication(self) -> Replication | None:
        """Point 4."""
        return replication(self.differences_in_points[:-1, FULL])

    def gain(self, problem: str, network: str, schedule: int = FULL) -> Mean | None:
        """Of accuracy in points; None: not known yet."""
        return self.gains.at(SUMMED.index(problem), schedule, PLACE[network])

    def verdict(self, problem: str, network: str) -> float:
        """In the full schedule; NaN: not known yet."""
        return float(self.verdicts[SUMMED.index(problem), FULL, PLACE[network]])

    def agreement(self, problem: str, without: str | None = None) -> Agreement | None:
        """Point 5 in a problem; `without`: a module that is left out."""
        compared = [network for network in PLACEMENTS if module_of(network) != without]
        of_problem = self.differences_in_points[SUMMED.index(problem)][:, places(compared)]
        modules = [module_of(network) for network in compared]
        return agreement(of_problem[QUARTER], of_problem[FULL], modules)

    def fate(self, problems: Sequence[str], verdict: float) -> Fate:
        """Point 5's significant gains (HELPS) or losses (HURTS), in these problems together."""
        rows = [SUMMED.index(problem) for problem in problems]
        of_placements = self.verdicts[rows][:, :, PLACED]
        return fate(of_placements[:, QUARTER], of_placements[:, FULL], verdict)


def read(rows: Iterable[Row] | None = None) -> Trial:
    """The trial as far as it has got.

    Args:
        rows: in the place of the kept ones.
    """
    kept = None if rows is None else list(rows)
    tables = []
    for problem in PROBLEMS:
        own = None if kept is None else [row for row in kept if row["problem"] == problem]
        tables.append([read_trial(problem, schedule, own) for schedule in SCHEDULES])
    scores = {
        metric: np.array([[getattr(table, metric) for table in pair] for pair in tables])
        for metric in METRICS
    }
    return Trial(scores, read_latencies())


def verdicts(gains: Means, better: int) -> Floats:
    """Whether a placement helps or hurts, with a false discovery rate of 5 % over the placements in
    all problems of a schedule; the means over problems are a family of their own.

    Larger networks and the bare one are no placements; theirs is NaN.
    """
    found = np.full(gains.p.shape, np.nan)
    last = len(SUMMED) - 1
    for schedule in range(len(SCHEDULES)):
        for problems in (range(last), [last]):
            family = np.ix_(problems, [schedule], PLACED)
            found[family] = signs(gains[family], better)
    return found


def signs(gains: Means, better: int = 1) -> Floats:
    """`HELPS`, `NOT_SHOWN` or `HURTS` of a family of tests; NaN: not known yet."""
    shown = np.where(discoveries(gains.p), np.sign(gains.mean) * better, NOT_SHOWN)
    return np.where(np.isfinite(gains.p), shown, np.nan)


def whole(values: Floats) -> list[int]:
    """Seeds, on the last axis, with which nothing is missing."""
    there = np.isfinite(values).reshape(-1, values.shape[-1]).all(axis=0)
    return [int(seed) for seed in np.flatnonzero(there)]


def halves(values: Floats) -> tuple[Floats, Floats] | None:
    """The whole seeds of the first and of the second half; None: one has fewer than two."""
    parts = []
    for half in (FIRST, LATER):
        own = values[..., half]
        parts.append(own[..., whole(own)])
    first, later = parts
    if min(first.shape[-1], later.shape[-1]) < FEWEST_SEEDS:
        return None
    return first, later


def replication(differences: Floats) -> Replication | None:
    """None: too few seeds have all placements.

    Args:
        differences: (problems, networks, seeds).
    """
    parts = halves(differences[:, PLACED])
    if parts is None:
        return None
    first, later = (means(part) for part in parts)
    listed = signs(first)
    held = (listed != NOT_SHOWN) & (np.sign(later.mean) == listed)
    best = first.mean.argmax(axis=1)
    rows = np.arange(len(best))
    return Replication(
        listed=int((listed != NOT_SHOWN).sum()),
        held=int(held.sum()),
        gains=first.mean.size,
        alike=int((np.sign(first.mean) == np.sign(later.mean)).sum()),
        best_first=float(first.mean[rows, best].mean()),
        best_later=float(later.mean[rows, best].mean()),
    )


def agreement(quarter: Floats, full: Floats, modules: Sequence[str]) -> Agreement | None:
    """Of gains (placements, seeds); None: too few seeds have all of them.

    Args:
        modules: of each placement.
    """
    parts = halves(np.stack([quarter, full]))
    if parts is None:
        return None
    averages = np.stack([part.mean(axis=-1) for part in parts])
    named = np.array(modules)
    left_out = [true_correlation(averages[:, :, named != one]) for one in np.unique(named)]
    count = len(left_out)
    error = float(np.sqrt((count - 1) * np.var(left_out)))
    return Agreement(float(np.clip(true_correlation(averages), -1, 1)), error)


def true_correlation(averages: Floats) -> float:
    """Correlation of the quarter's true gains with the full ones.

    A covariance between halves of the seeds has no noise in it, since no seed is in both; so even
    what a seed does to both schedules stays out.

    Args:
        averages: (half of the seeds, schedule, placement), with the quarter first.
    """
    (quarter_1, full_1), (quarter_2, full_2) = averages
    both = (_covariance(quarter_1, full_2) + _covariance(quarter_2, full_1)) / 2
    own = _covariance(quarter_1, quarter_2), _covariance(full_1, full_2)
    if min(own) <= 0:
        return float("nan")
    return both / float(np.sqrt(own[0] * own[1]))


def _covariance(first: Floats, second: Floats) -> float:
    return float(np.cov(first, second)[0, 1])


def fate(quarter: Floats, full: Floats, verdict: float) -> Fate:
    """Of verdicts of the same placements, where both are known.

    Args:
        verdict: HELPS or HURTS.
    """
    in_full = full[(quarter == verdict) & np.isfinite(full)]
    return Fate(
        shown=len(in_full),
        stay=int((in_full == verdict).sum()),
        open=int((in_full == NOT_SHOWN).sum()),
        turn=int((in_full == -verdict).sum()),
    )


def against_larger(differences: Floats, ratios: Floats) -> Floats:
    """Each network's gain minus that of the larger network of equal latency, seed by seed.

    The gain of a network between two widths is interpolated linearly in the latency. A network
    that is slower than all of them is compared with the slowest, and one that is faster than the
    bare one with that.

    Args:
        differences: (problems, schedules, networks, seeds).
        ratios: (networks,) latencies.
    """
    widths = places((BARE, *WIDER))
    if np.isnan(ratios[widths]).any():
        return np.full(differences.shape, np.nan)
    order = np.argsort(ratios[widths])
    shares = np.stack(
        [
            np.interp(ratios, ratios[widths][order], (order == width).astype(float))
            for width in range(len(widths))
        ],
        axis=1,
    )
    larger = np.einsum("nw,pswe->psne", shares, differences[:, :, widths])
    return np.where(np.isfinite(ratios)[:, None], differences - larger, np.nan)


def attention() -> list[str]:
    """The placements that are attention, in both places."""
    modules = [module for module in MODULES if module not in NO_ATTENTION]
    both = [network for one in modules for network in (everywhere(one), f"{LAST}={one}")]
    return [network for network in both if network in PLACE]

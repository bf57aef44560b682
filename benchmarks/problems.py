"""Problems whose truth is known: tables of placements, replayed with noise. Higher accuracy and
lower latency are better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.dominance import hypervolume_gains, non_dominated
from research.tables.read import fit, load
from research.trial.table import BARE, LAST, PROBLEMS, TrialTable, everywhere, read_trial

Floats = NDArray[np.float64]
LIMITS = np.linspace(0.1, 0.9, 9)
"""Quantiles of the table's latencies: the latency limits of the pick regret."""


@dataclass(frozen=True)
class Problem:
    """A table of N placements over S sites: all combinations of their choices."""

    name: str
    sites: Mapping[str, tuple[str, ...]]
    codes: NDArray[np.intp]
    """(N, S)"""
    truth: Floats
    """(N,) what a placement's accuracy is, in points."""
    latency: Floats
    noise: tuple[Floats, ...]
    """One (k,) per placement: what single runs may be off by, in points."""
    baselines: tuple[int, ...]
    """Rows that a study begins with: none, and each type everywhere."""
    index: Mapping[tuple[int, ...], int] = field(repr=False, compare=False)

    def row(self, params: Mapping[str, str]) -> int:
        """The placement with these choices."""
        return self.index[
            tuple(choices.index(params[site]) for site, choices in self.sites.items())
        ]

    def params(self, row: int) -> dict[str, str]:
        """Site -> choice."""
        return {
            site: choices[c]
            for (site, choices), c in zip(self.sites.items(), self.codes[row], strict=True)
        }

    def notation(self, row: int) -> str:
        """The placement as the program writes it."""
        return " ".join(f"{site}={choice}" for site, choice in self.params(row).items())

    def observe(self, row: int, seed: int) -> tuple[float, float]:
        """(accuracy of one run, latency): the same in every search with this seed."""
        off = self.noise[row]
        return float(
            self.truth[row] + off[np.random.default_rng([seed, row]).integers(len(off))]
        ), float(self.latency[row])

    # ---------------------------------------------------------------- regrets

    @cached_property
    def _points(self) -> Floats:
        return np.stack([-self.truth, self.latency], axis=1)

    @cached_property
    def _reference(self) -> tuple[float, float]:
        """Where the better half of the placements ends, and a little beyond the slowest."""
        return -float(np.median(self.truth)), 1.02 * float(self.latency.max())

    @cached_property
    def _best(self) -> float:
        return self._volume(self._points)

    @cached_property
    def _least(self) -> float:
        return self._volume(self._points[list(self.baselines)])

    def _volume(self, points: Floats) -> float:
        """That the points dominate below the reference: each in turn adds its own."""
        points = points[non_dominated(points)]
        reference = np.array(self._reference)
        rng = np.random.default_rng(0)
        added = [
            hypervolume_gains(points[[i]], points[:i], reference, rng)[0]
            for i in range(len(points))
        ]
        return float(sum(added))

    def front_regret(self, rows: NDArray[np.intp], believed: Floats) -> float:
        """Of the reported front's true hypervolume: 0, it is the true front's; 1, that of the
        baselines.

        Args:
            rows: placements that were run.
            believed: what the method takes their accuracies to be.
        """
        reported = rows[non_dominated(np.stack([-believed, self.latency[rows]], axis=1))]
        return (self._best - self._volume(self._points[reported])) / (self._best - self._least)

    def pick_regret(self, rows: NDArray[np.intp], believed: Floats) -> float:
        """Of the placement believed best below each of nine latency limits: 0, it is; 1, no better
        than the baselines.

        The sum over limits of what is missed, over that of what the best baseline (at least: the
        median placement) misses.
        """
        missed = possible = 0.0
        for limit in np.quantile(self.latency, LIMITS):
            best = self.truth[self.latency <= limit].max()
            usual = max(
                [self.truth[r] for r in self.baselines if self.latency[r] <= limit]
                + [np.median(self.truth)]
            )
            mine = self.latency[rows] <= limit
            missed += best - (
                self.truth[rows[mine][np.argmax(believed[mine])]] if mine.any() else usual
            )
            possible += best - usual
        return missed / possible


def make(
    name: str,
    sites: Mapping[str, tuple[str, ...]],
    codes: NDArray[np.intp],
    truth: Floats,
    latency: Floats,
    noise: tuple[Floats, ...],
) -> Problem:
    """A problem from its columns; its baselines are the placements with one choice everywhere."""
    index = {tuple(int(c) for c in row): i for i, row in enumerate(codes)}
    names = dict.fromkeys(choice for choices in sites.values() for choice in choices)
    uniform = [tuple(choices.index(name) for choices in sites.values()) for name in names]
    return Problem(
        name, sites, codes, truth, latency, noise, tuple(index[u] for u in uniform), index
    )


# ----------------------------------------------------------------------------------------
# NAS-Bench-201


STAND_INS = ("none", "se", "eca", "simam", "cbam")
"""What NAS-Bench-201's five operations are called here: names that placements have."""


def nasbench(path: Path, device: int, ratio: float, relabelled: int | None = None) -> Problem:
    """NAS-Bench-201 on CIFAR-10 as a stand-in: six edges are sites, five operations choices.

    Truth: the mean test accuracy. A run is off by a residual of its validation seeds, scaled so
    that the spread of the better half of the placements is `ratio` times the noise of one of them.

    Args:
        relabelled: seed of a permutation of the choices at each site, after which types share
            nothing.
    """
    with np.load(path) as file:
        codes = file["ops"].astype(np.intp)
        runs = file["cifar10_val_accuracy_seeds"].astype(float)
        truth = file["cifar10_test_accuracy"].astype(float)
        latency = file["device_latency_ms"][device].astype(float)
        device_name = str(file["device_names"][device])
    counts = (~np.isnan(runs)).sum(axis=1)
    residuals = (runs - np.nanmean(runs, axis=1, keepdims=True)) * np.sqrt(counts / (counts - 1))[
        :, None
    ]
    better = truth >= np.median(truth)
    scale = truth[better].std() / ratio / np.sqrt(np.nanmean(residuals[better] ** 2))
    noise = tuple(scale * row[~np.isnan(row)] for row in residuals)
    if relabelled is not None:
        rng = np.random.default_rng(relabelled)
        codes = np.stack([rng.permutation(len(STAND_INS))[column] for column in codes.T], axis=1)
    sites = {f"stage{i + 1}": STAND_INS for i in range(codes.shape[1])}
    kind = f"nb201 {device_name}" + ("" if relabelled is None else " relabelled")
    return make(f"{kind} {ratio:g}", sites, codes, truth, latency, noise)


# ---------------------------------------------------------------------------------------- made up

SITES, TYPES = 6, ("none", "se", "eca", "cbam", "ela")
BETWEEN_SITES = 0.25
"""Share of the truth's variance that is no sum over sites."""
SPREAD = 0.5
"""Standard deviation of the better half of the placements' truths, in points."""


def made_up(seed: int, ratio: float, *, shared: bool) -> Problem:
    """All placements of five types on six sites, whose truth and latency are drawn from `seed`.

    The truth is a sum over sites, and a quarter of its variance is effects of neighbouring sites. A
    module adds latency by its type, the more the larger its site's map is; `none` adds nothing.
    Noise is normal, as in `nasbench`.

    Args:
        shared: half of what a choice adds is its type's at all sites; else types share nothing,
            neither in accuracy nor in latency.
    """
    rng = np.random.default_rng([seed, shared])
    codes = np.indices((len(TYPES),) * SITES).reshape(SITES, -1).T.astype(np.intp)
    own, types = rng.standard_normal((SITES, len(TYPES))), rng.standard_normal(len(TYPES))
    effects = np.sqrt(0.5) * (own + types) if shared else own
    sums = effects[np.arange(SITES), codes].sum(axis=1)
    pairs = rng.standard_normal((SITES - 1, len(TYPES), len(TYPES)))
    both = pairs[np.arange(SITES - 1), codes[:, :-1], codes[:, 1:]].sum(axis=1)
    truth = sums / sums.std() + np.sqrt(BETWEEN_SITES / (1 - BETWEEN_SITES)) * both / both.std()
    prices = (
        rng.gamma(2.0, size=len(TYPES)) * np.ones((SITES, 1))
        if shared
        else rng.gamma(2.0, size=effects.shape)
    )
    prices[:, 0] = 0.0
    prices *= np.repeat([1.0, 0.5, 0.25], 2)[:, None]
    latency = 1 + 0.1 * prices[np.arange(SITES), codes].sum(axis=1)
    truth = 70 + SPREAD / truth[truth >= np.median(truth)].std() * truth
    noise = SPREAD / ratio * rng.standard_normal((len(codes), 8))
    sites = {f"stage{1 + i // 2}.block{1 + i % 2}": TYPES for i in range(SITES)}
    return make(
        f"{'shared' if shared else 'unshared'} {ratio:g}",
        sites,
        codes,
        truth,
        latency,
        tuple(noise),
    )


def pairs(seed: int, ratio: float) -> Problem:
    """Five types on five sites. The best placements need two choices at two sites, each of which is
    harmful alone.

    Everything else adds a little. Noise is normal; `ratio` as in `nasbench`.
    """
    rng = np.random.default_rng([seed, 2])
    codes = np.indices((len(TYPES),) * 5).reshape(5, -1).T.astype(np.intp)
    small = 0.15 * rng.standard_normal((5, len(TYPES)))
    truth = small[np.arange(5), codes].sum(axis=1)
    left, right = (int(site) for site in rng.choice(5, 2, replace=False))
    a, b = (int(kind) for kind in rng.integers(1, len(TYPES), 2))
    truth += np.where((codes[:, left] == a) & (codes[:, right] == b), 1.0, 0.0)
    truth -= np.where((codes[:, left] == a) ^ (codes[:, right] == b), 0.4, 0.0)
    return _drawn(f"pairs {ratio:g}", codes, truth, ratio, rng)


def two_pairs(seed: int, ratio: float) -> Problem:
    """Five types on five sites, and two pairs of choices that add 1.5 points together, while each
    of them alone takes half a point.
    """
    rng = np.random.default_rng([seed, 7])
    codes = np.indices((len(TYPES),) * 5).reshape(5, -1).T.astype(np.intp)
    small = 0.15 * rng.standard_normal((5, len(TYPES)))
    truth = small[np.arange(5), codes].sum(axis=1)
    sites = [int(site) for site in rng.choice(5, 4, replace=False)]
    for left, right in (sites[:2], sites[2:]):
        a, b = (int(kind) for kind in rng.integers(1, len(TYPES), 2))
        has_left = codes[:, left] == a
        has_right = codes[:, right] == b
        truth += np.where(has_left & has_right, 1.5, 0.0)
        truth -= np.where(has_left ^ has_right, 0.5, 0.0)
    return _drawn(f"two_pairs {ratio:g}", codes, truth, ratio, rng)


def sparse(seed: int, ratio: float) -> Problem:
    """Five types on six sites, of which a single choice at a single site matters."""
    rng = np.random.default_rng([seed, 3])
    codes = np.indices((len(TYPES),) * SITES).reshape(SITES, -1).T.astype(np.intp)
    site, kind = int(rng.integers(SITES)), int(rng.integers(1, len(TYPES)))
    return _drawn(f"sparse {ratio:g}", codes, 1.0 * (codes[:, site] == kind), ratio, rng)


def count(seed: int, ratio: float) -> Problem:
    """Five types on six sites. It matters how many sites have a module, which of them and what
    module hardly.

    The gain is largest at a drawn number of modules, and falls off like a parabola on either side
    of it.
    """
    rng = np.random.default_rng([seed, 7])
    codes = np.indices((len(TYPES),) * SITES).reshape(SITES, -1).T.astype(np.intp)
    best, number = int(rng.integers(1, SITES)), (codes > 0).sum(axis=1)
    small = 0.1 * rng.standard_normal((SITES, len(TYPES)))
    truth = small[np.arange(SITES), codes].sum(axis=1) - 1.5 * ((number - best) / SITES) ** 2
    return _drawn(f"count {ratio:g}", codes, truth, ratio, rng)


def heavy(seed: int, ratio: float) -> Problem:
    """Five types on six sites: few effects are large (Student's t, 2 degrees of freedom), and so
    are few errors of runs (3).
    """
    rng = np.random.default_rng([seed, 8])
    codes = np.indices((len(TYPES),) * SITES).reshape(SITES, -1).T.astype(np.intp)
    truth = rng.standard_t(2, size=(SITES, len(TYPES)))[np.arange(SITES), codes].sum(axis=1)
    truth *= SPREAD / truth[truth >= np.median(truth)].std()
    return _drawn(
        f"heavy {ratio:g}",
        codes,
        truth,
        ratio,
        rng,
        rng.standard_t(3, size=(len(codes), 8)) / np.sqrt(3),
    )


def _drawn(
    name: str,
    codes: NDArray[np.intp],
    effects: Floats,
    ratio: float,
    rng: np.random.Generator,
    errors: Floats | None = None,
) -> Problem:
    """A problem with these effects, whose noise is SPREAD / ratio points; what a type adds to the
    latency is drawn.

    `errors`: of runs, with standard deviation 1; None: normal ones.
    """
    prices = np.append(0.0, rng.gamma(2.0, size=len(TYPES) - 1))
    latency = 1 + 0.05 * prices[codes].sum(axis=1)
    noise = SPREAD / ratio * (rng.standard_normal((len(codes), 8)) if errors is None else errors)
    sites = {f"stage{i + 1}": TYPES for i in range(codes.shape[1])}
    return make(name, sites, codes, 70 + effects, latency, tuple(noise))


# ---------------------------------------------------------------------------------------- ImageNet

BRIEF_NOISE = 0.305
"""Points of top-1 by which brief trainings of one network differ, from the networks of the table
with three seeds.
"""
IMAGENET_DEVICES = ("a100", "rtx3090", "tpuv2")


def imagenet(path: Path, device: int, seed: int) -> Problem:
    """SE on or off at each of seven stages of MnasNet's space on ImageNet (Accel-NASBench), in
    front of a network drawn by `seed`.

    Truth and latency come from a fit to 5,138 trained networks: each stage's shape, SE at each
    stage, the square of the number of stages with SE (top-1 only). A run is off by what brief
    trainings are off by.
    """
    with np.load(path) as file:
        shape = np.stack([file[name] for name in ("expansion", "kernel", "layers")], axis=2).astype(
            int
        )
        se, top1 = file["se"].astype(float), file["top1"].astype(float)
        seconds = -np.log(file[f"images_per_s_{IMAGENET_DEVICES[device]}"].astype(float))
    kinds = [
        np.unique(stage @ np.array([100, 10, 1]), return_inverse=True)[1]
        for stage in shape.transpose(1, 0, 2)
    ]
    shapes = np.concatenate([np.eye(kind.max() + 1)[kind] for kind in kinds], axis=1)
    number = se.sum(axis=1, keepdims=True)
    gains = np.linalg.lstsq(np.concatenate((se, number**2, shapes), axis=1), top1, rcond=None)[0]
    timed = np.isfinite(seconds)
    times = np.linalg.lstsq(
        np.concatenate((se, shapes), axis=1)[timed], seconds[timed], rcond=None
    )[0]
    codes = np.indices((2,) * 7).reshape(7, -1).T.astype(np.intp)
    truth = codes @ gains[:7] + gains[7] * codes.sum(axis=1) ** 2
    base = shapes[np.random.default_rng([seed, 4]).integers(len(shapes))] @ gains[8:]
    noise = BRIEF_NOISE * np.random.default_rng([seed, 5]).standard_normal((len(codes), 16))
    sites = {f"stage{i + 1}": ("none", "se") for i in range(7)}
    name = f"imagenet {IMAGENET_DEVICES[device]}"
    return make(name, sites, codes, base + truth, np.exp(codes @ times[:7]), tuple(noise))


# --------------------------------------------------------------------------------------- own tables


def own_tables(folder: Path, seed: int) -> Iterator[Problem | str]:
    """The tables of research/tables as problems, each with a truth drawn anew from what the table
    leaves open.

    A run is off by what one search run is off by in the table, its seed's and its backbone's level
    aside. Of a table that cannot be used, a sentence that says why.
    """
    for path in sorted(folder.glob("*.npz")):
        table = load(path)
        sizes = [len(np.unique(column)) for column in table.choices.T]
        try:
            components = fit(table)
        except ValueError as error:
            yield f"{path.name}: {error}"
            continue
        if len(components.rows) < np.prod(sizes) or not np.isfinite(table.latency[:, 0]).all():
            yield (
                f"{path.name}: {len(components.rows)} of {np.prod(sizes)} placements are trained in"
                " two blocks and timed"
            )
            continue
        rng = np.random.default_rng([seed, len(path.name)])
        which = components.index[f"rung{table.rungs[-1]} accuracy"]
        truth = 100 * components.draw(rng).truth[:, which]
        off = 100 * components.run_noise[which] * rng.standard_normal((len(truth), 64))
        sites = {site: tuple(table.types) for site in table.sites}
        yield make(
            f"table {table.name}", sites, table.choices, truth, table.latency[:, 0], tuple(off)
        )


# ------------------------------------------------------------------------- the trial of all modules

FEWEST_SEEDS = 2
"""Of a network of the trial: its noise needs them."""
FEWEST_MODULES = 4
TRIAL_PLACES = ("everywhere", "last")


def trial_problems(
    seed: int, tables: Iterable[TrialTable] | None = None
) -> Iterator[Problem | str]:
    """The trial's problems: which module, and whether at every stage or at the last one only.

    The truth is drawn from what the seeds leave open, and a run is off by what one training is. The
    cost is the time of a training step. Of a table that is not far enough, a sentence that says so.
    """
    if tables is None:
        tables = (read_trial(problem) for problem in PROBLEMS)
    for table in tables:
        name = f"trial {table.problem}"
        modules = _tried_modules(table)
        if len(modules) < FEWEST_MODULES:
            yield (
                f"{name}: {len(modules)} modules are trained in both places with"
                f" {FEWEST_SEEDS} seeds, {FEWEST_MODULES} are needed ({table.completeness})"
            )
            continue
        if np.isnan(table.accuracy).any():
            name += " (incomplete)"
        yield _trial(name, table, modules, np.random.default_rng([seed, 9]))


def _tried_modules(table: TrialTable) -> list[str]:
    """Those that have a truth and a cost in both places, if the bare backbone has them."""
    enough = np.isfinite(table.accuracy).sum(axis=1) >= FEWEST_SEEDS
    enough &= np.isfinite(table.step)
    there = {network for network, able in zip(table.networks, enough, strict=True) if able}
    if BARE not in there:
        return []
    lasts = [network for network in table.networks if network.startswith(f"{LAST}=")]
    modules = [network.partition("=")[2] for network in lasts if network in there]
    return [module for module in modules if everywhere(module) in there]


def _trial(name: str, table: TrialTable, modules: list[str], rng: np.random.Generator) -> Problem:
    sites = {"module": (BARE, *modules), "place": TRIAL_PLACES}
    codes = np.indices((1 + len(modules), 2)).reshape(2, -1).T.astype(np.intp)
    networks = [BARE, BARE]
    for module in modules:
        networks += [everywhere(module), f"{LAST}={module}"]
    at = [table.networks.index(network) for network in networks]
    scores = 100 * table.accuracy[at]
    counts = np.isfinite(scores).sum(axis=1)
    means = np.nanmean(scores, axis=1)
    rest = scores - means[:, None]
    noise = math.sqrt(float(np.nansum(rest**2)) / float((counts - 1).sum()))
    drawn = noise / np.sqrt(counts) * rng.standard_normal(len(at))
    # The bare backbone is one network, wherever no module is.
    drawn[1] = drawn[0]
    off = noise * rng.standard_normal((len(at), 64))
    index = {tuple(int(code) for code in row): number for number, row in enumerate(codes)}
    baselines = (0, *range(2, len(at), 2))
    return Problem(name, sites, codes, means + drawn, table.step[at], tuple(off), baselines, index)


def enumerate_all(problem: Problem) -> Iterator[dict[str, str]]:
    """All placements, in a fixed order."""
    for combination in itertools.product(*problem.sites.values()):
        yield dict(zip(problem.sites, combination, strict=True))

"""The statistics of `analysis.fidelity`: Kendall's tau, its resampling, reliability, fronts recovered. numpy only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.front import non_dominated

Array = NDArray[np.float64]

RESAMPLES = 1000
PERMUTATIONS = 1000
SHUFFLES = 100
MOST_COMBINATIONS = 64
"""Choices of k of the seeds that are averaged over at most."""


def reliability(values: Array) -> float:
    """Share of the variance of one run that is difference between placements.

    From the variance components of placements x seeds; what a seed does to all placements alike does not count, as it
    leaves their order alone (the intraclass correlation ICC(3,1) of Shrout and Fleiss, 1979).

    Args:
        values: (placements, seeds).
    """
    between, noise = components(values)
    return between / (between + noise) if between + noise > 0 else 0.0


def spearman_brown(one: float, runs: int) -> float:
    """Reliability of the mean of `runs` runs from that of one."""
    return runs * one / (1 + (runs - 1) * one)


def seed_counts(seeds: int) -> list[int]:
    """Numbers of seeds to average: 1, 2, 4 and so on, and all."""
    return sorted({*(2**i for i in range(seeds.bit_length()) if 2**i <= seeds), seeds})


def orders(values: Array) -> Array:
    """Order of each row: signs of all differences, scaled to length one (0 where all are equal).

    Kendall's tau-b of two rows, ties in both taken into account, is the sum of the product of their orders; so is its mean
    over many rows, with the mean of their orders.

    Args:
        values: (n, P). What differs by rounding only is a tie.

    Returns:
        (n, P, P).
    """
    rounded = np.round(values, 12)
    order = np.sign(rounded[:, :, None] - rounded[:, None, :])
    length = np.sqrt((order * order).sum((1, 2), keepdims=True))
    scaled: Array = np.divide(order, length, out=np.zeros_like(order), where=length > 0)
    return scaled


def all_but_one(values: Array) -> Array:
    """(S, P): mean over all seeds but one."""
    left_out: Array = (values.sum(axis=1, keepdims=True) - values) / (values.shape[1] - 1)
    return left_out.T


def choices_of(seeds: int, k: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Every choice of k of the seeds (of more than MOST_COMBINATIONS, that many at random)."""
    choices = list(itertools.islice(itertools.combinations(range(seeds), k), 20_000))
    if len(choices) <= MOST_COMBINATIONS:
        return choices
    return [choices[i] for i in rng.choice(len(choices), MOST_COMBINATIONS, replace=False)]


def means_over(values: Array, choices: Sequence[tuple[int, ...]]) -> Array:
    """(choices, P): means over the seeds of each choice."""
    return np.array([values[:, list(choice)].mean(axis=1) for choice in choices])


def pull_of_own(values: Array, choices: Sequence[tuple[int, ...]], target: Array) -> Array:
    """How far each seed of a setting pulls its tau: the jackknife over the choices without it."""
    seeds = values.shape[1]
    if len(choices[0]) == seeds:
        choices = list(itertools.combinations(range(seeds), seeds - 1))
    taus = (orders(means_over(values, choices)) * target).sum((1, 2))
    without = [np.mean([t for t, choice in zip(taus, choices, strict=True) if s not in choice]) for s in range(seeds)]
    pull: Array = (1 - seeds) * np.array(without)
    return pull


def pull_of_reference(order: Array, targets: Array) -> Array:
    """How far each reference seed pulls a tau: `targets` are the orders of the means without it."""
    pull: Array = (1 - len(targets)) * (order * targets).sum((1, 2))
    return pull


class Draws:
    """Resampled placements and seeds, the same ones for all settings, so that settings can be compared in pairs.

    A placement brings its noise along, so resampling placements covers that; seeds add what they do to all placements
    together, by the jackknife's influence of each seed (resampling the values themselves would count noise three times).
    """

    def __init__(self, rng: np.random.Generator, placements: int) -> None:
        self._rng = rng
        times = rng.multinomial(placements, np.full(placements, 1 / placements), size=RESAMPLES).astype(float)
        pairs = times[:, :, None] * times[:, None, :]
        pairs[:, range(placements), range(placements)] = 0.0  # a placement drawn twice says nothing of its order
        pairs *= placements * (placements - 1) / np.maximum(pairs.sum((1, 2), keepdims=True), 1.0)
        self._pairs = pairs.reshape(RESAMPLES, -1)
        self._times: dict[tuple[str, int], Array] = {}

    def taus(self, products: Array, **influences: Array) -> Array:
        """(RESAMPLES,) resampled taus.

        Args:
            products: (P, P), whose sum is the tau.
            influences: (S,) per kind of seed: how far each pulls the tau.
        """
        taus: Array = self._pairs @ products.ravel()
        for kind, influence in influences.items():
            taus = taus + self._shares(kind, len(influence)) @ (influence - influence.mean())
        return taus

    def _shares(self, kind: str, seeds: int) -> Array:
        if (kind, seeds) not in self._times:
            self._times[kind, seeds] = self._rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
        return self._times[kind, seeds]


def interval(value: float, star: Array) -> tuple[float, float]:
    """95 %: the resampled spread about the value itself."""
    low, high = np.quantile(star - np.median(star), [0.025, 0.975])
    return max(-1.0, value + float(low)), min(1.0, value + float(high))


def chance_of(orders: Array, ranking: Array, rng: np.random.Generator) -> float:
    """Share of shuffled references with which some setting's tau is as high as the highest seen (one test for all)."""
    taus = np.einsum("nij,ij->n", orders, ranking)
    shuffled = np.array([ranking[np.ix_(p, p)] for p in map(rng.permutation, [len(ranking)] * PERMUTATIONS)])
    highest = np.einsum("nij,mij->nm", orders, shuffled, optimize=True).max(axis=0)
    return float((1 + (highest >= taus.max() - 1e-12).sum()) / (1 + PERMUTATIONS))


def components(values: Array) -> tuple[float, float]:
    """Variance between placements (0 where the noise explains all), and of one run around its placement."""
    placements, seeds = values.shape
    values = np.round(values - values.mean(), 12)  # rounding is no difference
    means = values.mean(axis=1, keepdims=True)
    residual = values - means - values.mean(axis=0, keepdims=True) + values.mean()
    noise = float((residual**2).sum()) / ((placements - 1) * (seeds - 1))
    return max(0.0, float(means.var(ddof=1)) - noise / seeds), noise


def fronts(values: Array, costs: Array) -> NDArray[np.bool_]:
    """(n, P): who is on the front by each row of values (n, P) and the costs (P,)."""
    return np.array([non_dominated(np.stack([-row, costs], axis=1)) for row in values])


def recovered(true: NDArray[np.bool_], found: NDArray[np.bool_]) -> Array:
    """Share of each of the true fronts (n, P) that is also on each of the fronts found (m, P): (n, m)."""
    shares: Array = (true[:, None] & found).sum(axis=2) / true.sum(axis=1)[:, None]
    return shares


def recovered_by_chance(others: Array, costs: Array, rng: np.random.Generator) -> float:
    """Share of the reference's front that a random ranking recovers."""
    target = others.mean(axis=0)
    shuffled = np.array([rng.permutation(target) for _ in range(SHUFFLES)])
    return float(recovered(fronts(target[None], costs), fronts(shuffled, costs)).mean())

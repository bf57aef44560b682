"""What a validation shows: paired blocks, all comparisons of a family at once.

A block is one fresh seed (on one fresh backbone, where the study trains it) in which every network of the family was
trained as the target says. A comparison's statistic is its mean difference over the blocks, over its standard error;
that is shrunk towards the family's pooled one, as the differences' own spread has few freedoms (Smyth 2004, the
"moderated" t) and networks may differ in their noise. The family's error is held by the distribution of the largest
statistic, as Dunnett's (1955) for comparisons with one control, found by simulating exactly this computation on blocks
of normal noise. For new images, the variance of the images is added (Satterthwaite's freedoms).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PRIOR_FREEDOMS = 4.0
"""Weight of the pooled variance in each comparison's own, as so many observations."""
DRAWS = 40_000
ERROR = 0.05
"""Of a family, two-sided."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One network held against another."""

    network: str
    """Key."""
    control: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is shown of one comparison; differences in the metric's unit, turned so that positive is better."""

    network: str
    control: str
    blocks: int
    difference: float
    low: float
    """Simultaneous interval, on these test images."""
    high: float
    new_low: float | None
    """The same for new images; None where there are no results per image."""
    new_high: float | None
    word: str
    """`better`, `not shown` or `worse`."""
    not_worse: bool | None
    """Whether it is not worse by more than the margin; None without one."""


def judge(
    values: Mapping[str, Sequence[float]],
    comparisons: Sequence[Comparison],
    *,
    margin: float | None = None,
    images: Mapping[str, Sequence[NDArray[np.bool_]]] | None = None,
    step: float = 0.0,
) -> tuple[Verdict, ...]:
    """All comparisons of a family, with simultaneous intervals.

    Args:
        values: network -> its value in each block, higher is better; all as long, at least 2.
        margin: in the values' unit; what may be lost.
        images: network -> per block, which test images were right; accuracy's values are their means.
        step: the least difference of two values, one image of an accuracy: a block's difference is not known better than so.
    """
    keys = list(values)
    table = np.array([values[key] for key in keys], dtype=float)
    contrasts = contrast_matrix(keys, comparisons)
    differences, errors = statistics_of(contrasts, table)
    blocks = table.shape[1]
    errors = np.maximum(errors, step / math.sqrt(blocks))
    critical = critical_value(contrasts, blocks)
    found = []
    for comparison, d, error in zip(comparisons, differences.tolist(), errors.tolist(), strict=True):
        half, new = critical * error, None
        if images is not None:
            right, other = (np.stack(images[key]).astype(float) for key in (comparison.network, comparison.control))
            new = _for_new_images(right - other, error**2, contrasts)
        found.append(
            Verdict(
                network=comparison.network,
                control=comparison.control,
                blocks=blocks,
                difference=d,
                low=d - half,
                high=d + half,
                new_low=None if new is None else d - new,
                new_high=None if new is None else d + new,
                word="better" if d > half else "worse" if d < -half else "not shown",
                not_worse=None if margin is None else d - half > -margin,
            )
        )
    return tuple(found)


def contrast_matrix(keys: Sequence[str], comparisons: Sequence[Comparison]) -> Array:
    """(comparisons, networks): +1 at the network, -1 at its control."""
    matrix = np.zeros((len(comparisons), len(keys)))
    for row, comparison in enumerate(comparisons):
        matrix[row, keys.index(comparison.network)] = 1.0
        matrix[row, keys.index(comparison.control)] = -1.0
    return matrix


def critical_value(contrasts: Array, blocks: int, error: float = ERROR) -> float:
    """The largest |statistic| that all-equal networks exceed in `error` of all families of so many blocks."""
    means, errors = _draws(contrasts.tobytes(), contrasts.shape, blocks)
    return float(np.quantile(np.abs(means / errors).max(1), 1 - error))


@functools.lru_cache(maxsize=256)
def detectable(comparisons: int, blocks: int, sd: float, *, power: float = 0.8) -> float:
    """The true difference that so many blocks show with this power, between a network and the family's control.

    Args:
        comparisons: with the one control.
        sd: of one block's difference, in the metric's unit.
    """
    contrasts = np.hstack([np.eye(comparisons), -np.ones((comparisons, 1))])
    critical = critical_value(contrasts, blocks)
    means, errors = _draws(contrasts.tobytes(), contrasts.shape, blocks)
    # Rejected where (mean + delta) / error > critical: solve for the delta at which `power` of the draws are.
    return float(np.quantile(critical * errors[:, 0] - means[:, 0], power)) * sd


def blocks_for(comparisons: int, sd: float, difference: float, *, power: float = 0.8, most: int = 256) -> int | None:
    """The least number of blocks that shows a difference with this power; None beyond `most`."""
    low, high = 2, 3
    while detectable(comparisons, high, sd, power=power) > difference:
        low, high = high, high * 2
        if high > 2 * most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(comparisons, middle, sd, power=power) > difference:
            low = middle
        else:
            high = middle
    return high if high <= most else None


def statistics_of(contrasts: Array, tables: Array) -> tuple[Array, Array]:
    """Mean differences and their standard errors, (…, comparisons), of tables (…, networks, blocks)."""
    blocks = tables.shape[-1]
    differences = contrasts @ tables
    means = differences.mean(-1)
    own = differences.var(-1, ddof=1)
    centred = tables - tables.mean(-1, keepdims=True)
    residuals = centred - centred.mean(-2, keepdims=True)
    freedoms = (tables.shape[-2] - 1) * (blocks - 1)
    pooled = 2 * (residuals**2).sum((-1, -2)) / freedoms
    weight = PRIOR_FREEDOMS if tables.shape[-2] > 2 else 0.0  # two networks: the pooled one is the own one
    variance = (weight * pooled[..., None] + (blocks - 1) * own) / (weight + blocks - 1)
    return means, np.sqrt(np.maximum(variance, 1e-300) / blocks)


@functools.lru_cache(maxsize=64)
def _draws(contrasts: bytes, shape: tuple[int, int], blocks: int) -> tuple[Array, Array]:
    """Means and standard errors on all-equal networks whose differences have a standard deviation of 1."""
    matrix = np.frombuffer(contrasts).reshape(shape)
    rng = np.random.default_rng(20_261_120)
    parts = [
        statistics_of(matrix, rng.standard_normal((DRAWS // 8, shape[1], blocks)) / math.sqrt(2)) for _ in range(8)
    ]
    means, errors = (np.concatenate(found) for found in zip(*parts, strict=True))
    return means, errors


def _for_new_images(right: Array, seeds: float, contrasts: Array) -> float:
    """Half-width where the images are drawn anew, too.

    Args:
        right: (blocks, images) differences per image, -1, 0 or 1.
        seeds: variance of the mean difference from the blocks alone.
    """
    blocks, images = right.shape
    mean = right.mean(0)
    centred = right - right.mean(1, keepdims=True)
    # Over pairs of different blocks: what images give beyond each block's own noise.
    total = blocks**2 * float(((mean - mean.mean()) ** 2).mean())
    shared = max(0.0, (total - float((centred**2).mean(1).sum())) / (blocks * (blocks - 1)))
    variance = seeds + shared / images
    freedoms = variance**2 / max(seeds**2 / (blocks - 1), 1e-300)
    return _critical_t(contrasts.tobytes(), contrasts.shape, min(int(freedoms), 10_000)) * math.sqrt(variance)


@functools.lru_cache(maxsize=256)
def _critical_t(contrasts: bytes, shape: tuple[int, int], freedoms: int) -> float:
    """The largest of correlated |t| statistics with so many freedoms exceeds it in ERROR of all families."""
    from scipy.optimize import brentq
    from scipy.special import stdtrit
    from scipy.stats import multivariate_t

    count, freedoms = shape[0], max(freedoms, 1)
    single, bonferroni = (float(stdtrit(freedoms, 1 - ERROR / 2 / n)) for n in (1, count))
    if count == 1:
        return single
    matrix = np.frombuffer(contrasts).reshape(shape)
    joint = multivariate_t(shape=matrix @ matrix.T / 2, df=freedoms, allow_singular=True, seed=0)
    box = np.ones(count)

    def excess(value: float) -> float:
        return float(joint.cdf(value * box, lower_limit=-value * box, random_state=0)) - (1 - ERROR)

    return float(brentq(excess, 0.95 * single, 1.05 * bonferroni, xtol=1e-3))

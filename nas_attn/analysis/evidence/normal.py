"""The normal distribution and mixtures of it, for whole arrays: numpy has no error function."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_FAR = 8
"""Standard deviations beyond which nothing is left."""
_STEPS = 512
"""Points of the table in one standard deviation."""
_TABLE = np.array([0.5 * math.erfc(-i / _STEPS / math.sqrt(2)) for i in range(-_FAR * _STEPS, _FAR * _STEPS + 1)])
_CANTELLI = math.sqrt(1 / 0.025 - 1)
"""No 2.5 % quantile lies further from the mean, in standard deviations (Cantelli's inequality)."""


def cdf(z: ArrayLike) -> Floats:
    """Probability below z, to 2e-7: a table, and a straight line between its points."""
    x = np.clip((np.asarray(z, dtype=np.float64) + _FAR) * _STEPS, 0, 2 * _FAR * _STEPS - 1e-6)
    index = x.astype(np.intp)
    return np.asarray(_TABLE[index] + (x - index) * (_TABLE[index + 1] - _TABLE[index]))


def interval(weights: Floats, means: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """Central 95 % of n mixtures of normals, to half a percent of their standard deviation.

    Args:
        weights: (m,) of the components, adding up to 1.
        means: (m, n)
        sds: (m, n); 0 for a point mass.

    Returns:
        (n,) lower and upper ends.
    """
    middle = weights @ means
    spread = np.sqrt(np.maximum(weights @ (sds**2 + (means - middle) ** 2), 0.0))
    safe = np.maximum(sds, 1e-9 * spread + 1e-300)
    ends = []
    for sign in (-1.0, 1.0):
        near, far = -spread, _CANTELLI * spread
        for _ in range(11):
            centre = 0.5 * (near + far)
            inside = weights @ cdf((sign * (middle - means) + centre) / safe) >= 0.975
            near, far = np.where(inside, near, centre), np.where(inside, centre, far)
        ends.append(middle + sign * far)
    return ends[0], ends[1]


def condensed(weights: Floats, order: Floats, count: int) -> tuple[NDArray[np.intp], Floats]:
    """(indices, weights) of at most `count` components that stand for all, drawn in even steps along `order`."""
    ranked = np.argsort(order, kind="stable")
    steps = (np.arange(count) + 0.5) / count * weights.sum()
    hits = ranked[np.minimum(np.searchsorted(np.cumsum(weights[ranked]), steps), len(weights) - 1)]
    found, counts = np.unique(hits, return_counts=True)
    return found, counts / count

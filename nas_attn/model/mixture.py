"""Mixtures of normal distributions, for whole arrays: weights (m,) that add up to 1, means and variances (m, n)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_CANTELLI = math.sqrt(1 / 0.025 - 1)
"""No 2.5 % quantile lies further from the mean, in standard deviations (Cantelli's inequality)."""


def cdf(z: ArrayLike) -> Floats:
    """Probability below z of a standard normal variable."""
    from scipy.special import ndtr

    return np.asarray(ndtr(z), dtype=np.float64)


def moments(weights: Floats, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """(n,) means and standard deviations."""
    mean = weights @ means
    return mean, np.sqrt(np.maximum(weights @ (variances + (means - mean) ** 2), 0.0))


def interval(weights: Floats, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """(n,) ends of the central 95 %, to half a percent of the standard deviation."""
    middle, spread = moments(weights, means, variances)
    safe = np.maximum(np.sqrt(variances), 1e-9 * spread + 1e-300)
    ends = []
    for sign in (-1.0, 1.0):
        near, far = -spread, _CANTELLI * spread
        for _ in range(11):
            centre = 0.5 * (near + far)
            inside = weights @ cdf((sign * (middle - means) + centre) / safe) >= 0.975
            near, far = np.where(inside, near, centre), np.where(inside, centre, far)
        ends.append(middle + sign * far)
    return ends[0], ends[1]

"""Mixtures of normal distributions, for whole arrays."""

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

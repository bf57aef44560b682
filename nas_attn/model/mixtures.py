"""Mixtures of normals over the nodes: moments, intervals, the probability of a tie."""

from __future__ import annotations

import math

import numpy as np

from nas_attn.model.coding import Floats
from nas_attn.model.hypotheses import cdf
from nas_attn.model.priors import TIE

TINY_SPREAD = 1e-300
# no 2.5 % quantile lies further from the mean, in standard deviations
CANTELLI = math.sqrt(1 / 0.025 - 1)


def ties(means: Floats, variances: Floats, before: Floats) -> Floats:
    """Probability that a difference is exactly none: from its means, variances, and variances
    before any run, at each node.

    The odds are those before any run, times the density at 0 after the runs over that before
    (Dickey 1971, "The weighted likelihood ratio", Annals of Mathematical Statistics 42).
    """
    after = np.maximum(variances, TINY_SPREAD)
    odds = (
        TIE
        / (1 - TIE)
        * np.exp(0.5 * (np.log(np.maximum(before, after) / after) - means**2 / after))
    )
    return np.asarray(odds / (1 + odds))


def moments(weights: Floats, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """(n,) means and standard deviations of mixtures of normals: weights (m,) that add up to 1,
    means and variances (m, n).
    """
    mean = weights @ means
    return mean, np.sqrt(np.maximum(weights @ (variances + (means - mean) ** 2), 0.0))


def interval(weights: Floats, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """(n,) ends of the central 95 % of such mixtures, to half a percent of the standard
    deviation.
    """
    middle, spread = moments(weights, means, variances)
    safe = np.maximum(np.sqrt(variances), 1e-9 * spread + TINY_SPREAD)
    ends = []
    for sign in (-1.0, 1.0):
        near = -spread
        far = CANTELLI * spread
        for _ in range(11):
            centre = 0.5 * (near + far)
            inside = weights @ cdf((sign * (middle - means) + centre) / safe) >= 0.975
            near = np.where(inside, near, centre)
            far = np.where(inside, centre, far)
        ends.append(middle + sign * far)
    return ends[0], ends[1]

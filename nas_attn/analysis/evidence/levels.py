"""What placements score at all: differences are net of their blocks, values need the blocks' levels.

Levels scatter around the study's by the luck of a seed, and of a backbone where there are several. With a handful of blocks
that scatter is badly known, so it is integrated over a grid, as everything else: the fewer blocks, the heavier the tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_GRID = 16
_FREEDOMS = 4.0
"""Degrees of freedom of the half-t prior of a scatter."""
_SCALE = 2.0
"""Its scale, in units of the noise that the images give (or of the noise within a block, where they say nothing)."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The study's level: a weighted mean of its blocks' levels, and how far that may be off."""

    weights: Floats
    """(blocks,) adding up to 1."""
    extra: Floats
    """(q,) variances by which it may be off beyond the runs' own noise, and"""
    extra_weights: Floats
    """(q,) their posterior weights."""
    seeds_sd: float
    """Scatter of levels over seeds (posterior root mean square)."""


def levels(means: Floats, variances: Floats, backbone: Ints, scale: float) -> Levels:
    """The study's level from those of its blocks.

    Args:
        means: (blocks,) net of the effects of the placements in them.
        variances: (blocks,) by which these are uncertain, from the runs' noise and from the effects.
        backbone: (blocks,) which backbone each block has.
        scale: noise that the scatter is expected to be of the order of.
    """
    grid = np.geomspace(0.05, 30.0, _GRID) * max(scale, 1e-300)
    prior = (1 + (grid / (_SCALE * scale)) ** 2 / _FREEDOMS) ** (-(_FREEDOMS + 1) / 2) * grid
    log = sum(
        (
            _log_likelihood(means[mine], variances[mine], grid)
            for b in np.unique(backbone)
            if (mine := backbone == b).any()
        ),
        start=np.zeros(_GRID),
    )
    over_seeds = _normalised(log, prior)
    scatter = float(over_seeds @ grid**2)
    weights, group_means, group_variances = np.zeros(len(means)), [], []
    groups = np.unique(backbone)
    for b in groups:
        mine = np.flatnonzero(backbone == b)
        precision = 1 / (scatter + variances[mine])
        weights[mine] = precision / precision.sum() / len(groups)
        group_means.append(float(precision @ means[mine] / precision.sum()))
        group_variances.append(1 / float(precision.sum()))
    by_seeds = float((weights**2).sum()) * grid**2
    if len(groups) == 1:
        return Levels(weights, by_seeds, over_seeds, math.sqrt(scatter))
    over_backbones = _normalised(_log_likelihood(np.array(group_means), np.array(group_variances), grid), prior)
    extra = np.add.outer(by_seeds, grid**2 / len(groups))
    return Levels(weights, extra.ravel(), np.multiply.outer(over_seeds, over_backbones).ravel(), math.sqrt(scatter))


def _log_likelihood(means: Floats, variances: Floats, grid: Floats) -> Floats:
    """(grid,) of the scatter of means around an unknown one."""
    precision = 1 / (grid[:, None] ** 2 + variances)
    total = precision.sum(axis=1)
    centre = precision @ means / total
    squares = (precision * (means - centre[:, None]) ** 2).sum(axis=1)
    return np.asarray(0.5 * np.log(precision).sum(axis=1) - 0.5 * np.log(total) - 0.5 * squares)


def _normalised(log: Floats, prior: Floats) -> Floats:
    weights = np.exp(log - log.max()) * prior
    return np.asarray(weights / weights.sum())

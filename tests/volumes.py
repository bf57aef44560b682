"""Volumes that points dominate, exact, for the tests of what estimates them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from nas_attn.model.dominance import Floats, non_dominated


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that points (n, m) dominate below the finite reference (m,); over two columns as While
    et al. (2012).
    """
    points_nm = np.asarray(points, dtype=float)
    corner = np.asarray(reference, dtype=float)
    inside = points_nm[(points_nm < corner).all(axis=1)]
    front = np.unique(inside[non_dominated(inside)], axis=0)
    return sum(_exclusive(front[i], front[i + 1 :], corner) for i in range(len(front)))


def _exclusive(point: Floats, others: Floats, corner: Floats) -> float:
    """Volume that `point` dominates and `others` do not."""
    return float(np.prod(corner - point)) - hypervolume(np.maximum(others, point), corner)

"""Dominance between points, and the volume that they dominate. All values are minimised."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# random points that estimate volumes of three or more objectives
POINTS = 512


def non_dominated(values: ArrayLike) -> Mask:
    """(n,) whether no other row dominates a row of (n, m) values, all minimised; False for one with
    a NaN.
    """
    values_nm = np.asarray(values, dtype=float)
    mask = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    unique, inverse = np.unique(values_nm[mask], axis=0, return_inverse=True)
    mask[mask] = _non_dominated_of(unique)[inverse.reshape(-1)]
    return mask


def _non_dominated_of(unique: Floats) -> Mask:
    """The same for distinct rows in lexicographic order: a row can only be dominated by an earlier
    one.
    """
    if unique.shape[1] == 2 and len(unique):
        second = unique[:, 1]
        return np.concatenate([[True], second[1:] < np.minimum.accumulate(second)[:-1]])
    left = np.arange(len(unique))
    position = 0
    while position < len(left):
        keep = (unique[left] < unique[left[position]]).any(axis=1)
        keep[position] = True
        left = left[keep]
        position = int(keep[: position + 1].sum())
    return np.isin(np.arange(len(unique)), left)


def non_dominated_rank(values: ArrayLike) -> NDArray[np.int64]:
    """(n,) front of each row of (n, m), all minimised: 0 for rows that no other dominates, 1 for
    the next front, and so on.

    Equal rows share a rank. A row with a NaN comes after all others. Infinities are allowed.
    """
    values_nm = np.asarray(values, dtype=float)
    complete = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    ranks = np.zeros(len(values_nm), dtype=np.int64)
    left = complete.copy()
    rank = 0
    while left.any():
        first = np.flatnonzero(left)[non_dominated(values_nm[left])]
        ranks[first] = rank
        left[first] = False
        rank += 1
    ranks[~complete] = rank
    return ranks


def hypervolume_gains(
    values: Floats, observed: Floats, reference: Floats, rng: np.random.Generator
) -> Floats:
    """Returns the volume below the reference that each point alone would add: exact in the plane,
    strip by strip; with more objectives by POINTS random points.

    Args:
        values: (n, m) the points.
        observed: (k, m) what dominates a volume already.
        reference: (m,) the corner of all volumes.
        rng: of the random points.

    Returns:
        (n,) volumes in the plane; else numbers of the random points.
    """
    front = observed[(observed < reference).all(axis=1)]
    front = np.unique(front[non_dominated(front)], axis=0) if len(front) else front
    if values.shape[1] == 2:
        starts = np.append(-np.inf, front[:, 0])
        ends = np.append(front[:, 0], reference[0])
        heights = np.append(reference[1], front[:, 1])
        widths = np.maximum(ends - np.maximum(starts, values[:, :1]), 0.0)
        return np.asarray((widths * np.maximum(heights - values[:, 1:], 0.0)).sum(axis=1))
    best = np.minimum(values.min(axis=0), observed.min(axis=0))
    points = best + rng.random((POINTS, values.shape[1])) * (reference - best)
    free = points[~(front[None] <= points[:, None]).all(axis=2).any(axis=1)]
    return np.array([(row <= free).all(axis=1).sum() for row in values], dtype=float)

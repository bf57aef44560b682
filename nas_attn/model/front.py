"""Non-domination and hypervolume, for minimisation of every column of (n, m) values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def non_dominated_rank(values: ArrayLike) -> NDArray[np.int64]:
    """(n,) front of each row: 0 for those that nothing dominates, 1 once these are taken away, and so on.

    Equal rows share a rank. A row with a NaN is comparable to nothing and comes after all others. Infinities are allowed.
    """
    values_nm = _matrix(values)
    known = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    ranks, left, rank = np.zeros(len(values_nm), dtype=np.int64), known.copy(), 0
    while left.any():
        first = np.flatnonzero(left)[non_dominated(values_nm[left])]
        ranks[first], left[first] = rank, False
        rank += 1
    ranks[~known] = rank
    return ranks


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """(n,) whether no other row dominates a row; False for one with a NaN."""
    values_nm = _matrix(values)
    mask = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    unique, inverse = np.unique(values_nm[mask], axis=0, return_inverse=True)
    mask[mask] = _non_dominated(unique)[inverse.reshape(-1)]
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate below the reference (m,), which is finite; exact.

    One and two columns by sorting; more by the recursion of While et al., "A fast way of calculating exact
    hypervolumes" (2012). Points that are not below the reference in every column add nothing.
    """
    points_nm, corner = _matrix(points), np.asarray(reference, dtype=float)
    return _volume(points_nm[(points_nm < corner).all(axis=1)], corner)


def hypervolume_contributions(points: ArrayLike, reference: ArrayLike) -> Values:
    """(n,) volume that is lost when one point is left out; 0 for dominated and for repeated points."""
    points_nm, corner = _matrix(points), np.asarray(reference, dtype=float)
    lost = np.zeros(len(points_nm))
    inside = np.flatnonzero((points_nm < corner).all(axis=1))
    unique, first, counts = np.unique(points_nm[inside], axis=0, return_index=True, return_counts=True)
    for i in np.flatnonzero(_non_dominated(unique) & (counts == 1)):
        lost[inside[first[i]]] = _exclusive(unique[i], np.delete(unique, i, axis=0), corner)
    return lost


def _matrix(values: ArrayLike) -> Values:
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(f"expected an (n, m) array of objective values, not one of shape {matrix.shape}")
    return matrix


def _non_dominated(unique: Values) -> NDArray[np.bool_]:
    """Mask for distinct rows in lexicographic order: a row can only be dominated by an earlier one."""
    if unique.shape[1] == 2 and len(unique):
        second = unique[:, 1]
        return np.concatenate([[True], second[1:] < np.minimum.accumulate(second)[:-1]])
    left, position = np.arange(len(unique)), 0
    while position < len(left):
        keep = (unique[left] < unique[left[position]]).any(axis=1)
        keep[position] = True
        left = left[keep]
        position = int(keep[: position + 1].sum())
    return np.isin(np.arange(len(unique)), left)


def _volume(points: Values, corner: Values) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(corner[0] - points[:, 0].min())
    unique = np.unique(points, axis=0)
    front = unique[_non_dominated(unique)]
    if front.shape[1] == 2:
        heights = np.concatenate(([corner[1]], front[:-1, 1])) - front[:, 1]
        return float(((corner[0] - front[:, 0]) * heights).sum())
    return sum(_exclusive(front[i], front[i + 1 :], corner) for i in range(len(front)))


def _exclusive(point: Values, others: Values, corner: Values) -> float:
    """Volume that `point` dominates and `others` do not."""
    return float(np.prod(corner - point)) - _volume(np.maximum(others, point), corner)

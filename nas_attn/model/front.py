"""Non-domination and hypervolume, for minimisation of every column."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def non_dominated_rank(values: ArrayLike) -> NDArray[np.int64]:
    """Front that each row belongs to: 0 for the rows that nothing dominates, 1 once those are taken away, and so on.

    Equal rows share a rank. A row with a NaN is comparable to nothing and comes after all others.

    Args:
        values: (n, m), smaller is better in every column; infinities are allowed.

    Returns:
        (n,) ranks.
    """
    values_nm = _matrix(values)
    ranks = np.zeros(len(values_nm), dtype=np.int64)
    known = ~np.isnan(values_nm).any(axis=1)
    unique, inverse = np.unique(values_nm[known], axis=0, return_inverse=True)
    unique_ranks = np.zeros(len(unique), dtype=np.int64)
    left = np.arange(len(unique))
    rank = 0
    while len(left):
        first = _non_dominated(unique[left])
        unique_ranks[left[first]] = rank
        left = left[~first]
        rank += 1
    ranks[known] = unique_ranks[inverse.reshape(-1)]
    ranks[~known] = rank
    return ranks


def non_dominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Mask (n,) of the rows that no other row dominates; a row with a NaN is never among them."""
    values_nm = _matrix(values)
    mask = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    unique, inverse = np.unique(values_nm[mask], axis=0, return_inverse=True)
    mask[mask] = _non_dominated(unique)[inverse.reshape(-1)]
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Volume that the points dominate below the reference (exact).

    One and two columns by sorting; more by the recursion of While et al., "A fast way of calculating exact
    hypervolumes" (2012).

    Args:
        points: (n, m), smaller is better; points that are not below the reference in every column add nothing.
        reference: (m,), finite.
    """
    corner = np.asarray(reference, dtype=float)
    points_nm = _matrix(points)
    inside = points_nm[(points_nm < corner).all(axis=1)]
    return _volume(inside, corner)


def hypervolume_contributions(points: ArrayLike, reference: ArrayLike) -> Values:
    """(n,) volume that is lost when one point is left out; 0 for dominated and for repeated points."""
    corner = np.asarray(reference, dtype=float)
    points_nm = _matrix(points)
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
    left = np.arange(len(unique))
    position = 0
    while position < len(left):
        row = unique[left[position]]
        keep = (unique[left] < row).any(axis=1)
        keep[position] = True
        left = left[keep]
        position = int(keep[: position + 1].sum())
    mask = np.zeros(len(unique), dtype=bool)
    mask[left] = True
    return mask


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

"""The effects that are spoken of, and the runs of one rung as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Points:
    """The effects that are spoken of: those of the placements, and with several backbones those on each that they ran on."""

    placement: Ints
    """(points,) 0 to n - 1 first, in order: the placements' means over all possible backbones (or on the only one)."""
    backbone: Ints
    """(points,) -1 for these, else the backbone."""
    placements: int
    """n, evaluated or not."""
    backbones: int

    def __len__(self) -> int:
        return len(self.placement)

    @classmethod
    def of(cls, placement: Ints, backbone: Ints, placements: int) -> Points:
        """The points that runs are about.

        Args:
            placement: (runs,)
            backbone: (runs,) 0 to backbones - 1.
            placements: n.
        """
        backbones = int(backbone.max(initial=0)) + 1
        cells = np.zeros((0, 2), dtype=np.intp)
        if backbones > 1:
            cells = np.unique(np.stack((placement, backbone), axis=1), axis=0)
        first = np.stack((np.arange(placements), np.full(placements, -1)), axis=1)
        both = np.concatenate((first, cells)).astype(np.intp)
        return cls(both[:, 0], both[:, 1], placements, backbones)

    def find(self, placement: Ints, backbone: Ints) -> Ints:
        """(runs,) the point of each run."""
        if self.backbones == 1:
            return placement
        at = {(int(i), int(b)): point for point, (i, b) in enumerate(zip(self.placement, self.backbone, strict=True))}
        return np.array([at[int(i), int(b)] for i, b in zip(placement, backbone, strict=True)], dtype=np.intp)

    def covariance(self, matrix: Floats, both: float, rows: Ints, columns: Ints) -> Floats:
        """Prior covariance of effects of total size 1.

        Args:
            matrix: (n, n) of the placements.
            both: share of the interaction in the variance on one backbone.
            rows: points, as are the columns.
        """
        found = matrix[np.ix_(self.placement[rows], self.placement[columns])]
        if self.backbones == 1:
            return found
        there = self.backbone[rows][:, None]
        shared = (there == self.backbone[columns]) & (there >= 0)
        return np.asarray(((1 - both) + both * shared) * found)

    def diagonal(self, matrix: Floats, both: float) -> Floats:
        """(points,) of the same."""
        found = np.diag(matrix)[self.placement]
        return found if self.backbones == 1 else np.where(self.backbone < 0, (1 - both) * found, found)


@dataclass(frozen=True, slots=True)
class Data:
    """The runs of one rung."""

    points: Points
    """The same at all rungs."""
    point: Ints
    """(runs,) which of them each run is about."""
    block: Ints
    """(runs,) 0 to blocks - 1."""
    value: Floats
    """(runs,) higher is better."""
    earlier: Floats
    """(runs,) the same run's value at the rung below, NaN where it has none; a level that a block has in common is net."""

    @property
    def freedoms(self) -> int:
        """Runs less blocks."""
        return len(self.point) - int(self.block.max(initial=-1)) - 1

    def net(self, values: Floats) -> Floats:
        """Values (runs, …) less their block's mean."""
        member = (np.arange(int(self.block.max(initial=-1)) + 1)[:, None] == self.block).astype(np.float64)
        means = (member / member.sum(axis=1, keepdims=True)) @ values
        return np.asarray(values - means[self.block])

"""The posterior of placements with every variance integrated: rung after rung, the last one is what is asked about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.assembling import RungRuns
from nas_attn.analysis.evidence.kernels import Likeness
from nas_attn.analysis.evidence.levels import Levels, levels
from nas_attn.analysis.evidence.posterior import Posterior
from nas_attn.analysis.evidence.rung import Rung
from nas_attn.analysis.evidence.values import Values

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class Exact:
    """The posterior of all placements at the last rung, as a mixture over nodes: values of the variances.

    Attributes:
        nodes: the variances and their weights.
        weight: (m,) of the nodes that the answers are given for, adding up to 1.
        steps: the posterior of each rung.
    """

    def __init__(self, steps: Sequence[RungRuns], likeness: Likeness) -> None:
        lower, self.steps = None, list[Posterior]()
        for step in steps:
            self.steps.append(Posterior(Rung(step.data, likeness, step.priors, lower)))
            if step is not steps[-1]:
                lower = self.steps[-1].collapsed()
        self._posterior, self._data = self.steps[-1], steps[-1].data
        self.nodes = self._posterior.nodes
        self.weight = self.nodes.weight
        self._placements = np.arange(self._data.points.placements)
        self._size = np.bincount(self._data.block)

    def gains(self, over: int, targets: Ints) -> tuple[Floats, Floats]:
        """(m, targets) means and variances of how much better each is than one; both 0 where nothing differs."""
        reference = np.zeros(len(self._data.points))
        reference[over] = 1.0
        return self._posterior.moments(reference, targets)

    def sums(self, targets: Ints) -> tuple[Floats, Floats]:
        """(m, targets) means and variances of sums of shared effects."""
        return self._posterior.moments(np.zeros(len(self._data.points)), targets)

    def values(self, scale: float | None) -> Values:
        """The placements' expected scores.

        Args:
            scale: noise that the scatter of levels over seeds is expected to be of the order of; None: the runs' own.
        """
        share, found = self._share(), self._levels(scale)
        means, variances = self._posterior.moments(found.weights @ share, self._placements)
        level = float(found.weights @ (np.bincount(self._data.block, weights=self._data.value) / self._size))
        noise = self._square * float((found.weights**2 / self._size).sum())
        return Values(means + level, variances + noise, found)

    def draws(self, rng: np.random.Generator, count: int, scale: float | None) -> Floats:
        """(count, placements) joint draws of the scores, the study's level at its mean."""
        share, found = self._share(), self._levels(scale)
        effects = self._posterior.draws(rng, count, np.arange(len(self._data.points)))
        level = float(found.weights @ (np.bincount(self._data.block, weights=self._data.value) / self._size))
        return np.asarray(
            effects[:, : self._data.points.placements] - (effects @ (found.weights @ share))[:, None] + level
        )

    @property
    def _square(self) -> float:
        return float(self.nodes.weight @ self.nodes.noise**2)

    def _share(self) -> Floats:
        """(blocks, points) share of each point in a block's mean."""
        share = np.zeros((len(self._size), len(self._data.points)))
        np.add.at(share, (self._data.block, self._data.point), 1.0)
        return np.asarray(share / share.sum(axis=1, keepdims=True))

    def _levels(self, scale: float | None) -> Levels:
        data, share, here = self._data, self._share(), self._posterior.collapsed()
        apart = share - share.mean(axis=0)
        uncertain = np.einsum("bp,pq,bq->b", apart, here.covariance, apart) * here.spread**2
        backbone = np.zeros(len(self._size), dtype=np.intp)
        backbone[data.block] = np.maximum(data.points.backbone[data.point], 0)
        means = np.bincount(data.block, weights=data.value) / self._size - share @ here.mean * here.spread
        return levels(means, self._square / self._size + uncertain, backbone, scale or math.sqrt(self._square))

"""What a fitted rung says of its points: moments and draws at its nodes, and itself as evidence for the next rung."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.normal import condensed
from nas_attn.analysis.evidence.rung import Lower, Part, Rung, interaction_share, odds

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_DRAWN_NODES = 32
"""Nodes that stand for the posterior of the variances where whole vectors are drawn."""


class Posterior:
    """The posterior of one rung's points."""

    def __init__(self, rung: Rung) -> None:
        self.rung, self.nodes, self.data, self.lower = rung, rung.nodes, rung.data, rung.lower

    def moments(self, reference: Floats, targets: Ints) -> tuple[Floats, Floats]:
        """Posterior means and variances of how much better the targets are than a reference, at each node.

        Args:
            reference: (points,) weights: the reference is this sum of the points' effects.
            targets: (m,) points.

        Returns:
            (nodes, m) means and variances; both 0 where no placement differs.
        """
        means, variances = np.zeros((2, len(self.nodes.weight), len(targets)))
        for number, part in enumerate(self.rung.parts):
            mine = np.flatnonzero(self.nodes.part == number)
            if len(mine) and part.kernel is not None:
                means[mine], variances[mine] = self._part_moments(part, mine, reference, targets)
        return means, np.maximum(variances, 0.0)

    def _part_moments(self, part: Part, mine: Ints, reference: Floats, targets: Ints) -> tuple[Floats, Floats]:
        weights, scaled, common = self._weights(part, mine)
        own = self.nodes.own_size[mine, None] ** 2
        cross = part.cross[:, targets] - (part.cross @ reference)[:, None]
        means = own * (weights @ cross)
        variances = own * self._own_contrast(part, reference, targets) - own**2 * (scaled @ cross**2)
        if self.lower is not None:
            lower = self.lower
            below = part.cross_lower[:, targets] - (part.cross_lower @ reference)[:, None]
            a = part.ratio * self.nodes.own_size[mine, None]
            b, c = a * common, a + common
            means += b * (weights @ below) + c * (lower.mean[targets] - lower.mean @ reference)
            variances += c**2 * _contrast(np.diag(lower.covariance), lower.covariance @ reference, reference, targets)
            variances -= 2 * own * b * (scaled @ (cross * below)) + b**2 * (scaled @ below**2)
        return means, variances

    def _weights(self, part: Part, mine: Ints) -> tuple[Floats, Floats, Floats]:
        """For the nodes of one part: (nodes, k) damped residuals and dampings, over s'²; (nodes, 1) b t_1."""
        noise, size = self.nodes.own_noise[mine, None], self.nodes.own_size[mine, None]
        scaled = 1 / (noise**2 + size**2 * part.values)
        ratio = odds(self.nodes.eta[mine])[:, None]
        z, g, m = part.base.T
        left = z - noise * ratio * g - part.ratio * size * m
        common = np.zeros_like(noise) if math.isinf(part.tangent) else noise * ratio * self.rung.lower_reach
        return scaled * left, scaled, common

    def _own_contrast(self, part: Part, reference: Floats, targets: Ints) -> Floats:
        """(m,) prior variance of target - reference, of effects of size 1."""
        assert part.kernel is not None
        matrix, share = self.rung.likeness.matrix(part.kernel), interaction_share(part.tangent)
        points, used = self.data.points, np.flatnonzero(reference)
        toward = reference[used] @ points.covariance(matrix, share, used, np.arange(len(points)))
        return _contrast(points.diagonal(matrix, share), toward, reference, targets)

    def draws(self, rng: np.random.Generator, count: int, targets: Ints) -> Floats:
        """(count, m) joint draws of the targets' effects; placements that are all alike are exactly equal."""
        chosen, weights = condensed(self.nodes.weight, np.arange(len(self.nodes.weight), dtype=float), _DRAWN_NODES)
        times = rng.multinomial(count, weights)
        rows = []
        for node, many in zip(chosen, times, strict=True):
            part = self.rung.parts[self.nodes.part[node]]
            if part.kernel is None or self.nodes.spread[node] == 0:
                rows.append(np.zeros((many, len(targets))))
            elif many:
                mean, covariance = self._part_collapsed(part, np.array([node]), targets)
                values, vectors = np.linalg.eigh(covariance / self.nodes.weight[node])
                root = vectors * np.sqrt(np.maximum(values, 0.0))
                rows.append(mean + rng.standard_normal((many, len(targets))) @ root.T)
        return np.asarray(rng.permutation(np.concatenate(rows)))

    def collapsed(self) -> Lower:
        """This rung's posterior as evidence for the next one, its variances' uncertainty averaged over."""
        points = len(self.data.points)
        mean, second = np.zeros(points), np.zeros((points, points))
        for number, part in enumerate(self.rung.parts):
            mine = np.flatnonzero(self.nodes.part == number)
            if len(mine) and part.kernel is not None:
                means, covariance = self._part_collapsed(part, mine, np.arange(points))
                weight = self.nodes.weight[mine]
                mean += weight @ means
                second += covariance + (means.T * weight) @ means
        differing = self.nodes.spread + self.nodes.interaction > 0
        sizes = np.hypot(self.nodes.spread, self.nodes.interaction)[differing]
        size = _median(sizes, self.nodes.weight[differing]) if differing.any() else self.rung.priors.size or 1.0
        noise = math.sqrt(float(self.nodes.weight @ self.nodes.noise**2))
        return Lower(mean / size, (second - np.outer(mean, mean)) / size**2, size, noise)

    def _part_collapsed(self, part: Part, mine: Ints, targets: Ints) -> tuple[Floats, Floats]:
        """(nodes, m) means, and (m, m) covariance summed over the nodes by their weights."""
        assert part.kernel is not None
        weights, scaled, common = self._weights(part, mine)
        share = self.nodes.weight[mine]
        own = self.nodes.own_size[mine, None] ** 2
        matrix, cross = self.rung.likeness.matrix(part.kernel), part.cross[:, targets]
        prior = self.data.points.covariance(matrix, interaction_share(part.tangent), targets, targets)
        means = own * (weights @ cross)
        covariance = float(share @ own[:, 0]) * prior
        covariance -= cross.T * (share @ (own**2 * scaled)) @ cross
        if self.lower is not None:
            below = part.cross_lower[:, targets]
            a = part.ratio * self.nodes.own_size[mine, None]
            b, c = a * common, a + common
            means += b * (weights @ below) + c * self.lower.mean[targets]
            covariance += float(share @ c[:, 0] ** 2) * self.lower.covariance[np.ix_(targets, targets)]
            mixed = cross.T * (share @ (own * b * scaled)) @ below
            covariance -= mixed + mixed.T + below.T * (share @ (b**2 * scaled)) @ below
        return means, covariance


def _contrast(diagonal: Floats, toward: Floats, reference: Floats, targets: Ints) -> Floats:
    """(m,) variance of target - reference from the points' variances and their covariances with the reference."""
    return np.asarray(diagonal[targets] - 2 * toward[targets] + float(toward @ reference))


def _median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(below, 0.5 * below[-1]))])

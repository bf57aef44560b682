"""The model's equations, solved at each node, and the effects of placements that follow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nas_attn.model.assembling import Data
from nas_attn.model.coding import EFFECT_SHAPES, Coding, Floats, Ints, Shape
from nas_attn.model.kept import kept_posterior
from nas_attn.model.variances import LEAST_VARIANCE, Algebra, Nodes, Solved, solved_by
from nas_attn.space.placement import Placement

# (placement, weight): a weighted sum of placements' shared effects
Sum = Sequence[tuple[Placement, float]]


class Solution:
    """The variances of some runs, and the equations at each node. `placements`: all, those of the
    runs first.
    """

    def __init__(
        self, data: Data, placements: Sequence[Placement], shapes: Sequence[Shape] = EFFECT_SHAPES
    ) -> None:
        self.data = data
        self.placements = list(placements)
        self._shapes = shapes

    @cached_property
    def nodes(self) -> Nodes:
        return kept_posterior(self.data, self._shapes)

    @cached_property
    def algebra(self) -> Algebra:
        return Algebra(self.data, self.nodes.shapes)

    @cached_property
    def solved(self) -> list[Solved]:
        """The equations at each node."""
        return [
            self.algebra.solve(self.nodes.draws, node) for node in range(len(self.nodes.weight))
        ]

    def sums(self, sums: Sequence[Sum]) -> tuple[Floats, Floats]:
        """(nodes, m) means and variances of sums of effects, without what is a placement's own."""
        places = sorted({placement for terms in sums for placement, _ in terms}, key=str)
        weights = np.zeros((len(sums), len(places)))
        at = {placement: i for i, placement in enumerate(places)}
        for row, terms in zip(weights, sums, strict=True):
            for placement, weight in terms:
                row[at[placement]] += weight
        return NodeEffects(self, places, np.full(len(places), -1)).combined(weights)


class NodeEffects:
    """Effects of placements (the targets) at each node, in the runs' unit."""

    def __init__(self, solution: Solution, placements: Sequence[Placement], place: Ints) -> None:
        """`place`: (targets,) indices of the same placements among the evaluated ones; -1: none."""
        self._solution = solution
        self._place = place
        data = solution.data
        self._coding = data.coding
        self._evaluated = data.codes
        if list(placements) != solution.placements:
            self._coding, self._evaluated = Coding.of(
                [*solution.placements, *placements], len(data.codes)
            )
        self._codes = self._coding.codes(placements)
        self._made: dict[int, tuple[Floats, Floats, Floats]] = {}
        self._kernels: dict[Shape, tuple[Floats, Floats]] = {}

    def marginals(
        self, targets: Ints | None = None, over: int | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """Gives the expected scores at the last rung, or how far they are above one target's.

        Args:
            targets: indices of targets; None: all.
            over: the target that they are compared with; a tie with it is 0. None: the scores.

        Returns:
            Means, variances, and variances before any run, (nodes, targets) each. Those before any
            run leave the rung's mean out.
        """
        some = np.arange(len(self._codes)) if targets is None else targets
        means, variances, before = np.zeros((3, len(self._solution.nodes.noise), len(some)))
        besides = dict[Shape, Floats]()
        for i, noise in enumerate(self._solution.nodes.noise.tolist()):
            (mean, across, down) = self._parts(i)
            (shape, square) = self._prior(i)
            solved = self._solution.solved[i]
            m = mean[some]
            a = across[:, some]
            d = down[:, some]
            diagonal = self._kernel(shape)[1]
            prior = diagonal[some]
            if over is None:
                m = m + solved.rung_means[-1]
                d = np.linalg.solve(solved.inner, np.eye(len(solved.inner))[-1])[:, None] - d
            else:
                if shape not in besides:
                    besides[shape] = self._coding.kernel(
                        shape, self._codes[[over]], self._codes[some]
                    )[0]
                prior = prior + diagonal[over] - 2 * (besides[shape] + shape.own * (some == over))
                m = m - mean[over]
                a = a - across[:, [over]]
                d = d - down[:, [over]]
            variance = square * prior - (a**2).sum(axis=0) + (d**2).sum(axis=0)
            means[i] = m
            variances[i] = noise**2 * np.maximum(variance, 0.0)
            before[i] = noise**2 * square * np.maximum(prior, 0.0)
        return means, variances, before

    def combined(self, weights: Floats) -> tuple[Floats, Floats]:
        """Means and variances of sums (m, targets) of effects, without what is a placement's
        own.
        """
        means, variances = np.zeros((2, len(self._solution.nodes.noise), len(weights)))
        for i, noise in enumerate(self._solution.nodes.noise.tolist()):
            variance = ((weights @ self._covariance(i, own=False)) * weights).sum(axis=1)
            means[i] = weights @ self._parts(i)[0]
            variances[i] = noise**2 * np.maximum(variance, 0.0)
        return means, variances

    def draws(self, rng: np.random.Generator, count: int) -> Floats:
        """(count, targets) joint draws of scores; placements that are all alike are exactly
        equal.
        """
        rows = []
        nodes = self._solution.nodes
        for i, many in enumerate(rng.multinomial(count, nodes.weight).tolist()):
            if not many:
                continue
            drawn = np.tile(self._parts(i)[0] + self._solution.solved[i].rung_means[-1], (many, 1))
            if square := self._prior(i)[1]:
                covariance = self._covariance(i, own=True)
                covariance.flat[:: len(covariance) + 1] += LEAST_VARIANCE * (1 + square)
                normal = rng.standard_normal((many, len(covariance)))
                drawn += nodes.noise[i] * normal @ np.linalg.cholesky(covariance).T
            rows.append(drawn)
        return np.asarray(rng.permutation(np.concatenate(rows)))

    def _prior(self, node: int) -> tuple[Shape, float]:
        """Shape, and variance of effects at the last rung, in units of the noise's square."""
        nodes = self._solution.nodes
        return nodes.shapes[int(nodes.draws.shape[node])], float(nodes.draws.spread[node, -1] ** 2)

    def _covariance(self, node: int, *, own: bool) -> Floats:
        (_, across, down) = self._parts(node)
        (shape, square) = self._prior(node)
        prior = self._coding.kernel(shape, self._codes, self._codes) + own * shape.own * np.eye(
            len(self._codes)
        )
        return np.asarray(square * prior - across.T @ across + down.T @ down)

    def _parts(self, node: int) -> tuple[Floats, Floats, Floats]:
        """(means, (runs, targets) and (rungs, targets) parts of their covariance), in units of the
        noise.
        """
        data = self._solution.data
        draws = self._solution.nodes.draws
        (shape, square) = self._prior(node)
        # no placement differs here
        if node not in self._made and not square:
            none = np.zeros((data.rungs, len(self._codes)))
            self._made[node] = none[0], none[:1], none
        elif node not in self._made:
            solved = self._solution.solved[node]
            top = data.rungs - 1
            spread = draws.spread[node]
            toward = self._kernel(shape)[0] * (
                spread[top] * spread[data.rung] * draws.rho[node, top, data.rung]
            )
            across = solved_by(solved.root, toward.T)
            down = np.asarray(
                np.linalg.solve(solved.inner, solved.means.T @ across), dtype=np.float64
            )
            self._made[node] = across.T @ solved.residual, across, down
        return self._made[node]

    def _kernel(self, shape: Shape) -> tuple[Floats, Floats]:
        """(targets, runs) covariances of the placements with those of the runs, and their own
        variances, before their size.
        """
        if shape not in self._kernels:
            place = self._solution.data.place
            toward = self._coding.kernel(shape, self._codes, self._evaluated)[:, place]
            toward = toward + shape.own * (self._place[:, None] == place)
            self._kernels[shape] = toward, self._coding.kernel(shape, self._codes) + shape.own
        return self._kernels[shape]

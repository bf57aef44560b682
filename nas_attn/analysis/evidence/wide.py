"""Thousands of placements: the same model with its variances plugged in, solved in the space of the additive features.

The variances come from a part of the placements, fitted exactly. Given them, every effect is a sum over the features of its
placement (sites and types, once per rung and backbone) and of the placement's own, which integrates out placement by
placement. So the cost is that of one system of the size of the features, whatever the number of placements; nothing is
left out but the uncertainty of the variances, which hundreds of placements leave small.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.assembling import RungRuns
from nas_attn.analysis.evidence.exact import Exact
from nas_attn.analysis.evidence.kernels import Likeness
from nas_attn.analysis.evidence.levels import Levels, levels
from nas_attn.analysis.evidence.posterior import Posterior
from nas_attn.analysis.evidence.rung import interaction_share
from nas_attn.analysis.evidence.values import Values

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

LEAST_NOISE = 1e-3
"""Of a rung, as a share of the noisiest one's: where nearly all runs of a rung score the same, its noise is found to be next to nothing,
and equations of so different a size have no solution in double precision."""
MOST_FEATURES = 1500
"""Size of the system above which the interaction with the backbone is the placements' own only."""


@dataclass(frozen=True, slots=True)
class Variances:
    """The variances, plugged in, as loadings on independent effects and on independent luck, one of each rung's own."""

    effects: Floats
    """(rungs, rungs) how much of each rung's own effect is in a rung's effects."""
    noise: Floats
    """(rungs, rungs) the same for a run's luck."""
    interaction: Floats
    """(rungs,) share of the interaction in each rung's own effects."""
    site: Floats
    type: Floats
    """(rungs,) shares of the features' parts in each rung's own effects; the rest is the placements' own."""


def plugged(steps: Sequence[Posterior]) -> Variances:
    """The variances of an exact fit, where placements differ."""
    count = len(steps)
    effects, noise = np.zeros((2, count, count))
    interaction, site, kind = np.zeros((3, count))
    for k, step in enumerate(steps):
        nodes, parts = step.nodes, step.rung.parts
        weight = nodes.weight * (nodes.spread > 0)
        weight = weight / weight.sum() if weight.sum() > 0 else nodes.weight
        if step.data.points.backbones > 1:
            share = weight @ np.array([interaction_share(part.tangent) for part in parts])[nodes.part]
            interaction[k] = min(float(share), 1.0)  # weights add up to one but for rounding
        site[k] = weight @ np.array([part.kernel.site if part.kernel else 0.0 for part in parts])[nodes.part]
        kind[k] = weight @ np.array([part.kernel.type if part.kernel else 0.0 for part in parts])[nodes.part]
        effects[k, k] = math.exp(float(weight @ np.log(nodes.own_size)))
        noise[k, k] = math.sqrt(float(weight @ nodes.own_noise**2))
        if step.lower is not None:
            kept = float(weight @ (np.hypot(nodes.spread, nodes.interaction) * nodes.rho))
            effects[k] += kept / step.lower.spread * effects[k - 1]
            noise[k] += float(weight @ (nodes.noise * nodes.eta)) / step.lower.noise * noise[k - 1]
    own = np.diag(noise)
    np.fill_diagonal(noise, np.maximum(own, LEAST_NOISE * own.max()))
    return Variances(effects, noise, interaction, site, kind)


@dataclass(frozen=True, slots=True)
class _Group:
    """Placements that ran alike: the same blocks at the same rungs."""

    members: Ints
    """(n,) their indices."""
    loads: Floats
    """(m, slots) how much of each slot's effect is in each of the m runs."""
    blocks: Ints
    """(m,) level of each run."""
    inverse: Floats
    """(m, m) of the runs' covariance, features and levels apart."""
    values: Floats
    """(n, m)"""
    tie: Floats
    """(m,) how the runs' residuals move the placement's own effect at the last rung."""
    own: float
    """Variance of that which is left."""


class Wide:
    """The posterior of all placements at the last rung: one node where placements differ, one where they do not.

    Attributes:
        nodes: the variances and their weights, from the exact fit of a part of the placements.
        weight: (2,)
        exact: that fit.
    """

    def __init__(self, steps: Sequence[RungRuns], likeness: Likeness, exact: Exact) -> None:
        self.nodes, self.exact = exact.nodes, exact
        equal = float(self.nodes.weight @ (self.nodes.spread == 0))
        self.weight = np.array([1 - equal, equal])
        self._variances, self._backbones = plugged(exact.steps), steps[-1].data.points.backbones
        self._features = np.concatenate([likeness.site, likeness.type], axis=1)
        self._target = self._load(len(steps) - 1, None)
        wide = len(self._target) * self._features.shape[1] > MOST_FEATURES
        self._used = np.array([not wide or b is None for _, b in self._slots()])
        rungs = np.array([rung for rung, _ in self._slots()])
        site, kind = self._variances.site[rungs], self._variances.type[rungs]
        widths = [np.outer(site, np.ones(likeness.site.shape[1])), np.outer(kind, np.ones(likeness.type.shape[1]))]
        self._scale = np.sqrt(np.concatenate(widths, axis=1))[self._used].ravel()
        self._own = np.where(self._used, np.maximum(1 - site - kind, 0.0), 1.0)
        self._groups, self._level_rung, self._level_backbone = self._grouped(steps, likeness)
        self._solve()

    # ------------------------------------------------------------------------------------------- answers

    def gains(self, over: int, targets: Ints) -> tuple[Floats, Floats]:
        """(2, targets) means and variances of how much better each is than one; both 0 where nothing differs."""
        means = (self._mean - self._mean[over])[targets]
        variances = self._variance + self._variance[over] - 2 * self._against(self._row(over))
        variances[over] = 0.0
        variances = np.maximum(variances[targets], 0.0)
        return np.stack((means, 0 * means)), np.stack((variances, 0 * variances))

    def sums(self, targets: Ints) -> tuple[Floats, Floats]:
        """(2, targets) means and variances of sums of shared effects."""
        means, variances = self._mean[targets], np.maximum(self._variance[targets], 0.0)
        return np.stack((means, 0 * means)), np.stack((variances, 0 * variances))

    def values(self, scale: float | None) -> Values:
        """The placements' expected scores; see `Exact.values`."""
        found, reference = self._levels(scale)
        means = self._mean + float(reference @ self._solution)
        variances = self._variance + 2 * self._against(reference) + float(reference @ self._covariance @ reference)
        level = float(reference @ self._covariance @ reference)
        alike = np.full_like(means, float(means.mean()))
        return Values(np.stack((means, alike)), np.stack((variances, np.full_like(variances, level))), found)

    def draws(self, rng: np.random.Generator, count: int, scale: float | None) -> Floats:
        """(count, placements) joint draws of the scores, the study's level at its mean."""
        _, reference = self._levels(scale)
        solutions = self._solution + rng.standard_normal((count, len(self._solution))) @ self._root.T
        found = np.zeros((count, len(self._mean)))
        for group in self._groups:
            effects = self._group_effects(group, solutions.T).T
            own = np.sqrt(max(group.own, 0.0)) * rng.standard_normal((count, len(group.members)))
            found[:, group.members] = effects + group.values @ group.tie + own
        found[rng.random(count) < self.weight[1]] = float(self._mean.mean())
        return np.asarray(found + float(reference @ self._solution))

    # ------------------------------------------------------------------------------------------- slots

    def _slots(self) -> list[tuple[int, int | None]]:
        """(rung, backbone or None for all) of each slot."""
        places = [None] if self._backbones == 1 else [None, *range(self._backbones)]
        return [(rung, place) for rung in range(len(self._variances.effects)) for place in places]

    def _load(self, rung: int, backbone: int | None) -> Floats:
        """(slots,) loadings of a run at a rung on a backbone, or of the mean over all backbones."""
        found = []
        for own, place in self._slots():
            share = self._variances.interaction[own]
            size = self._variances.effects[rung, own]
            if place is None:
                found.append(size * math.sqrt(1 - share))
            else:
                found.append(size * math.sqrt(share) if place == backbone else 0.0)
        return np.array(found)

    def _grouped(self, steps: Sequence[RungRuns], likeness: Likeness) -> tuple[list[_Group], Ints, Ints]:
        """The placements by how they ran, sums of shared effects apart; rung and backbone of each level."""
        runs: list[list[tuple[int, int, int, int, float]]] = [[] for _ in range(likeness.count)]
        rungs, places, start = list[int](), list[int](), 0
        for k, step in enumerate(steps):
            data = step.data
            place = np.maximum(data.points.backbone[data.point], 0)
            blocks = int(data.block.max()) + 1
            backbone = np.zeros(blocks, dtype=int)
            backbone[data.block] = place
            rungs += [k] * blocks
            places += backbone.tolist()
            for run, point, block, value in zip(step.runs, data.point, data.block, data.value, strict=True):
                index = int(data.points.placement[point])
                runs[index].append((k, start + int(block), int(backbone[block]), run.seed, float(value)))
            start += blocks
        alike: defaultdict[tuple[tuple[int, ...], ...], list[int]] = defaultdict(list)
        for i, mine in enumerate(runs[: likeness.placements]):
            alike[tuple(run[:4] for run in mine)].append(i)
        groups = [self._group(pattern, members, runs) for pattern, members in alike.items()]
        if likeness.count > likeness.placements:
            sums = self._group((), list(range(likeness.placements, likeness.count)), runs)
            groups.append(replace(sums, own=0.0))
        return groups, np.array(rungs, dtype=np.intp), np.array(places, dtype=np.intp)

    def _group(
        self,
        pattern: tuple[tuple[int, ...], ...],
        members: list[int],
        runs: list[list[tuple[int, int, int, int, float]]],
    ) -> _Group:
        loads = np.array([self._load(k, backbone) for k, _, backbone, _ in pattern]).reshape(-1, len(self._target))
        noise = np.array([self._variances.noise[k] for k, *_ in pattern]).reshape(-1, len(self._variances.noise))
        same = np.array([[a[2:] == b[2:] for b in pattern] for a in pattern], dtype=bool).reshape(
            len(pattern), len(pattern)
        )
        own = self._own
        covariance = (loads * own) @ loads.T + np.where(same, noise @ noise.T, 0.0)
        inverse = np.linalg.inv(covariance) if len(pattern) else covariance
        toward = loads @ (own * self._target)
        tie = inverse @ toward
        left = float((own * self._target) @ self._target - tie @ toward)
        values = np.array([[run[4] for run in runs[i]] for i in members]).reshape(len(members), len(pattern))
        blocks = np.array([block for _, block, *_ in pattern], dtype=np.intp)
        return _Group(np.array(members), loads[:, self._used], blocks, inverse, values, tie, left)

    # ------------------------------------------------------------------------------------------- algebra

    def _solve(self) -> None:
        """Mean and covariance of the unknowns: the features' effects, slot by slot, then the levels."""
        p, slots, count = self._features.shape[1], int(self._used.sum()), len(self._level_rung)
        information = np.zeros((slots * p + count,) * 2)
        right = np.zeros(slots * p + count)
        for group in (g for g in self._groups if len(g.blocks)):
            features = self._features[group.members]
            levels_ = slots * p + group.blocks
            weighted = group.inverse @ group.loads
            gram, total = features.T @ features, features.sum(axis=0)
            information[: slots * p, : slots * p] += np.kron(group.loads.T @ weighted, gram)
            crossed = np.einsum("ms,p->msp", weighted, total).reshape(len(levels_), slots * p)
            np.add.at(information, levels_, np.pad(crossed, ((0, 0), (0, count))))
            np.add.at(information, np.ix_(levels_, levels_), len(group.members) * group.inverse)
            right[: slots * p] += (features.T @ (group.values @ weighted)).T.ravel()
            np.add.at(right, levels_, group.inverse @ group.values.sum(axis=0))
        information[: slots * p, slots * p :] = information[slots * p :, : slots * p].T
        scale = np.append(self._scale, np.ones(count))
        information *= np.outer(scale, scale)
        information[np.arange(slots * p), np.arange(slots * p)] += 1.0
        self._covariance = np.outer(scale, scale) * np.linalg.inv(information)
        self._root = scale[:, None] * np.linalg.inv(np.linalg.cholesky(information)).T
        self._solution = self._covariance @ right
        self._mean, self._variance = np.zeros((2, len(self._features)))
        for group in self._groups:
            effects = self._group_effects(group, self._solution[:, None])[:, 0]
            self._mean[group.members] = effects + group.values @ group.tie
            self._variance[group.members] = self._group_variance(group) + group.own

    def _weights(self, group: _Group) -> tuple[Floats, Floats]:
        """How the unknowns enter the placements of a group: (slots,) of their features, (levels,)."""
        level = np.zeros(len(self._level_rung))
        np.subtract.at(level, group.blocks, group.tie)
        return self._target[self._used] - group.tie @ group.loads, level

    def _group_effects(self, group: _Group, unknowns: Floats) -> Floats:
        """(n, k) for k columns of unknowns."""
        slots, level = self._weights(group)
        p = self._features.shape[1]
        shaped = unknowns[: len(slots) * p].reshape(len(slots), p, unknowns.shape[1])
        mixed = np.einsum("s,spk->pk", slots, shaped)
        return np.asarray(self._features[group.members] @ mixed + level @ unknowns[len(slots) * p :])

    def _group_variance(self, group: _Group) -> Floats:
        slots, level = self._weights(group)
        p = self._features.shape[1]
        inner = len(slots) * p
        shaped = self._covariance[:inner, :inner].reshape(len(slots), p, len(slots), p)
        mixed = np.einsum("s,spuq,u->pq", slots, shaped, slots)
        crossed = np.einsum(
            "s,spl,l->p", slots, self._covariance[:inner, inner:].reshape(len(slots), p, len(level)), level
        )
        features = self._features[group.members]
        found = np.einsum("ip,pq,iq->i", features, mixed, features, optimize=True) + 2 * features @ crossed
        return np.asarray(found + float(level @ self._covariance[inner:, inner:] @ level))

    def _row(self, index: int) -> Floats:
        """How the unknowns enter one placement."""
        group = next(g for g in self._groups if index in g.members)
        slots, level = self._weights(group)
        return np.concatenate((np.multiply.outer(slots, self._features[index]).ravel(), level))

    def _against(self, row: Floats) -> Floats:
        """(placements,) covariance of each placement's effect with a combination of the unknowns."""
        toward, found = (self._covariance @ row)[:, None], np.zeros(len(self._mean))
        for group in self._groups:
            found[group.members] = self._group_effects(group, toward)[:, 0]
        return found

    def _levels(self, scale: float | None) -> tuple[Levels, Floats]:
        """The study's level at the last rung, and its weights on the unknowns."""
        last = np.flatnonzero(self._level_rung == self._level_rung[-1])
        at = len(self._solution) - len(self._level_rung) + last
        inner = self._covariance[np.ix_(at, at)]
        apart = np.eye(len(at)) - 1 / len(at)
        variances = np.diag(apart @ inner @ apart.T)
        size = math.sqrt(float(self.nodes.weight @ self.nodes.noise**2))
        found = levels(self._solution[at], variances + 1e-6 * size**2, self._level_backbone[last], scale or size)
        reference = np.zeros(len(self._solution))
        reference[at] = found.weights
        return found, reference

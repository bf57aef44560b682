"""The exact posterior of one rung's effects: variances on a grid, everything else by one eigendecomposition per kernel.

A run of placement i on backbone b scores, at this rung,

    y = level of its block + effect[i, b] + e,      effect[i, b] = theta_i + phi_ib,

a block being all runs of one seed on one backbone, its level flat (no prior), e ~ N(0, s²), theta ~ N(0, t² K) and
phi ~ N(0, u² K) anew for each backbone (only where there are several). K is one of `kernels`. With a weight of `equal` all
theta are 0: nothing differs.

Where there is a rung below, its posterior is evidence: with the index 1 for it, both standardised,

    effect = t (rho effect_1 / t_1 + sqrt(1 - rho²) own),      e = s (eta e_1 / s_1 + sqrt(1 - eta²) own).

Runs have their own luck in common at all rungs (eta), which must not be taken for their placement's merit (rho). Given b =
eta s / s_1, the difference y - b y_1 of the same run has the effect a effect_1 / t_1 + t' own, a = t rho - b t_1, t' = t
sqrt(1 - rho²), and the noise s' = s sqrt(1 - eta²). So for each ratio a / t' on a grid, (s', t') cost nothing but sums over
eigenvalues. t_1, s_1 are plugged in; rho, eta, s, t, u and the kernel are integrated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence.data import Data
from nas_attn.analysis.evidence.kernels import Kernel, Likeness
from nas_attn.analysis.evidence.priors import Priors

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_NOISES = 20
_SPREADS = 24
"""Values of the noise and of (spread / noise) on the grid."""
_LEAST_SPREAD, _MOST_SPREAD = 0.02, 400.0
"""In units of the noise."""
_ETA = np.array([0.0, 0.45, 0.8])
_ETA_WIDTH = np.array([0.225, 0.4, 0.375])
"""Correlations between the noise of a run at this rung and at the one below, and the share of [0, 1] each stands for."""
_RATIO = np.array([-1.2, -0.5, 0.0, 0.4, 1.0, 2.2, 5.0])
_RATIO_WIDTH = np.gradient(_RATIO)
_TANGENT = np.geomspace(0.15, 6.0, 5)
"""Interaction / spread, u / t."""
_LEFT_OUT = 0.005
"""Share of the posterior that may be left out with the least likely parts."""
_NODES = 400
"""Nodes that stand for the posterior in the end."""


@dataclass(frozen=True, slots=True)
class Lower:
    """What the rung below says, standardised."""

    mean: Floats
    """(points,) posterior mean of the effects over `spread`."""
    covariance: Floats
    """(points, points)."""
    spread: float
    """t_1: typical spread of the effects there."""
    noise: float
    """s_1: one run's noise there."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """What the weight of a part's nodes takes."""

    kernel: Kernel | None
    """None: no placement differs from another."""
    tangent: float
    """u / t; 0 with one backbone, infinite where only the interaction differs from 0."""
    ratio: float
    """a / t'"""
    values: Floats
    """(k,) eigenvalues."""
    vectors: Floats
    """(runs, k)"""
    base: Floats
    """(k, 3) net values, earlier values, means that the rung below predicts, in the eigenvectors' coordinates."""


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes of the posterior that share a kernel, u / t and a / t'; as `_Draft`, with"""

    kernel: Kernel | None
    tangent: float
    ratio: float
    values: Floats
    base: Floats
    cross: Floats
    """(k, points) this part's covariance with the points, and"""
    cross_lower: Floats
    """(k, points) that of the rung below; (k, 0) without one."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """Weighted values of the variances."""

    part: Ints
    weight: Floats
    noise: Floats
    """s, of the whole."""
    spread: Floats
    """t, of the whole."""
    interaction: Floats
    """u, of the whole."""
    eta: Floats
    own_noise: Floats
    """s'"""
    own_size: Floats
    """t' = x s', or sqrt(t'² + u'²) with several backbones."""
    rho: Floats


class Rung:
    """The posterior of one rung."""

    def __init__(self, data: Data, likeness: Likeness, priors: Priors, lower: Lower | None = None) -> None:
        self.data, self.likeness, self.priors, self.lower = data, likeness, priors, lower
        self._net = data.net(data.value)
        self._earlier = np.zeros_like(self._net)
        if lower is not None:
            guess = lower.mean[data.point] * lower.spread
            self._earlier = data.net(np.where(np.isnan(data.earlier), guess, data.earlier)) / lower.noise
        self._etas = _ETA if lower is not None and np.isfinite(data.earlier).any() else _ETA[:1]
        runs = len(self._net)
        self._lower_mean, self._lower_inner = np.zeros(runs), np.zeros((runs, runs))
        if lower is not None:
            self._lower_mean = data.net(lower.mean[data.point])
            self._lower_inner = self._inner(lower.covariance[np.ix_(data.point, data.point)])
        self.parts, self.nodes = self._fitted([*self._parts(), *self._null_parts()])

    # ------------------------------------------------------------------------------------------- parts

    def _parts(self) -> Iterator[_Draft]:
        """One for each kernel, share of the interaction and share of the rung below."""
        tangents = [0.0] if self.data.points.backbones == 1 else [*_TANGENT, math.inf]
        for kernel in self.likeness.kernels:
            matrix = self.likeness.matrix(kernel)
            for tangent in tangents:
                prior = self._prior(matrix, tangent)
                ratios = [0.0] if self.lower is None or math.isinf(tangent) else _RATIO.tolist()
                yield from (self._draft(kernel, tangent, ratio, prior) for ratio in ratios)

    def _null_parts(self) -> Iterator[_Draft]:
        """All placements alike: with a rung below one for each eta, as y - b y_1 then has the effect -b effect_1."""
        if self.data.points.backbones > 1:
            return
        prior = np.zeros((len(self._net),) * 2)
        for eta in self._etas:
            yield self._draft(None, 0.0, -float(odds(eta)) * self.lower_reach, prior)

    @property
    def _kernel_mass(self) -> float:
        return sum(kernel.prior for kernel in self.likeness.kernels)

    @property
    def lower_reach(self) -> float:
        """t_1 / s_1 of the rung below; 0 without one."""
        return self.lower.spread / self.lower.noise if self.lower is not None else 0.0

    def _prior(self, matrix: Floats, tangent: float) -> Floats:
        """(runs, runs) prior covariance of the runs' effects, net of their blocks."""
        runs = self.data.point
        return self._inner(self.data.points.covariance(matrix, interaction_share(tangent), runs, runs))

    def _inner(self, covariance: Floats) -> Floats:
        return self.data.net(self.data.net(covariance).T)

    def _draft(self, kernel: Kernel | None, tangent: float, ratio: float, prior: Floats) -> _Draft:
        values, vectors = np.linalg.eigh(prior + ratio**2 * self._lower_inner)
        base = vectors.T @ np.column_stack((self._net, self._earlier, self._lower_mean))
        return _Draft(kernel, tangent, ratio, np.maximum(values, 0.0), vectors, base)

    def _finished(self, draft: _Draft) -> Part:
        """A draft that is worth it, with its covariances with all points."""
        runs, points = self.data.point, self.data.points
        cross, lower = np.zeros((len(runs), len(points))), np.zeros((len(runs), 0))
        if draft.kernel is not None:
            matrix, share = self.likeness.matrix(draft.kernel), interaction_share(draft.tangent)
            cross = points.covariance(matrix, share, runs, np.arange(len(points)))
        if self.lower is not None:
            lower = self.lower.covariance[runs]
            cross = cross + draft.ratio**2 * lower
        return Part(
            kernel=draft.kernel,
            tangent=draft.tangent,
            ratio=draft.ratio,
            values=draft.values,
            base=draft.base,
            cross=draft.vectors.T @ self.data.net(cross),
            cross_lower=draft.vectors.T @ self.data.net(lower),
        )

    # ------------------------------------------------------------------------------------------- weights

    def _fitted(self, drafts: list[_Draft]) -> tuple[list[Part], Nodes]:
        """Weights on a grid: first a wide one, then a fine one of the parts and values where there was anything."""
        low, high = self.priors.noises
        noises, sizes = np.geomspace(low, high, _NOISES), np.geomspace(_LEAST_SPREAD, _MOST_SPREAD, _SPREADS)
        weights = _relative([self._weigh(draft, noises, sizes) for draft in drafts])
        keep = _likeliest(np.array([float(w.sum()) for w in weights]))
        drafts, weights = [drafts[i] for i in keep], [weights[i] for i in keep]
        noises = _around(noises, np.sum([w.sum(axis=(0, 2)) for w in weights], axis=0))
        differing = [w.sum(axis=(0, 1)) for w in weights if w.shape[2] > 1]
        sizes = _around(sizes, np.sum(differing, axis=0)) if differing else sizes
        weights = _relative([self._weigh(draft, noises, sizes) for draft in drafts])
        return [self._finished(draft) for draft in drafts], self._kept(drafts, weights, noises, sizes)

    def _kept(self, parts: list[_Draft], weights: list[Floats], noises: Floats, sizes: Floats) -> Nodes:
        """Nodes drawn in even steps along the grid, so that they stand for all of it; the weight of "equal" is exact."""
        flat = np.concatenate([w.ravel() for w in weights])
        equal = np.concatenate([np.full(w.size, self._is_equal(p)) for w, p in zip(weights, parts, strict=True)])
        flat = _stratified(np.where(equal, flat, 0.0)) + _stratified(np.where(equal, 0.0, flat))
        chosen = np.flatnonzero(flat)
        starts = np.cumsum([0, *(w.size for w in weights)])
        found = []
        for number, part in enumerate(parts):
            mine = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])]
            e, i, j = np.unravel_index(mine - starts[number], weights[number].shape)
            eta, s = self._etas_of(part)[e], noises[i]
            x = np.ones(len(j)) if part.kernel is None else sizes[j]
            _, t, u, own_size, c = self._sizes(part, eta, s, x)
            columns = (np.full(len(mine), number), flat[mine], s, t, u, eta, s * np.sqrt(1 - eta**2), own_size)
            found.append((*columns, c / np.sqrt(1 + c**2)))
        part_, weight, *rest = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return Nodes(part_.astype(np.intp), weight / weight.sum(), *rest)

    def _is_equal(self, part: _Draft) -> bool:
        """Whether no placement is better than another, over all backbones."""
        return part.kernel is None or math.isinf(part.tangent)

    def _sizes(self, part: _Draft, eta: Floats, s: Floats, x: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """(s, t, u, size of this rung's own effects, c) in one shape; c / sqrt(1 + c²) = rho."""
        eta, s, x = np.broadcast_arrays(eta, s, x)
        own_size = x * s * np.sqrt(1 - eta**2)
        if part.kernel is None:
            return s, np.zeros_like(s), np.zeros_like(s), own_size, np.zeros_like(s)
        c = part.ratio + (0.0 if math.isinf(part.tangent) else self.lower_reach) * odds(eta) / x
        size = own_size * np.sqrt(1 + c**2)
        if math.isinf(part.tangent):
            return s, np.zeros_like(s), size, own_size, c
        cosine = 1 / math.sqrt(1 + part.tangent**2)
        return s, size * cosine, size * cosine * part.tangent, own_size, c

    def _weigh(self, part: _Draft, noises: Floats, sizes: Floats) -> Floats:
        """(etas, noises, sizes) log weight of the nodes of one part; one size only where nothing differs."""
        x = np.ones(1) if part.kernel is None else sizes
        etas = self._etas_of(part)
        return np.asarray(self.log_likelihood(part, etas, noises, x) + self._log_prior(part, etas, noises, x))

    def log_likelihood(self, part: _Draft, etas: Floats, noises: Floats, x: Floats) -> Floats:
        """(etas, noises, sizes) log density of the runs net of their blocks, given those of the rung below.

        Args:
            etas: correlations of a run's luck with that at the rung below.
            noises: s.
            x: t' / s'.
        """
        damped = 1 / (1 + np.multiply.outer(x**2, part.values))
        z, g, m = part.base.T
        zz, zg, zm, gg, gm, mm = (damped @ np.stack((z * z, z * g, z * m, g * g, g * m, m * m), axis=1)).T
        ratio = odds(etas)[:, None, None]
        own = noises[None, :, None] / np.sqrt(1 + ratio**2)
        slope = part.ratio * x
        squares = zz - 2 * own * (ratio * zg + slope * zm)
        squares = squares + own**2 * (ratio**2 * gg + 2 * ratio * slope * gm + slope**2 * mm)
        return np.asarray(0.5 * np.log(damped).sum(axis=1) - self.data.freedoms * np.log(own) - 0.5 * squares / own**2)

    def _etas_of(self, part: _Draft) -> Floats:
        if part.kernel is not None or self.lower is None:
            return self._etas
        return np.array([eta for eta in self._etas if -float(odds(eta)) * self.lower_reach == part.ratio][:1])

    def _log_prior(self, part: _Draft, etas: Floats, noises: Floats, x: Floats) -> Floats:
        """(etas, noises, sizes) log of prior density times the cell of the grid."""
        priors = self.priors
        widths = _ETA_WIDTH[np.searchsorted(_ETA, etas)] if len(self._etas) > 1 else np.ones(1)
        log = np.log(widths)[:, None, None] + priors.log_noise(noises)[None, :, None] + _log_step(noises)
        if part.kernel is None:
            return np.asarray(log + math.log(priors.equal))
        s, t, u, own_size, c = self._sizes(part, etas[:, None, None], noises[None, :, None], x[None, None, :])
        log = log + math.log(part.kernel.prior / self._kernel_mass) + _log_step(x)
        if math.isinf(part.tangent):
            return np.asarray(log + math.log(priors.equal) + priors.log_interaction(u, t, s) + np.log(u))
        log = log + math.log(1 - priors.equal) + priors.log_spread(t, s) + np.log(own_size)
        if part.tangent:
            step = math.log(_TANGENT[1] / _TANGENT[0])
            log = log + priors.log_interaction(u, t, s) + np.log(t * u) - np.log(np.hypot(t, u)) + math.log(step)
        if self.lower is not None:
            width = float(_RATIO_WIDTH[np.searchsorted(_RATIO, part.ratio)])
            log = log + np.where(c >= 0, math.log(width) - np.log1p(c**2), -np.inf)
        return np.asarray(log)


def interaction_share(tangent: float) -> float:
    """Share of the interaction in the variance of an effect on one backbone."""
    return 1.0 if math.isinf(tangent) else tangent**2 / (1 + tangent**2)


def parts_of(data: Data, *, below: bool) -> int:
    """About how many eigendecompositions the posterior of a rung takes."""
    return 3 * (1 if data.points.backbones == 1 else 1 + len(_TANGENT)) * (len(_RATIO) if below else 1) + 1


def odds(eta: Floats | float) -> Floats:
    return np.asarray(eta / np.sqrt(1 - np.asarray(eta) ** 2))


def _relative(logs: list[Floats]) -> list[Floats]:
    top = max(float(log.max()) for log in logs)
    return [np.exp(log - top) for log in logs]


def _likeliest(weights: Floats) -> list[int]:
    """Indices of those that hold nearly all of the weight, in order."""
    order = np.argsort(-weights)
    share = np.cumsum(weights[order]) / weights.sum()
    return sorted(order[: int(np.searchsorted(share, 1 - _LEFT_OUT)) + 1].tolist())


def _stratified(weights: Floats) -> Floats:
    """The same total weight on at most _NODES entries, drawn in even steps of the cumulative weight."""
    total = float(weights.sum())
    if total <= 0:
        return weights
    steps = (np.arange(_NODES) + 0.5) / _NODES * total
    hits = np.searchsorted(np.cumsum(weights), steps)
    return np.bincount(np.minimum(hits, len(weights) - 1), minlength=len(weights)) * total / _NODES


def _log_step(grid: Floats) -> float:
    """Log of the step of a geometric grid."""
    return math.log(math.log(grid[1] / grid[0])) if len(grid) > 1 else 0.0


def _around(grid: Floats, weight: Floats) -> Floats:
    """As many values between those that hold any weight."""
    held = np.flatnonzero(weight > 1e-4 * weight.max())
    first, last = max(int(held[0]) - 1, 0), min(int(held[-1]) + 1, len(grid) - 1)
    return np.geomspace(grid[first], grid[last], len(grid))

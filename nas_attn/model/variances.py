"""The posterior of all variances, by adaptive importance sampling, and the linear model at each of
its nodes.

Hypotheses are weighed: placements differ, they differ in the search and not at the target, only
where a second witness looks, or nowhere. Variances are drawn from proposals fitted to the rounds
before (Cornuet et al. 2012, arXiv:0907.1254) and weighted with the marginal likelihood, the rungs'
means integrated out, in units of the search's noise, which is on a grid. The generator is fixed:
equal runs give equal answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np

from nas_attn.model.assembling import Data
from nas_attn.model.coding import Floats, Ints, Shape
from nas_attn.model.hypotheses import NOISES, Draws, Hypothesis

# draws of a round; more where there are more parameters
DRAWS_PER_ROUND = 44
EQUAL_ROUND = 30
# rounds
FEWEST_DRAWING_ROUNDS = 4
MOST_DRAWING_ROUNDS = 32
# effective number of draws after which no round follows
ENOUGH_DRAWS = 100
# a hypothesis so much less likely than another (natural logarithm) is given up, once it has had so
# many rounds: what it is found to be grows while they come nearer to its best parameters
GIVEN_UP = 80.0
FEWEST_TO_GIVE_UP = 8
# of n runs at most CHEAP / n draws are asked for, as the equations of many runs take long
CHEAP = 6400
# degrees of freedom of the proposals
TAILS = 6
# draws that stand for the posterior in the end; fewer from so many runs on
NODES = 48
FEW_NODES = 8
MANY_RUNS = 300
LEAST_VARIANCE = 1e-9
# beyond all squares, so that a bordered covariance has a root
BORDER = 1e300
# posteriors that a process remembers
REMEMBERED = 64
# numbers in the covariances that are solved together
AT_ONCE = 2**17
# where no placement differs: prior probability that a second witness sees differences all the same,
# as in networks of which some are only more confident
ONLY_WITNESSED = 0.5


@dataclass(frozen=True, slots=True)
class ParameterProposal:
    """A multivariate t distribution of the parameters (`root` is lower triangular), and
    probabilities of the shapes.
    """

    middle: Floats
    root: Floats
    shapes: Floats

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Ints, Floats]:
        normal = rng.standard_normal((count, len(self.middle)))
        stretch = np.sqrt(TAILS / rng.chisquare(TAILS, count))[:, None]
        return rng.choice(len(self.shapes), count, p=self.shapes), self.middle + stretch * (
            normal @ self.root.T
        )


def _log_densities(proposals: Sequence[ParameterProposal], shape: Ints, z: Floats) -> Floats:
    """(m,) logarithms of the sum of the proposals' densities at each draw."""
    d = z.shape[1]
    roots = np.stack([p.root for p in proposals])
    # (proposals, m, d)
    off = z - np.stack([p.middle for p in proposals])[:, None]
    squares = (np.linalg.solve(roots, off.swapaxes(1, 2)) ** 2).sum(axis=1)
    scale = (
        math.lgamma((TAILS + d) / 2) - math.lgamma(TAILS / 2) - 0.5 * d * math.log(TAILS * math.pi)
    )
    logs = scale - _half_log(roots)[:, None] - 0.5 * (TAILS + d) * np.log1p(squares / TAILS)
    return np.asarray(
        np.logaddexp.reduce(
            logs + np.log(np.stack([p.shapes for p in proposals]))[:, shape], axis=0
        )
    )


@dataclass(frozen=True, slots=True)
class Solved:
    """The equations at one draw: root⁻¹ times the values and the rungs' indicators, and what the
    rungs' means are.
    """

    root: Floats
    value: Floats
    means: Floats
    # (rungs, rungs) root of the means' information
    inner: Floats
    # (rungs,)
    projected: Floats

    @property
    def rung_means(self) -> Floats:
        return np.asarray(np.linalg.solve(self.inner.T, self.projected))

    @property
    def residual(self) -> Floats:
        return self.value - self.means @ self.rung_means


class Algebra:
    """The covariance of the runs for given variances, and what follows from it.

    Between the runs of two rungs, it is a weighted sum of the same few matrices at every draw: runs
    of one training, of one block, of one backbone, and the kernel of each shape, over all backbones
    and within one.
    """

    def __init__(self, data: Data, shapes: Sequence[Shape]) -> None:
        self.data = data
        self.shapes = list(shapes)
        self.means = (np.arange(data.rungs)[:, None] == data.rung).T.astype(np.float64)
        ends = np.cumsum(np.bincount(data.rung)).tolist()
        # runs are in the order of their rungs
        spans = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        terms = self._terms()
        # spans of a rung and of one not above it -> (terms, runs * runs) numbers
        self._terms_between = {
            (a, b): (spans[a], spans[b], terms[:, spans[a], spans[b]].reshape(len(terms), -1))
            for a in range(data.rungs)
            for b in range(a + 1)
        }

    def _terms(self) -> Floats:
        """(terms, runs, runs) what `_weights` are weights of."""
        data = self.data
        same_backbone, same_block, same_run = (
            (of[:, None] == of).astype(np.float64) for of in (data.backbone, data.block, data.run)
        )
        same_run += np.diag(data.weight - 1)
        same_placement = np.eye(len(data.codes))
        kernels = []
        for shape in self.shapes:
            kernel = data.coding.kernel(shape, data.codes, data.codes) + shape.own * same_placement
            kernels.append(kernel[np.ix_(data.place, data.place)])
        terms = [same_run, same_block, same_backbone, *kernels]
        if data.backbones > 1:
            terms += [same_backbone * kernel for kernel in kernels]
        return np.stack(terms) * (1 + LEAST_VARIANCE * np.eye(len(data.run)))

    def _weights(self, draws: Draws, a: int, b: int) -> Floats:
        """(m, terms) of the terms in the covariance of the runs at two rungs."""
        noise = draws.noise[:, a] * draws.noise[:, b] * draws.eta[:, a, b]
        of_shape = np.eye(len(self.shapes))[draws.shape]
        spread = draws.spread[:, a] * draws.spread[:, b] * draws.rho[:, a, b]
        weights = [
            noise[:, None],
            (noise * draws.levels[:, a] * draws.levels[:, b])[:, None],
            (noise * draws.backbones**2)[:, None],
            of_shape * spread[:, None],
        ]
        if self.data.backbones > 1:
            within = draws.interaction[:, a] * draws.interaction[:, b] * draws.rho[:, a, b]
            weights.append(of_shape * within[:, None])
        return np.concatenate(weights, axis=1)

    def covariances(self, draws: Draws, border: int = 0) -> Floats:
        """Returns the covariances of the runs in units of the noise's square.

        They are (m, runs + border, runs + border), with zeros in the border and right of the
        diagonal's blocks, which nothing reads.
        """
        size = len(self.means) + border
        covariances = np.zeros((len(draws.shape), size, size))
        for (a, b), (rows, columns, terms) in self._terms_between.items():
            weights = self._weights(draws, a, b)
            between = weights @ terms
            covariances[:, rows, columns] = between.reshape(
                len(weights), rows.stop - rows.start, columns.stop - columns.start
            )
        return covariances

    def solve(self, draws: Draws, i: int, values: Floats | None = None) -> Solved:
        """The equations at one draw, for the runs' or other values; LinAlgError where the
        covariance is singular.
        """
        return Solved(*(part[0] for part in self._solved(draws.some(slice(i, i + 1)), values)))

    def sums(self, draws: Draws) -> tuple[Floats, Floats]:
        """(log determinants / 2, squares), each (m,): what the likelihood needs, the rungs' means
        integrated out.
        """
        count = len(draws.shape)
        if count == 1 or count * len(self.means) ** 2 <= AT_ONCE:
            try:
                root, value, _, inner, projected = self._solved(draws)
                squares = (value**2).sum(axis=1) - (projected**2).sum(axis=1)
                return _half_log(root) + _half_log(inner), np.maximum(squares, 1e-300)
            except np.linalg.LinAlgError:
                # a covariance is singular
                if count == 1:
                    return np.full(1, np.inf), np.ones(1)
        halves = [
            self.sums(draws.some(half)) for half in (slice(count // 2), slice(count // 2, None))
        ]
        sizes, squares = (np.concatenate(part) for part in zip(*halves, strict=True))
        return sizes, squares

    def _solved(self, draws: Draws, values: Floats | None = None) -> tuple[Floats, ...]:
        """What `Solved` holds, at all draws. The last rows of the root of a bordered covariance are
        root⁻¹ times the border.
        """
        border = np.column_stack((self.data.value if values is None else values, self.means)).T
        runs = len(self.means)
        bordered = self.covariances(draws, len(border))
        bordered[:, runs:, :runs] = border
        corner = np.arange(runs, runs + len(border))
        bordered[:, corner, corner] = BORDER
        root = np.asarray(np.linalg.cholesky(bordered), dtype=np.float64)
        value = root[:, runs, :runs]
        means = root[:, runs + 1 :, :runs].swapaxes(1, 2)
        inner = np.asarray(np.linalg.cholesky(means.swapaxes(1, 2) @ means), dtype=np.float64)
        projected = np.asarray(
            np.linalg.solve(inner, means.swapaxes(1, 2) @ value[:, :, None])[:, :, 0],
            dtype=np.float64,
        )
        return root[:, :runs, :runs], value, means, inner, projected


def _half_log(roots: Floats) -> Floats:
    """(m,) half the logarithms of the determinants that belong to these roots (m, n, n)."""
    return np.asarray(np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1))


def solved_by(root: Floats, right: Floats, *, transposed: bool = False) -> Floats:
    """root⁻¹ times the right side, of a lower triangular root."""
    from scipy.linalg.lapack import dtrtrs

    return np.asarray(dtrtrs(root, right, lower=1, trans=int(transposed))[0])


@dataclass(frozen=True, slots=True)
class Nodes:
    """k draws that stand for the posterior, with weights that add up to 1, and the noise of one run
    at the last rung of the search.
    """

    shapes: Sequence[Shape]
    draws: Draws
    weight: Floats
    # (k,) in the metric's unit
    noise: Floats


@dataclass(frozen=True)
class _Question:
    """Data and shapes, equal to others of the same content."""

    content: Hashable
    data: Data = field(compare=False)
    shapes: Sequence[Shape] = field(compare=False)


_Weighed = tuple[Draws, Floats, Floats]
"""Draws, (m, NOISES) log weights that add up to a hypothesis' log prior and marginal likelihood,
(m, NOISES) noises.
"""


def posterior(data: Data, shapes: Sequence[Shape]) -> Nodes:
    """The posterior of the variances.

    The last ones are remembered: the front, the answer and the report of a study ask for the same.
    """
    return _posterior(_Question((data.content, tuple(shapes)), data, shapes))


def forget() -> None:
    """Forgets the posteriors, for whoever changes how they are found."""
    _posterior.cache_clear()


@lru_cache(maxsize=REMEMBERED)
def _posterior(question: _Question) -> Nodes:
    data = question.data
    shapes = question.shapes
    rng = np.random.default_rng(0)
    shapes = data.coding.shapes(shapes)
    null = data.equal
    target = data.target
    witnessed = ONLY_WITNESSED * data.witness * null
    hypotheses = (
        (data.rungs, DRAWS_PER_ROUND, (1 - null) * (1 - target * null)),
        (0, EQUAL_ROUND, null - witnessed),
        (1, EQUAL_ROUND, witnessed),
        (data.searched + 1, EQUAL_ROUND, target * null * (1 - null)),
    )
    weighed = list[_Weighed]()
    best = -math.inf
    for differ, count, prior in hypotheses:
        if prior:
            family = Hypothesis(data, shapes, differ)
            weighed.append(_sampled(family, count, math.log(prior), rng, least=best - GIVEN_UP))
            best = max(best, float(np.logaddexp.reduce(weighed[-1][1], axis=None)))
    return _kept(weighed, shapes, NODES if len(data.value) < MANY_RUNS else FEW_NODES)


def _sampled(
    family: Hypothesis, count: int, prior: float, rng: np.random.Generator, *, least: float
) -> _Weighed:
    """Draws the parameters of a hypothesis.

    Args:
        family: the hypothesis.
        count: draws of a round, before it is fitted to the number of parameters.
        prior: logarithm of the hypothesis' probability.
        rng: of the draws.
        least: logarithm of the posterior mass, below which the hypothesis is given up.
    """
    algebra = Algebra(family.data, family.shapes)
    proposals = [ParameterProposal(family.middle, np.diag(family.width), family.prior)]
    freedoms = len(algebra.data.value) - algebra.data.rungs
    shape = np.zeros(0, dtype=np.intp)
    z = np.zeros((0, len(family.middle)))
    (logs, noises) = np.zeros((2, 0, NOISES))
    (mass, density) = np.zeros((2, 0))
    enough = min(ENOUGH_DRAWS, CHEAP / len(family.data.value))
    count = int(count * np.clip(0.08 * len(family.middle) ** 2, 0.8, 3.0))
    while True:
        new_shape, new_z = proposals[-1].draw(rng, count)
        draws = family.draws(new_shape, new_z)
        sizes, squares = algebra.sums(draws)
        s = family.noises(squares)
        target = family.log_prior(draws, new_z, s) + np.log(np.log(s[:, 1] / s[:, 0]))[:, None]
        target = target - sizes[:, None] - freedoms * np.log(s) - 0.5 * squares[:, None] / s**2
        # of the proposals' sum
        density = np.logaddexp(density, _log_densities(proposals[-1:], shape, z))
        density = np.append(density, _log_densities(proposals, new_shape, new_z))
        shape = np.append(shape, new_shape)
        z = np.concatenate((z, new_z))
        logs = np.concatenate((logs, target))
        noises = np.concatenate((noises, s))
        mass = np.append(mass, np.logaddexp.reduce(target, axis=1))
        weights = mass - density
        rounds = len(proposals)
        found = prior + float(np.logaddexp.reduce(weights)) - math.log(len(z) / rounds)
        if rounds >= FEWEST_DRAWING_ROUNDS and (
            _effective(weights) >= enough or rounds == MOST_DRAWING_ROUNDS
        ):
            break
        if rounds >= FEWEST_TO_GIVE_UP and found < least:
            break
        proposals.append(_fitted(family, shape, z, weights))
    mixed = density + math.log(len(z) / rounds)
    return family.draws(shape, z), logs - mixed[:, None] + prior, noises


def _effective(logs: Floats) -> float:
    """Effective number of draws with these log weights."""
    weights = np.exp(logs - logs.max())
    return float(weights.sum() ** 2 / (weights**2).sum())


def _fitted(family: Hypothesis, shape: Ints, z: Floats, logs: Floats) -> ParameterProposal:
    power = 1.0
    enough = min(2.0 * len(family.middle) + 8, 0.5 * len(z))
    while power > 0.05 and _effective(power * logs) < enough:
        power *= 0.8
    weights = np.exp(power * (logs - logs.max()))
    weights /= weights.sum()
    middle = weights @ z
    off = z - middle
    covariance = (off.T * weights) @ off + np.diag((0.15 * family.width) ** 2)
    shapes = (
        0.85 * np.bincount(shape, weights=weights, minlength=len(family.shapes))
        + 0.15 * family.prior
    )
    root = np.asarray(np.linalg.cholesky(1.2 * covariance), dtype=np.float64)
    return ParameterProposal(middle, root, shapes / shapes.sum())


def _kept(weighed: Sequence[_Weighed], shapes: Sequence[Shape], count: int) -> Nodes:
    """Nodes drawn in even steps along the weights; the weight of "equal" is exact."""
    top = max(float(logs.max()) for _, logs, _ in weighed)
    shares = [np.exp(logs - top) for _, logs, _ in weighed]
    total = sum(float(w.sum()) for w in shares)
    parts = list[Draws]()
    weight = list[Floats]()
    noise = list[Floats]()
    for (draws, _, noises), w in zip(weighed, shares, strict=True):
        mass = float(w.sum()) / total
        if mass <= 1e-4:
            continue
        many = max(round(count * mass), 8)
        order = np.lexsort((draws.interaction[:, -1], draws.spread[:, -1]))
        below = np.cumsum(w[order].ravel())
        hits = np.searchsorted(below, (np.arange(many) + 0.5) / many * below[-1])
        i, g = np.divmod(np.minimum(hits, w.size - 1), NOISES)
        parts.append(draws.some(order[i]))
        weight.append(np.full(many, mass / many))
        noise.append(noises[order[i], g])
    weights = np.concatenate(weight)
    joined = Draws(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Draws))
    )
    nodes = Nodes(shapes, joined, weights / weights.sum(), np.concatenate(noise))
    # it is remembered, so nobody may change it
    for array in (
        nodes.weight,
        nodes.noise,
        *(getattr(joined, part.name) for part in fields(joined)),
    ):
        array.setflags(write=False)
    return nodes

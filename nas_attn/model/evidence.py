"""What all runs of a study say about one metric: every rung, seed, backbone and purpose, read together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import ALONE, SHAPES, Shape
from nas_attn.model.facts import Estimate, Gain, Noise, Run, Source
from nas_attn.model.images import NewImages
from nas_attn.model.mixture import cdf, interval
from nas_attn.model.runs import Assembled, Data, assemble, coded
from nas_attn.model.variances import JITTER, Algebra, Draws, Nodes, Solved, cross, posterior
from nas_attn.tasks import SHARES

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

Sum = Sequence[tuple[str, float]]
"""A weighted sum of placements' shared effects, (explicit notation, weight): what their sites and types do."""
TINY = 1e-300
CERTAIN, POWER = 1.645, 0.842
"""Standard deviations of 95 % certainty, and of 80 % power."""

REPEATS = 3
"""Repetitions without any difference from which on a metric that is no share of images is known to have no noise."""


class Evidence:
    """The fitted model of one metric at one rung; `fit` makes it. It is solved when the first answer is asked of it.

    Attributes:
        metric: its name.
        rung: the rung that the answers are about.
        keys: all placements, the evaluated ones first.
    """

    def __init__(
        self, runs: Assembled, placements: Mapping[str, str], metric: str, *, lower: bool, known: Solution | None = None
    ) -> None:
        self.metric, self.lower_is_better, self.keys, self.rung = metric, lower, runs.keys, runs.rung
        self._runs, self._placements, self._known = runs, dict(placements), known
        self._sign = -1.0 if lower else 1.0
        self._index = {key: i for i, key in enumerate(self.keys)}
        self._gains: defaultdict[str, dict[str, Gain]] = defaultdict(dict)

    # ------------------------------------------------------------------------------------------- answers

    @property
    def backbones(self) -> int:
        """How many the runs started from. With several, a placement's value is its mean over all possible backbones."""
        return self._data.backbones

    @property
    def two_values(self) -> tuple[float, float] | None:
        """The values at which the runs lie, the worse one first, where they lie at two: chance decides from run to run."""
        two = self._runs.two
        return None if two is None else (self._sign * two[0], self._sign * two[1])

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Every placement's expected score at this rung, those that had no run there included."""
        if self._constant:
            return {key: self._same(key) for key in self.keys}
        means, variances = self._effects.values()
        shift = np.array([self._runs.excess.get(key, 0.0) for key in self.keys])
        weight = self._nodes.weight
        mean = weight @ means
        sd = np.sqrt(weight @ (variances + (means - mean) ** 2))
        low, high = interval(weight, means, np.sqrt(variances))
        new = None
        if self._images is not None:
            new = interval(weight, means, np.sqrt(variances + self._images.value()))
        found = {}
        exact = {run.key: run.value for run in self._runs.last} if self._exact else {}
        for i, key in enumerate(self.keys):
            raw, count = self._runs.raw.get(key, (None, 0))
            if key in exact:  # not its mean, which rounding may move by a bit: enough to be on the front
                found[key] = Estimate(exact[key], 0.0, exact[key], exact[key], None, None, raw, count)
                continue
            least, most = self._turned(low[i] + shift[i], high[i] + shift[i])
            new_low, new_high = (
                (None, None) if new is None else self._turned(new[0][i] + shift[i], new[1][i] + shift[i])
            )
            found[key] = Estimate(
                self._sign * float(mean[i] + shift[i]), float(sd[i]), least, most, new_low, new_high, raw, count
            )
        return found

    def gain(self, a: str, b: str) -> Gain | None:
        """How much better `a` is than `b`. None where either is unknown, or nothing can be said of differences."""
        return self.gains(b, [a]).get(a) if a in self._index else None

    def gains(self, over: str, keys: Sequence[str] | None = None) -> dict[str, Gain]:
        """How much better each of some placements is than one; empty where nothing can be said of differences.

        Args:
            over: what they are compared with.
            keys: the placements; None: all.
        """
        if over not in self._index or len(self._runs.last) < 2:
            return {}
        wanted, known = self.keys if keys is None else keys, self._gains[over]
        missing = [key for key in wanted if key not in known]
        if missing:
            known |= self._gains_over(over, missing)
        return {key: known[key] for key in wanted}

    @cached_property
    def noise(self) -> Noise:
        """How much runs of one placement differ."""
        counts, runs = [count for _, count in self._runs.raw.values()], len(self._runs.last)
        repeated, floor = sum(count > 1 for count in counts), self._data.priors[-1].floor
        source: Source = "seeds" if repeated else "images" if floor else "assumed"
        binomial = self._binomial_sd
        if self._constant:
            return Noise(self.metric, 0.0, 0.0, 0.0, 0.0, source, repeated, runs, binomial, None, 0.0, None, None)
        if runs < 2:
            return Noise(self.metric, None, None, None, None, "none", repeated, runs, binomial, *[None] * 4)
        nodes, weight = self._nodes, self._nodes.weight
        at = [(draws, i) for draws, i in nodes.draws]
        order = np.argsort(nodes.noise)
        below = np.cumsum(weight[order])
        low, high = (float(nodes.noise[order][int(np.searchsorted(below, q * below[-1]))]) for q in (0.025, 0.975))
        square = float(weight @ nodes.noise**2)
        levels = np.array([draws.seeds[i] ** 2 for draws, i in at])
        several = self.backbones > 1
        return Noise(
            metric=self.metric,
            seed_sd=math.sqrt(float(weight @ (nodes.noise**2 * (1 + levels)))),
            paired_sd=math.sqrt(square),
            paired_low=low,
            paired_high=high,
            source=source,
            repeated=repeated,
            runs=runs,
            binomial_sd=binomial,
            images_sd=floor,
            between_sd=float(weight @ (nodes.noise * [draws.spread[i, -1] for draws, i in at])),
            interaction_sd=float(weight @ self._interactions) if several else None,
            correlation=float(weight @ [draws.rho[i] for draws, i in at]) if self._data.rungs > 1 else None,
        )

    def pairs(self, a: str, b: str) -> int:
        """Seeds (on one backbone) with which both ran to the rung of the answers."""
        seeds = {key: {(r.seed, r.backbone) for r in self._runs.last if r.key == key} for key in (a, b)}
        return len(seeds[a] & seeds[b])

    def detectable(self, pairs: int) -> float:
        """The difference between two placements that so many more pairs of runs would show.

        Shown: said with 95 % certainty in 80 % of cases, from these pairs alone, by the posterior mean of the noise.
        """
        variance = 2 * self._nodes.noise**2 / pairs
        if self.backbones > 1:
            variance = variance + 2 * self._interactions**2 / min(pairs, self.backbones)
        return (CERTAIN + POWER) * math.sqrt(float(self._nodes.weight @ variance))

    def including(self, placements: Mapping[str, str]) -> Evidence:
        """The model with further placements, which changes nothing for the others; key -> explicit notation as in `fit`."""
        new = {key: text for key, text in placements.items() if key not in self._index}
        if not new:
            return self
        every = {**self._placements, **new}
        keys = (*self.keys, *sorted(new))
        runs = replace(self._runs, data=recoded(self._data, [every[key] for key in keys]), keys=keys)
        return Evidence(runs, every, self.metric, lower=self.lower_is_better, known=self._solution)

    def effects(self, sums: Mapping[str, Sum]) -> dict[str, Gain]:
        """What choices do wherever they stand: sums of placements' shared effects, without what is a placement's own.

        Nothing is said of new images. Empty where nothing can be said of differences.

        Args:
            sums: name -> (explicit notation, weight) whose weights add up to 0, as in `{"se": [("stage1=se", 1), ("none", -1)]}`.
        """
        if len(self._runs.last) < 2 or not sums:
            return {}
        if self._constant:
            return {name: _gain(np.append(np.zeros(7), np.full(3, np.nan))) for name in sums}
        texts = sorted({text for found in sums.values() for text, _ in found})
        at = {text: i for i, text in enumerate(texts)}
        data = recoded(self._data, [*(self._placements[key] for key in self.keys), *texts])
        effects = Effects(self._solution, data, data.coding.codes(texts), np.full(len(texts), -1))
        weights = np.zeros((len(sums), len(texts)))
        for row, found in zip(weights, sums.values(), strict=True):
            for text, weight in found:
                row[at[text]] += weight
        columns = self._columns(*effects.combined(weights))
        return {name: _gain(np.append(row, np.full(3, np.nan))) for name, row in zip(sums, columns, strict=True)}

    def draw(self, rng: np.random.Generator, count: int, keys: Sequence[str] | None = None) -> Floats:
        """(count, placements) joint draws of expected scores, of some placements or all, in the order of `keys`."""
        wanted = self.keys if keys is None else keys
        if self._constant:
            return np.full((count, len(wanted)), self._runs.last[0].value)
        shift = np.array([self._runs.excess.get(key, 0.0) for key in wanted])
        some = np.array([self._index[key] for key in wanted], dtype=np.intp)
        return np.asarray(self._sign * (self._effects.draws(rng, count, some) + shift))

    # ------------------------------------------------------------------------------------------- inside

    @property
    def _data(self) -> Data:
        return self._runs.data

    @cached_property
    def _solution(self) -> Solution:
        return self._known or Solution(self._data)

    @property
    def _nodes(self) -> Nodes:
        return self._solution.nodes

    @cached_property
    def _effects(self) -> Effects:
        codes = self._data.coding.codes([self._placements[key] for key in self.keys])
        evaluated = len(self._data.codes)
        return Effects(
            self._solution, self._data, codes, np.where(np.arange(len(codes)) < evaluated, np.arange(len(codes)), -1)
        )

    @cached_property
    def _interactions(self) -> Floats:
        """(nodes,) placement x backbone at the last rung."""
        return np.asarray(self._nodes.noise * np.array([draws.interaction[i, -1] for draws, i in self._nodes.draws]))

    @property
    def _binomial_sd(self) -> float | None:
        examples = max(run.examples for run in self._runs.last)
        p = float(np.median([run.value for run in self._runs.last]))
        if self.metric != "accuracy" or not examples or not 0 < p < 1:
            return None
        return math.sqrt(p * (1 - p) / examples)

    @cached_property
    def _constant(self) -> bool:
        """Whether all of several runs came out the same: then nothing differs, as far as can be seen."""
        values = [run.value for run in self._runs.last]
        return len(values) > 1 and min(values) == max(values)

    @cached_property
    def _exact(self) -> bool:
        """Whether repeated runs always came out the same, as a size does: then a run says all, with nothing to be shrunk."""
        values = defaultdict[str, list[float]](list)
        for run in self._runs.last:
            values[run.key].append(run.value)
        repeated = [found for found in values.values() if len(found) > 1]
        if self.metric in SHARES or len(repeated) < 2 or sum(len(found) - 1 for found in repeated) < REPEATS:
            return False
        return all(min(found) == max(found) for found in repeated)

    def _same(self, key: str) -> Estimate:
        value = self._runs.last[0].value
        raw, count = self._runs.raw.get(key, (None, 0))
        return Estimate(value, 0.0, value, value, None, None, raw, count)

    def _turned(self, low: float, high: float) -> tuple[float, float]:
        """An interval in the metric's own direction."""
        ends = sorted((self._sign * float(low), self._sign * float(high)))
        return ends[0], ends[1]

    @cached_property
    def _images(self) -> NewImages | None:
        found = NewImages(self._runs.last) if self.metric == "accuracy" else None
        return found if found is not None and found.known else None

    def _gains_over(self, over: str, keys: Sequence[str]) -> dict[str, Gain]:
        if self._constant:
            return {key: _gain(np.append(np.zeros(7), np.full(3, np.nan))) for key in keys}
        j, targets = self._index[over], np.array([self._index[key] for key in keys], dtype=np.intp)
        means, variances = self._effects.gains(j, targets)
        means = means + [self._runs.excess.get(key, 0.0) - self._runs.excess.get(over, 0.0) for key in keys]
        columns = np.concatenate((self._columns(means, variances), np.full((len(keys), 3), np.nan)), axis=1)
        if self._images is not None:
            added = np.array([self._images.gain(key, over) for key in keys])
            better = (self._untied(means, variances) * cdf(means / np.sqrt(variances + added + TINY))).sum(axis=0)
            low, high = interval(self._nodes.weight, means, np.sqrt(variances + added))
            columns[:, 7:] = np.stack((low, high, better), axis=1)
        columns[targets == j] *= 0.0
        return {key: _gain(row) for key, row in zip(keys, columns, strict=True)}

    def _untied(self, means: Floats, variances: Floats) -> Floats:
        """(m, k) weights of the nodes, 0 where they hold a difference to be none."""
        return np.asarray(self._nodes.weight[:, None] * (variances + np.abs(means) > 0))

    def _columns(self, means: Floats, variances: Floats) -> Floats:
        """(k, 7) what a `Gain` says of these images, from means and variances (m, k) of differences at the nodes."""
        weight = self._nodes.weight
        mean = weight @ means
        sd = np.sqrt(weight @ (variances + (means - mean) ** 2))
        untied, z = self._untied(means, variances), means / np.sqrt(variances + TINY)
        better, worse = (untied * cdf(z)).sum(axis=0), (untied * cdf(-z)).sum(axis=0)
        low, high = interval(weight, means, np.sqrt(variances))
        next_sd = np.sqrt(sd**2 + 2 * float(weight @ self._interactions**2)) if self.backbones > 1 else sd
        return np.array((mean, sd, low, high, better, worse, next_sd)).T


class Solution:
    """The variances of some runs, and the equations at each node."""

    def __init__(self, data: Data, shapes: Sequence[Shape] = SHAPES) -> None:
        self.data = data
        self.nodes = posterior(data, shapes)
        self.shapes = data.coding.shapes(shapes) or [ALONE]
        self.algebra = Algebra(data, self.shapes)
        self._solved: dict[tuple[int, int], Solved] = {}

    def at(self, draws: Draws, i: int) -> Solved:
        """The equations at a draw, solved once."""
        where = id(draws), i
        if where not in self._solved:
            self._solved[where] = self.algebra.solve(draws, i)
        return self._solved[where]


class Effects:
    """Effects of some placements at each node of a solution, in the runs' unit."""

    def __init__(self, solution: Solution, data: Data, codes: NDArray[np.intp], place: Ints) -> None:
        """Args:
        data: the solution's runs, with a coding that knows the targets.
        codes: (targets, sites); `place` (targets,): which evaluated placement each is, -1 for none of them.
        """
        self._solution, self._data, self._codes, self._place = solution, data, codes, place
        self._diagonals: dict[int, Floats] = {}
        self._made: dict[tuple[int, int], tuple[Floats, Floats, Floats]] = {}

    def values(self) -> tuple[Floats, Floats]:
        """(nodes, targets) means and variances of the expected scores."""
        rows = []
        for (draws, i), noise in self._each():
            solved = self._solution.at(draws, i)
            mean, across, down = self._parts(draws, i)
            top = np.linalg.solve(solved.inner, np.eye(len(solved.inner))[-1])
            own = draws.spread[i, -1] ** 2 * self._diagonal(draws, i)
            variance = own - (across**2).sum(axis=0) + ((top[:, None] - down) ** 2).sum(axis=0)
            rows.append((solved.rung_means[-1] + mean, noise**2 * np.maximum(variance, 0.0)))
        return np.array([m for m, _ in rows]), np.array([v for _, v in rows])

    def gains(self, over: int, targets: Ints) -> tuple[Floats, Floats]:
        """(nodes, m) means and variances of how much better the targets are than one; both 0 where nothing differs."""
        rows = []
        for (draws, i), noise in self._each():
            mean, across, down = self._parts(draws, i)
            diagonal, beside = self._diagonal(draws, i), self._beside(draws, i, over, targets)
            prior = draws.spread[i, -1] ** 2 * (diagonal[targets] + diagonal[over] - 2 * beside)
            a, d = across[:, targets] - across[:, [over]], down[:, targets] - down[:, [over]]
            variance = prior - (a**2).sum(axis=0) + (d**2).sum(axis=0)
            rows.append((mean[targets] - mean[over], noise**2 * np.maximum(variance, 0.0)))
        return np.array([m for m, _ in rows]), np.array([v for _, v in rows])

    def combined(self, weights: Floats) -> tuple[Floats, Floats]:
        """(nodes, m) means and variances of sums (m, targets) of effects, without what is a placement's own."""
        rows = []
        for (draws, i), noise in self._each():
            mean, across, down = self._parts(draws, i)
            shared = self._data.coding.kernel(self._solution.shapes[draws.shape[i]], self._codes, self._codes)
            prior = draws.spread[i, -1] ** 2 * shared
            covariance = prior - across.T @ across + down.T @ down
            rows.append((weights @ mean, noise**2 * np.maximum(((weights @ covariance) * weights).sum(axis=1), 0.0)))
        return np.array([m for m, _ in rows]), np.array([v for _, v in rows])

    def draws(self, rng: np.random.Generator, count: int, some: Ints) -> Floats:
        """(count, m) joint draws of some targets' scores; placements that are all alike are exactly equal."""
        rows = []
        times = rng.multinomial(count, self._solution.nodes.weight)
        for ((draws, i), noise), many in zip(self._each(), times, strict=True):
            if not many:
                continue
            mean, across, down = self._parts(draws, i)
            level = self._solution.at(draws, i).rung_means[-1]
            found = np.tile(mean[some] + level, (many, 1))
            if not draws.equal:
                shape, codes = self._solution.shapes[draws.shape[i]], self._codes[some]
                prior = self._data.coding.kernel(shape, codes, codes) + shape.own * np.eye(len(some))
                a, d = across[:, some], down[:, some]
                covariance = draws.spread[i, -1] ** 2 * prior - a.T @ a + d.T @ d
                covariance.flat[:: len(some) + 1] += JITTER * (1 + draws.spread[i, -1] ** 2)
                found += noise * rng.standard_normal((many, len(some))) @ np.linalg.cholesky(covariance).T
            rows.append(found)
        return np.asarray(rng.permutation(np.concatenate(rows)))

    def _each(self) -> list[tuple[tuple[Draws, int], float]]:
        nodes = self._solution.nodes
        return list(zip(nodes.draws, nodes.noise.tolist(), strict=True))

    def _parts(self, draws: Draws, i: int) -> tuple[Floats, Floats, Floats]:
        """(means, (runs, targets) and (rungs, targets) parts of their covariance), in units of the noise."""
        where = id(draws), i
        if where not in self._made:
            from scipy.linalg.lapack import dtrtrs

            solved = self._solution.at(draws, i)
            if draws.equal:
                none = np.zeros((1, len(self._codes)))
                return none[0], none, np.zeros((len(solved.inner), len(self._codes)))
            shape = self._solution.shapes[draws.shape[i]]
            toward = cross(self._data, shape, draws, i, self._codes, self._place)
            across, _ = dtrtrs(solved.root, toward.T, lower=1)
            down = np.linalg.solve(solved.inner, solved.means.T @ across)
            self._made[where] = across.T @ solved.residual, across, down
        return self._made[where]

    def _diagonal(self, draws: Draws, i: int) -> Floats:
        """(targets,) prior variances of effects of size 1."""
        number = int(draws.shape[i])
        if number not in self._diagonals:
            shape = self._solution.shapes[number]
            self._diagonals[number] = self._data.coding.diagonal(shape, self._codes) + shape.own
        return self._diagonals[number]

    def _beside(self, draws: Draws, i: int, over: int, targets: Ints) -> Floats:
        """(m,) prior covariances with one of the targets."""
        shape = self._solution.shapes[draws.shape[i]]
        shared = self._data.coding.kernel(shape, self._codes[[over]], self._codes[targets])[0]
        return np.asarray(shared + shape.own * (targets == over))


def recoded(data: Data, texts: Sequence[str]) -> Data:
    """The same runs with a coding that knows these placements, of which the evaluated ones come first."""
    coding, codes = coded(texts, len(data.codes))
    return replace(data, coding=coding, codes=codes)


def _gain(row: Floats) -> Gain:
    """From its fields in order, NaN where None."""
    plain = [float(value) for value in row]
    known, new = plain[:7], [None if math.isnan(value) else value for value in plain[7:]]
    return Gain(*known, *new)


def fit(
    runs: Iterable[Run],
    placements: Mapping[str, str],
    *,
    metric: str,
    lower_is_better: bool = False,
    rung: int | None = None,
) -> Evidence | None:
    """The model of one metric, from all runs up to a rung.

    Args:
        runs: in any order; one that is not finite or not of `placements` is left out.
        placements: key -> explicit notation; also of placements that were never run, which get a value too.
        metric: `accuracy` and other shares have priors of their own, all others are known by their own spread.
        lower_is_better: whether smaller values are better.
        rung: what the answers are about; default: the highest rung with a run.

    Returns:
        The model; None where no placement has a run at that rung.
    """
    known = [run for run in runs if run.key in placements and math.isfinite(run.value)]
    last = max((run.rung for run in known), default=None) if rung is None else rung
    if last is None or not any(run.rung == last for run in known):
        return None
    found = assemble(known, placements, metric=metric, lower_is_better=lower_is_better, rung=last)
    return Evidence(found, placements, metric, lower=lower_is_better)

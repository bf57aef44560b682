"""The model for samplers: functions over all placements that may be the truth, and which placement to try next.

Near the front of what is believed (every change of one site, some of two): what adds most hypervolume, or, against a model that
is wrong everywhere alike, the best below costs drawn at random. Functions drawn around it did worse (docs/benchmarks/search.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_attn.model.coding import Codes, Coding, Floats, Ints, Shape
from nas_attn.model.runs import MOST, Data, without_broken
from nas_attn.model.variances import Algebra, Nodes, posterior, solved_by

Mask = NDArray[np.bool_]

SHAPES = (
    Shape(0.3, site=0.9, own=0.1),
    Shape(0.4, site=0.45, type=0.45, own=0.1),
    Shape(0.3, site=0.4, type=0.15, pair=0.35, own=0.1),
    Shape(0.1, site=0.45, known=0.45, own=0.1),
    Shape(0.14, site=0.25, type=0.25, known=0.4, own=0.1),
    Shape(0.1, site=0.25, type=0.1, known=0.3, pair=0.25, own=0.1),
)
"""What untried placements can be valued by: a part of a placement's own says nothing about others. Those with something known
are for samplers with a prior; whether it holds, the values say."""
GROWTH = 1.12  # the variances are found again when there are this many times as many values
TWO_SITE_CHANGES = 300
PARENTS = 64  # placements that are changed, at most: some of a longer front
BEYOND = 0.02  # the reference lies this share of their range beyond the worst costs seen
SEVERAL, POINTS = 2000, 512  # with three or more objectives: candidates looked at, and points that estimate volumes


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one placement; less is better."""

    codes: tuple[int, ...]
    value: float
    noise: float = 1.0  # variance of its noise over that of a full run: 4 for a weak hint


@dataclass(frozen=True)
class Function:
    """A function over all placements: a constant, one number per choice, one per pair of choices at two sites."""

    first: Ints  # (sites,) entry of each site's first choice
    constant: float
    entries: Floats  # (entries,)
    pairs: Floats | None = None  # (entries, entries)

    @classmethod
    def centred(cls, coding: Coding, constant: float, entries: Floats, pairs: Floats | None) -> Function:
        """From pairs of centred choices, written out as pairs, choices and a constant."""
        if pairs is None:
            return cls(coding.first, constant, entries)
        toward = pairs @ coding.middle
        return cls(coding.first, constant + 0.5 * float(coding.middle @ toward), entries - toward, pairs)

    def of(self, codes: Codes) -> Floats:
        at = self.first + codes
        found = self.constant + self.entries[at].sum(axis=1)
        if self.pairs is not None:
            for left in range(at.shape[1] - 1):
                found = found + self.pairs[at[:, left, None], at[:, left + 1 :]].sum(axis=1)
        return np.asarray(found)


class Learner:
    """What is known of one objective, less being better. `update` it, then draw functions that may be the truth."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self._rows: dict[int, Value] = {}
        self._nodes: Nodes | None = None
        self._found_at = 0
        self._algebra: Algebra | None = None

    @property
    def count(self) -> int:
        return len(self._rows)

    def update(self, rows: Mapping[int, Value]) -> None:
        """Takes `rows` (number of a trial -> its value, finite) for what is known, and nothing else."""
        if dict(rows) != self._rows:
            self._rows, self._algebra = dict(sorted(rows.items())), None

    def draw(self, rng: np.random.Generator, *, around: bool) -> Function:
        """The posterior mean under drawn variances, or with `around` a function drawn around it (Matheron's rule)."""
        nodes = self._variances
        if self._algebra is None:
            data = _data(self.coding, [*self._rows.values()])
            self._algebra = Algebra(data, data.coding.shapes(SHAPES))
        algebra, data = self._algebra, self._algebra.data
        coding, node = data.coding, int(rng.choice(len(nodes.weight), p=nodes.weight))
        shape, size = algebra.shapes[nodes.draws.shape[node]], float(nodes.draws.spread[node, -1])
        root, half = coding.main(shape), coding.pair_size(shape)
        noise = nodes.noise[node]
        expected = size * noise * root[:, -1]  # known effects are expected to hold, as often more as less
        entries, pairs, value = (
            np.zeros(len(root)),
            None,
            data.value - (coding.one_hot(data.codes) @ expected)[data.place],
        )
        if around:
            entries = size * noise * (root @ rng.standard_normal(root.shape[1]))
            if shape.pair:
                upper = np.triu(rng.standard_normal((len(entries), len(entries))))
                pairs = size * noise * half * coding.between_sites(upper + upper.T)
            prior = Function.centred(coding, 0.0, entries, pairs).of(data.codes)
            prior = prior + size * noise * np.sqrt(shape.own) * rng.standard_normal(len(data.codes))
            value = value - prior[data.place] - noise * np.sqrt(data.weight) * rng.standard_normal(len(value))
        solved = algebra.solve(nodes.draws, node, value)
        dual = solved_by(solved.root, solved.residual, transposed=True)
        weights = size**2 * np.bincount(data.place, weights=dual, minlength=len(data.codes))
        entries = entries + expected + root @ (root.T @ (coding.one_hot(data.codes).T @ weights))
        if shape.pair:
            centred = coding.centred(data.codes)
            found = half**2 * coding.between_sites((centred.T * weights) @ centred)
            pairs = found if pairs is None else pairs + found
        return Function.centred(coding, -float(solved.rung_means[-1]), -entries, None if pairs is None else -pairs)

    @property
    def _variances(self) -> Nodes:
        """Found from the first values, whose number grows in steps, so that they depend on what is known alone."""
        step = 1
        while (following := max(step + 1, int(np.ceil(step * GROWTH)))) <= len(self._rows):
            step = following
        if self._nodes is None or self._found_at != step:
            data = _data(self.coding, [*self._rows.values()][:step])
            self._nodes, self._found_at = posterior(data, SHAPES, equal=False), step
        return self._nodes


def _data(coding: Coding, rows: Sequence[Value]) -> Data:
    some, places = rows[-MOST:], dict[tuple[int, ...], int]()
    place = np.array([places.setdefault(row.codes, len(places)) for row in some], dtype=np.intp)
    codes = np.array(list(places), dtype=np.intp).reshape(len(places), len(coding.sites))
    values = without_broken(-np.array([row.value for row in some]))
    return Data.simple(coding.scaled_to(codes), codes, place, values, np.array([row.noise for row in some]))


@dataclass(frozen=True)
class Allowed:
    """What a placement may be: (sites, most choices) which choices, and which of them do not count towards `most`."""

    choices: Mask
    free: Mask
    most: int | None = None  # choices that are not free, at most; None: any number

    def holds(self, codes: Codes) -> Mask:
        sites = np.arange(codes.shape[1])
        inside = np.asarray(self.choices[sites, codes].all(axis=1), dtype=np.bool_)
        if self.most is not None:
            inside &= (~self.free[sites, codes]).sum(axis=1) <= self.most
        return inside

    def random(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Some allowed placement, site by site, free choices only once `most` is reached; ValueError without one."""
        codes = np.zeros(len(self.choices), dtype=np.intp)
        left = len(codes) if self.most is None else self.most
        must: Mask = ~np.asarray((self.choices & self.free).any(axis=1), dtype=np.bool_)
        reserve = int(must.sum())
        for site in rng.permutation(len(codes)):
            reserve -= int(must[site])
            options = np.flatnonzero(self.choices[site] if left > reserve else self.choices[site] & self.free[site])
            if not len(options):
                raise ValueError("no placement is allowed: a site has no choice left")
            codes[site] = rng.choice(options)
            left -= int(not self.free[site, codes[site]])
        return tuple(codes.tolist())


@dataclass(frozen=True)
class Beliefs:
    """Functions to be minimised, one per objective, and others with the values that placements must not exceed."""

    functions: Sequence[Function]
    bounds: Sequence[tuple[Function, float]] = ()
    primary: int = 0  # the objective that is sought; the others are what it costs

    def values(self, codes: Codes) -> Floats:
        return np.stack([function.of(codes) for function in self.functions], axis=1)


def proposals(
    beliefs: Beliefs, seen: Codes, allowed: Allowed, rng: np.random.Generator, *, by_limit: bool
) -> Iterator[tuple[int, ...]]:
    """What to try, first first, `seen` ones too. `by_limit`: the best below random costs, instead of the most hypervolume."""
    known = beliefs.values(seen)
    parents = np.unique(seen[non_dominated(known)], axis=0)
    if len(parents) > PARENTS:
        parents = parents[np.sort(rng.choice(len(parents), PARENTS, replace=False))]
    candidates = _changes(parents, allowed, rng)
    if not len(candidates):
        return
    inside = np.ones(len(candidates), dtype=bool)
    for function, bound in beliefs.bounds:
        inside &= function.of(candidates) <= bound
    candidates = candidates[inside] if inside.any() else candidates
    values, primary = beliefs.values(candidates), beliefs.primary
    order = np.zeros(0, dtype=np.intp)
    if values.shape[1] > 1 and not by_limit:
        if values.shape[1] > 2 and len(values) > SEVERAL:
            some = np.sort(rng.choice(len(values), SEVERAL, replace=False))
            candidates, values = candidates[some], values[some]
        gains = _gains(values, known, primary, rng)
        order = np.argsort(-gains, kind="stable")[: int((gains > 0).sum())]
    for index in np.concatenate([order, _below_limits(values, known, primary, rng)]):
        yield tuple(candidates[index].tolist())


def _changes(parents: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
    site, choice = np.nonzero(allowed.choices)
    one = np.repeat(parents, len(site), axis=0)
    one[np.arange(len(one)), np.tile(site, len(parents))] = np.tile(choice, len(parents))
    two = parents[rng.integers(len(parents), size=TWO_SITE_CHANGES)]
    for _ in range(2):
        picked = rng.integers(len(site), size=len(two))
        two[np.arange(len(two)), site[picked]] = choice[picked]
    both = np.concatenate([one, two, *([_moves(parents, allowed, rng)] if allowed.most is not None else [])])
    return both[allowed.holds(both)]


def _moves(parents: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
    """Parents with one module taken away and one put elsewhere: what stays within a number of modules."""
    moved = []
    for parent in parents[rng.integers(len(parents), size=TWO_SITE_CHANGES)]:
        codes = parent.copy()
        free = allowed.free[np.arange(len(codes)), codes]
        if free.all() or not free.any():
            continue
        away, to = rng.choice(np.flatnonzero(~free)), rng.choice(np.flatnonzero(free))
        nothing = np.flatnonzero(allowed.choices[away] & allowed.free[away])
        something = np.flatnonzero(allowed.choices[to] & ~allowed.free[to])
        if len(nothing) and len(something):
            codes[away], codes[to] = rng.choice(nothing), rng.choice(something)
            moved.append(codes)
    return np.array(moved, dtype=np.intp).reshape(len(moved), parents.shape[1])


def _below_limits(values: Floats, known: Floats, primary: int, rng: np.random.Generator) -> Ints:
    """Indices, best first: of values below costs drawn between the least within reach and the most seen, then of the others."""
    low, high = np.minimum(values.min(axis=0), known.min(axis=0)), known.max(axis=0)
    limits = low + rng.random(values.shape[1]) * (high - low)
    limits[primary] = np.inf
    return np.lexsort((values[:, primary], (values > limits).any(axis=1)))


def _gains(values: Floats, known: Floats, primary: int, rng: np.random.Generator) -> Floats:
    """(n,) hypervolume that each point adds to what is known; with more than two objectives by POINTS random points.

    The reference: a little beyond the worst costs, and at the median of what is sought, or where the cheapest placements are
    if that is worse: late in a search the median is good, and the fast end lies between the bare backbone and it.
    """
    reference: Floats = known.max(axis=0) + BEYOND * np.ptp(known, axis=0)
    cheapest = [int(index) for cost, index in enumerate(known.argmin(axis=0)) if cost != primary]
    reference[primary] = max(float(np.median(known[:, primary])), *known[cheapest, primary].tolist())
    front = known[(known < reference).all(axis=1)]
    front = np.unique(front[non_dominated(front)], axis=0) if len(front) else front
    if values.shape[1] == 2:
        return _gains_in_plane(values, front, reference)
    best = np.minimum(values.min(axis=0), known.min(axis=0))
    points = best + rng.random((POINTS, values.shape[1])) * (reference - best)
    free = points[~(front[None] <= points[:, None]).all(axis=2).any(axis=1)]
    return np.array([(row <= free).all(axis=1).sum() for row in values], dtype=float)


def _gains_in_plane(values: Floats, front: Floats, reference: Floats) -> Floats:
    """(n,) area that each point alone adds to that of a front (distinct rows, by the first column), exact: strip by strip."""
    starts, ends = np.append(-np.inf, front[:, 0]), np.append(front[:, 0], reference[0])
    heights = np.append(reference[1], front[:, 1])
    widths = np.maximum(ends - np.maximum(starts, values[:, :1]), 0.0)
    return np.asarray((widths * np.maximum(heights - values[:, 1:], 0.0)).sum(axis=1))


def non_dominated(values: ArrayLike) -> Mask:
    """(n,) whether no other row dominates a row of (n, m) values, all minimised; False for one with a NaN."""
    values_nm = np.asarray(values, dtype=float)
    mask = np.asarray(~np.isnan(values_nm).any(axis=1), dtype=np.bool_)
    unique, inverse = np.unique(values_nm[mask], axis=0, return_inverse=True)
    mask[mask] = non_dominated_of(unique)[inverse.reshape(-1)]
    return mask


def non_dominated_of(unique: Floats) -> Mask:
    """The same for distinct rows in lexicographic order: a row can only be dominated by an earlier one."""
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

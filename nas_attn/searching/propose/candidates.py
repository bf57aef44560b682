"""Which placement to try next, given predictions for all of them.

Candidates are changes of the predicted front: every change of one site, some of two. First comes
the one that adds most hypervolume, or the best one below random cost limits, which helps if the
model is wrong everywhere in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nas_attn.model.coding import Codes, Floats, Ints
from nas_attn.model.dominance import Mask, hypervolume_gains, non_dominated
from nas_attn.model.functions import Function

TWO_SITE_CHANGES = 300
# of a predicted value; processors round the last of a float's sixteen differently
VALUE_DIGITS = 7
# placements that are changed, at most: some of a longer front
PARENTS = 64
# distance of the reference point from the worst costs seen, as a share of their range
BEYOND = 0.02
# with at most so many sites, single modules are tried more often: one stage may be enough
FEW_SITES = 4
# with few sites: share of the proposals below a limit that have at most one module
SINGLE_SHARE = 1 / 3
# candidates looked at with three or more objectives
SEVERAL = 2000


@dataclass(frozen=True)
class Allowed:
    """The allowed placements. Masks have the shape (sites, largest number of choices)."""

    choices: Mask
    # choices that do not count towards `most`
    free: Mask
    # choices that are not free, at most; None: any number
    most: int | None = None

    def holds(self, codes: Codes) -> Mask:
        sites = np.arange(codes.shape[1])
        inside = np.asarray(self.choices[sites, codes].all(axis=1), dtype=np.bool_)
        if self.most is not None:
            inside &= (~self.free[sites, codes]).sum(axis=1) <= self.most
        return inside

    def random(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Some allowed placement, site by site, free choices only once `most` is reached;
        ValueError without one.
        """
        codes = np.zeros(len(self.choices), dtype=np.intp)
        left = len(codes) if self.most is None else self.most
        must: Mask = ~np.asarray((self.choices & self.free).any(axis=1), dtype=np.bool_)
        reserve = int(must.sum())
        for site in rng.permutation(len(codes)):
            reserve -= int(must[site])
            options = np.flatnonzero(
                self.choices[site] if left > reserve else self.choices[site] & self.free[site]
            )
            if not len(options):
                raise ValueError("no placement is allowed: a site has no choice left")
            codes[site] = rng.choice(options)
            left -= int(not self.free[site, codes[site]])
        return tuple(codes.tolist())


@dataclass(frozen=True)
class Beliefs:
    """Functions to minimise, one per objective, and functions with upper bounds."""

    functions: Sequence[Function]
    bounds: Sequence[tuple[Function, float]] = ()
    # the objective that is sought; the others are what it costs
    primary: int = 0

    def values(self, codes: Codes) -> Floats:
        """(n, objectives), rounded: what is equal but for a processor's rounding is equal, so that
        a study proposes the same on others.
        """
        values = np.stack([function.of(codes) for function in self.functions], axis=1)
        largest = np.abs(values).max(axis=0, initial=np.finfo(float).tiny)
        # a power of ten, so that one grid holds for what is tried and what was
        scale = 10.0 ** np.ceil(np.log10(largest))
        rounded: Floats = np.round(values / scale, VALUE_DIGITS) * scale
        return rounded


def proposals(
    beliefs: Beliefs, seen: Codes, allowed: Allowed, rng: np.random.Generator, *, by_limit: bool
) -> Iterator[tuple[int, ...]]:
    """Ranks placements to try, the best first, tried ones included.

    Args:
        beliefs: predictions of all objectives.
        seen: (n, sites) choices of the placements that are known.
        allowed: the placements that may be proposed.
        rng: draws cost limits and changes.
        by_limit: whether the value below random costs ranks them, not the hypervolume.
    """
    observed = beliefs.values(seen)
    parents = np.unique(seen[non_dominated(observed)], axis=0)
    if len(parents) > PARENTS:
        parents = parents[np.sort(rng.choice(len(parents), PARENTS, replace=False))]
    candidates = _changes(parents, allowed, rng)
    if not len(candidates):
        return
    inside = np.ones(len(candidates), dtype=bool)
    for function, bound in beliefs.bounds:
        inside &= function.of(candidates) <= bound
    candidates = candidates[inside] if inside.any() else candidates
    values = beliefs.values(candidates)
    primary = beliefs.primary
    order = np.zeros(0, dtype=np.intp)
    if values.shape[1] > 1 and not by_limit:
        if values.shape[1] > 2 and len(values) > SEVERAL:
            some = np.sort(rng.choice(len(values), SEVERAL, replace=False))
            candidates = candidates[some]
            values = values[some]
        gains = _gains(values, observed, primary, rng)
        order = np.argsort(-gains, kind="stable")[: int((gains > 0).sum())]
    if by_limit and candidates.shape[1] <= FEW_SITES and rng.random() < SINGLE_SHARE:
        modules = (~allowed.free[np.arange(candidates.shape[1]), candidates]).sum(axis=1)
        order = np.lexsort((values[:, primary], modules > 1))[: int((modules <= 1).sum())]
    for index in np.concatenate([order, _below_limits(values, observed, primary, rng)]):
        yield tuple(candidates[index].tolist())


def _changes(parents: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
    site, choice = np.nonzero(allowed.choices)
    one = np.repeat(parents, len(site), axis=0)
    one[np.arange(len(one)), np.tile(site, len(parents))] = np.tile(choice, len(parents))
    two = parents[rng.integers(len(parents), size=TWO_SITE_CHANGES)]
    for _ in range(2):
        picked = rng.integers(len(site), size=len(two))
        two[np.arange(len(two)), site[picked]] = choice[picked]
    both = np.concatenate(
        [one, two, *([_moves(parents, allowed, rng)] if allowed.most is not None else [])]
    )
    return both[allowed.holds(both)]


def _moves(parents: Codes, allowed: Allowed, rng: np.random.Generator) -> Codes:
    """Parents with one module moved to another site, which keeps the number of modules."""
    moved = []
    for parent in parents[rng.integers(len(parents), size=TWO_SITE_CHANGES)]:
        codes = parent.copy()
        free = allowed.free[np.arange(len(codes)), codes]
        if free.all() or not free.any():
            continue
        away = rng.choice(np.flatnonzero(~free))
        to = rng.choice(np.flatnonzero(free))
        nothing = np.flatnonzero(allowed.choices[away] & allowed.free[away])
        something = np.flatnonzero(allowed.choices[to] & ~allowed.free[to])
        if len(nothing) and len(something):
            codes[away] = rng.choice(nothing)
            codes[to] = rng.choice(something)
            moved.append(codes)
    return np.array(moved, dtype=np.intp).reshape(len(moved), parents.shape[1])


def _below_limits(values: Floats, observed: Floats, primary: int, rng: np.random.Generator) -> Ints:
    """Indices of the values, best first; those within random cost limits (between the least
    possible and the most seen) go first.
    """
    low = np.minimum(values.min(axis=0), observed.min(axis=0))
    high = observed.max(axis=0)
    limits = low + rng.random(values.shape[1]) * (high - low)
    limits[primary] = np.inf
    return np.lexsort((values[:, primary], (values > limits).any(axis=1)))


def _gains(values: Floats, observed: Floats, primary: int, rng: np.random.Generator) -> Floats:
    """(n,) hypervolume that each point adds to what is known.

    The reference point is a little beyond the worst costs. In the primary objective it is at the
    median, or at the cheapest placements if they are worse: late in a search the median is good,
    and the fast end of the front is worse than it.
    """
    reference: Floats = observed.max(axis=0) + BEYOND * np.ptp(observed, axis=0)
    cheapest = [int(index) for cost, index in enumerate(observed.argmin(axis=0)) if cost != primary]
    reference[primary] = max(
        float(np.median(observed[:, primary])), *observed[cheapest, primary].tolist()
    )
    return hypervolume_gains(values, observed, reference, rng)

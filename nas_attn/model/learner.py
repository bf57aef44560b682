"""The model for samplers: functions over all placements that may be the truth, drawn in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import ALONE, Codes, Coding, Shape
from nas_attn.model.priors import Priors
from nas_attn.model.runs import MOST, Data
from nas_attn.model.variances import Algebra, Draws, Nodes, posterior

Floats = NDArray[np.float64]

SHAPES = (
    Shape(0.3, site=0.9, own=0.1),
    Shape(0.4, site=0.45, type=0.45, own=0.1),
    Shape(0.3, site=0.4, type=0.15, pair=0.35, own=0.1),
)
"""What untried placements can be valued by: a part of a placement's own says nothing about others."""
WINSOR = 3.0
"""Values worse than the median by more than this many times (median - best tenth) count as being there."""
GROWTH = 1.12
"""The variances are found again when there are this many times as many values."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one placement."""

    codes: tuple[int, ...]
    value: float
    """Less is better."""
    noise: float = 1.0
    """Variance of its noise over that of a full run: 4 for a weak hint."""


@dataclass(frozen=True)
class Function:
    """A function over all placements: a constant, one number per choice, one per pair of choices at two sites."""

    first: NDArray[np.intp]
    """(sites,) entry of each site's first choice."""
    constant: float
    entries: Floats
    """(entries,)"""
    pairs: Floats | None = None
    """(entries, entries)"""

    def of(self, codes: Codes) -> Floats:
        """(n,) its values."""
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
        """Values known."""
        return len(self._rows)

    def update(self, rows: Mapping[int, Value]) -> None:
        """Takes `rows` (number of a trial -> its value, finite) for what is known, and nothing else."""
        if dict(rows) != self._rows:
            self._rows, self._algebra = dict(sorted(rows.items())), None

    def draw(self, rng: np.random.Generator, *, around: bool) -> Function:
        """The posterior mean under variances that are drawn, or with `around` a function drawn around it.

        Raises:
            ValueError: nothing is known.
        """
        if not self._rows:
            raise ValueError("nothing is known to draw from: call update() first")
        nodes, algebra = self._variances, self._solved
        node = int(rng.choice(len(nodes.weight), p=nodes.weight))
        draws, i = nodes.draws[node]
        shape, size = algebra.shapes[draws.shape[i]], float(draws.spread[i, -1])
        scale = nodes.noise[node] if around else 0.0
        return _conditioned(algebra, draws, i, shape, size, scale, rng)

    @property
    def _solved(self) -> Algebra:
        if self._algebra is None:
            data = _data(self.coding, list(self._rows.values()))
            self._algebra = Algebra(data, data.coding.shapes(SHAPES) or [ALONE])
        return self._algebra

    @property
    def _variances(self) -> Nodes:
        """Found from the first values, whose number grows in steps, so that they depend on what is known alone."""
        step = _step_below(len(self._rows))
        if self._nodes is None or self._found_at != step:
            data = _data(self.coding, list(self._rows.values())[:step])
            self._nodes, self._found_at = posterior(data, SHAPES, equal=False), step
        return self._nodes


def _conditioned(
    algebra: Algebra, draws: Draws, i: int, shape: Shape, size: float, scale: float, rng: np.random.Generator
) -> Function:
    """The posterior mean, or with a `scale` (the noise) above 0 a draw around it (Matheron's rule)."""
    data, coding = algebra.data, algebra.data.coding
    entries, pairs = np.zeros(len(coding.site_names)), None
    target = data.value
    if scale:
        root = coding.main(shape)
        entries = size * scale * (root @ rng.standard_normal(root.shape[1]))
        if shape.pair:
            half = np.triu(rng.standard_normal((len(entries), len(entries))))
            pairs = size * scale * coding.pair_size(shape) * coding.between_sites(half + half.T)
        prior = _function(coding, 0.0, entries, pairs).of(data.codes)
        own = size * scale * np.sqrt(shape.own) * rng.standard_normal(len(data.codes))
        noise = scale * np.sqrt(data.weight) * rng.standard_normal(len(target))
        target = target - (prior + own)[data.place] - noise
    mean, dual = algebra.dual(draws, i, target)
    weights = size**2 * np.bincount(data.place, weights=dual, minlength=len(data.codes))
    root = coding.main(shape)
    entries = entries + root @ (root.T @ (coding.one_hot(data.codes).T @ weights))
    if shape.pair:
        centred = coding.centred(data.codes)
        found = coding.pair_size(shape) ** 2 * coding.between_sites((centred.T * weights) @ centred)
        pairs = found if pairs is None else pairs + found
    return _function(coding, -mean, -entries, None if pairs is None else -pairs)


def _function(coding: Coding, constant: float, entries: Floats, pairs: Floats | None) -> Function:
    """With pairs of centred choices written out as pairs, choices and a constant."""
    if pairs is None:
        return Function(coding.first, constant, entries)
    middle = coding.middle
    toward = pairs @ middle
    return Function(coding.first, constant + 0.5 * float(middle @ toward), entries - toward, pairs)


def _data(coding: Coding, rows: Sequence[Value]) -> Data:
    some = rows[-MOST:]
    places: dict[tuple[int, ...], int] = {}
    place = np.array([places.setdefault(row.codes, len(places)) for row in some], dtype=np.intp)
    codes = np.array(list(places), dtype=np.intp).reshape(len(places), len(coding.sites))
    values = -winsorised(np.array([row.value for row in some]))
    none = np.zeros(len(some), dtype=np.intp)
    priors = Priors.of(values - values.mean(), float(np.median(values)), share=False, floor=None)
    weight = np.array([row.noise for row in some])
    return Data(
        coding.scaled_to(codes), codes, place, none, none, none, np.arange(len(some)), values, weight, (priors,)
    )


def winsorised(values: Floats) -> Floats:
    """Values (less is better) of which the bad ones are cut, so that broken placements do not rule the fit."""
    if not len(values):
        return values
    median = float(np.median(values))
    reach = median - float(np.quantile(values, 0.1))
    return np.minimum(values, median + WINSOR * reach) if reach > 0 else values


def _step_below(count: int) -> int:
    """Largest number of the sequence 1, 2, …, then growing by GROWTH, that is not above `count`."""
    step = 1
    while (following := max(step + 1, int(np.ceil(step * GROWTH)))) <= count:
        step = following
    return step

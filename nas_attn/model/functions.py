"""The model for samplers: functions over all placements that may be the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_attn.model.assembling import MOST_FITTED, Data, without_broken
from nas_attn.model.coding import Codes, Coding, Floats, Ints, Shape
from nas_attn.model.variances import Algebra, Nodes, posterior, solved_by

FUNCTION_SHAPES = (
    Shape(0.3, site=0.9, own=0.1),
    Shape(0.4, site=0.45, type=0.45, own=0.1),
    Shape(0.3, site=0.4, type=0.15, pair=0.35, own=0.1),
)
"""These value untried placements, so little is a placement's own, which says nothing about others.
"""
# the variances are found again when the number of values has grown by this factor
REFITTING_GROWTH = 1.12


@dataclass(frozen=True, slots=True)
class Value:
    """One value of one placement; less is better."""

    codes: tuple[int, ...]
    value: float
    # variance of its noise over that of a full run: 4 for a weak hint
    noise: float = 1.0


@dataclass(frozen=True)
class Function:
    """A function over all placements: a constant, one number per choice, one per pair of choices at
    two sites.
    """

    # (sites,) entry of each site's first choice
    first: Ints
    constant: float
    # (entries,)
    entries: Floats
    # (entries, entries)
    pairs: Floats | None = None

    @classmethod
    def centred(
        cls, coding: Coding, constant: float, entries: Floats, pairs: Floats | None
    ) -> Function:
        """Writes a function of pairs of centred choices as one of pairs, choices and a constant.

        Args:
            coding: of the placements.
            constant: of all placements.
            entries: (entries,) of each choice.
            pairs: (entries, entries) of each pair of centred choices; None: there are none.
        """
        if pairs is None:
            return cls(coding.first, constant, entries)
        toward = pairs @ coding.middle
        return cls(
            coding.first, constant + 0.5 * float(coding.middle @ toward), entries - toward, pairs
        )

    def of(self, codes: Codes) -> Floats:
        at = self.first + codes
        totals = self.constant + self.entries[at].sum(axis=1)
        if self.pairs is not None:
            for left in range(at.shape[1] - 1):
                totals = totals + self.pairs[at[:, left, None], at[:, left + 1 :]].sum(axis=1)
        return np.asarray(totals)


class Learner:
    """What is known of one objective, less being better. `update` it, then draw functions that may
    be the truth.
    """

    def __init__(self, coding: Coding, *, may_break: bool = False) -> None:
        """`may_break`: a value far worse than all others is of a network that did not train, and is
        cut. Not for costs.
        """
        self.coding = coding
        self._may_break = may_break
        self._rows: dict[int, Value] = {}
        self._nodes: Nodes | None = None
        self._found_at = 0
        self._algebra: Algebra | None = None

    @property
    def count(self) -> int:
        return len(self._rows)

    def update(self, rows: Mapping[int, Value]) -> None:
        """Takes `rows` (number of a trial -> its value, finite) for what is known, and nothing
        else.
        """
        if dict(rows) != self._rows:
            self._rows = dict(sorted(rows.items()))
            self._algebra = None

    def draw(self, rng: np.random.Generator, *, around: bool) -> Function:
        """The posterior mean under drawn variances, or with `around` a function drawn around it
        (Matheron's rule).
        """
        nodes = self._variances
        if self._algebra is None:
            data = self._data([*self._rows.values()])
            self._algebra = Algebra(data, data.coding.shapes(FUNCTION_SHAPES))
        algebra = self._algebra
        data = self._algebra.data
        coding = data.coding
        node = int(rng.choice(len(nodes.weight), p=nodes.weight))
        shape = algebra.shapes[nodes.draws.shape[node]]
        size = float(nodes.draws.spread[node, -1])
        root = coding.main(shape)
        half = coding.pair_size(shape)
        noise = nodes.noise[node]
        entries = np.zeros(len(root))
        pairs = None
        value = data.value
        if around:
            # one more than is needed: studies that are under way propose the same
            entries = size * noise * (root @ rng.standard_normal(root.shape[1] + 1)[:-1])
            if shape.pair:
                upper = np.triu(rng.standard_normal((len(entries), len(entries))))
                pairs = size * noise * half * coding.between_sites(upper + upper.T)
            prior = Function.centred(coding, 0.0, entries, pairs).of(data.codes)
            prior = prior + size * noise * np.sqrt(shape.own) * rng.standard_normal(len(data.codes))
            value = (
                value
                - prior[data.place]
                - noise * np.sqrt(data.weight) * rng.standard_normal(len(value))
            )
        solved = algebra.solve(nodes.draws, node, value)
        dual = solved_by(solved.root, solved.residual, transposed=True)
        weights = size**2 * np.bincount(data.place, weights=dual, minlength=len(data.codes))
        entries = entries + root @ (root.T @ (coding.one_hot(data.codes).T @ weights))
        if shape.pair:
            centred = coding.centred(data.codes)
            weights_of_pairs = half**2 * coding.between_sites((centred.T * weights) @ centred)
            pairs = weights_of_pairs if pairs is None else pairs + weights_of_pairs
        return Function.centred(
            coding, -float(solved.rung_means[-1]), -entries, None if pairs is None else -pairs
        )

    @property
    def _variances(self) -> Nodes:
        """Found from the first values, whose number grows in steps, so that they depend on what is
        known alone.
        """
        step = 1
        while (following := max(step + 1, int(np.ceil(step * REFITTING_GROWTH)))) <= len(
            self._rows
        ):
            step = following
        if self._nodes is None or self._found_at != step:
            data = self._data([*self._rows.values()][:step])
            self._nodes = posterior(data, FUNCTION_SHAPES)
            self._found_at = step
        return self._nodes

    def _data(self, rows: Sequence[Value]) -> Data:
        some = rows[-MOST_FITTED:]
        places = dict[tuple[int, ...], int]()
        place = np.array([places.setdefault(row.codes, len(places)) for row in some], dtype=np.intp)
        codes = np.array(list(places), dtype=np.intp).reshape(len(places), len(self.coding.sites))
        values = -np.array([row.value for row in some])
        values = without_broken(values) if self._may_break else values
        return Data.simple(
            self.coding.scaled_to(codes),
            codes,
            place,
            values,
            np.array([row.noise for row in some]),
        )

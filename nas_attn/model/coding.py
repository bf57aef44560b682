"""How placements are alike: each is one choice per site, and choices share names. Effects have four
parts with a kernel each:

- site: what a choice does at its site; choices share their names there: `attention`, `se`,
  `se(reduction=8)`
- type: what a name does at any site, and within a stage where stages have several sites
- pair: what two choices at two sites do together, beyond what each does alone
- own: what none of these explains

A shape says how the variance is shared between them. Each is scaled so that two evaluated
placements differ by a variance of 2.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas_attn.space.placement import Placement

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
# (n, sites): which of its site's choices each placement has
Codes = NDArray[np.intp]
# of a choice, from general to particular; shared names share effects
Names = Callable[[Hashable], Sequence[str]]
NO_MODULE = "none"
OF_CHOICES = ("site", "type")
EFFECT_PARTS = (*OF_CHOICES, "pair")


@dataclass(frozen=True, slots=True)
class Shape:
    """Prior probability, and shares of the parts in the variance of effects, which add up to 1."""

    prior: float
    site: float = 0.0
    type: float = 0.0
    pair: float = 0.0
    own: float = 0.0


EFFECT_SHAPES = (
    Shape(0.45, own=1.0),
    Shape(0.20, site=0.8, own=0.2),
    Shape(0.20, site=0.4, type=0.4, own=0.2),
    Shape(0.15, site=0.35, type=0.15, pair=0.35, own=0.15),
)
"""Few pairs matter, and they do little: most of the prior has none."""


def itself(choice: Hashable) -> tuple[str, ...]:
    """A choice that is related to its equals only."""
    return (f"{type(choice).__name__} {choice}",)


def names_of(choice: Hashable) -> tuple[str, ...]:
    """Names of a choice in notation: `@block=se(reduction=8)` is `attention`, `se`,
    `se(reduction=8)`, `@block`, itself.
    """
    text = str(choice)
    if text in (NO_MODULE, "original"):
        return (text,)
    names: list[str] = []
    # a site with modules at two positions has two parts
    for part in text.split(" "):
        position = ""
        module = part
        if part.startswith("@"):
            position, _, module = part.partition("=")
        module_type = module.partition("(")[0]
        names += ["attention", module_type, module]
        if position:
            names += [position, part]
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=1 << 16)
def _read(placement: Placement) -> Mapping[str, str]:
    """Site -> choice of an explicit placement, positions included where they are written."""
    parts: dict[str, list[str]] = {}
    for assignment in placement.assignments:
        if assignment.choice.is_none:
            continue
        part = str(assignment.choice)
        if assignment.position:
            part = f"@{assignment.position}={part}"
        parts.setdefault(assignment.site, []).append(part)
    return {site: " ".join(here) for site, here in parts.items()}


class Coding:
    """Placements as rows of codes, and their kernels. `sites`: site -> its choices; `stage2.block1`
    is in the stage `stage2`.
    """

    def __init__(self, sites: Mapping[str, Sequence[Hashable]], names: Names = itself) -> None:
        self.sites = {site: tuple(choices) for site, choices in sites.items()}
        self._codes = [
            {choice: code for code, choice in enumerate(choices)} for choices in self.sites.values()
        ]
        sizes = [len(choices) for choices in self.sites.values()]
        self.most_choices = max(sizes, default=0)
        ends = np.cumsum(sizes, dtype=np.intp)
        # (sites,) entry of each site's first choice
        self.first = ends - np.array(sizes, dtype=np.intp)
        self._entries = [
            slice(start, end) for start, end in zip(self.first.tolist(), ends.tolist(), strict=True)
        ]
        self._site = np.repeat(np.arange(len(sizes)), sizes)
        stages = {site: site.partition(".")[0] for site in self.sites}
        staged = 1 < len(set(stages.values())) < len(stages)
        at_site = list[list[str]]()
        anywhere = list[list[str]]()
        for site, choices in self.sites.items():
            for choice in choices:
                called = list(names(choice))
                at_site.append([f"{site}/{name}" for name in called])
                anywhere.append([*called, *(f"{stages[site]}/{name}" for name in called if staged)])
        self._names = {
            "site": _indicators(at_site),
            "type": _indicators(anywhere),
        }
        # (entries,) how often the evaluated placements have each choice
        self.middle = np.zeros(len(at_site))
        self._scale = dict.fromkeys(EFFECT_PARTS, 0.0)

    @property
    def content(self) -> Hashable:
        """Equal for two codings if what follows from them is equal."""
        names = tuple((part, array_content(names)) for part, names in self._names.items())
        return (
            tuple(self.sites.items()),
            names,
            array_content(self.middle),
            tuple(self._scale.items()),
        )

    @classmethod
    def of(cls, placements: Sequence[Placement], evaluated: int) -> tuple[Coding, Codes]:
        """For explicit placements, scaled to the first, evaluated ones; and the codes of these."""
        choices_by_site = defaultdict[str, set[str]](lambda: {NO_MODULE})
        for site, choice in itertools.chain.from_iterable(
            _read(placement).items() for placement in placements
        ):
            choices_by_site[site].add(choice)
        coding = cls(
            {site: sorted(choices_by_site[site]) for site in sorted(choices_by_site)}, names_of
        )
        codes = coding.codes(placements[:evaluated])
        return coding.scaled_to(codes), codes

    def encode(self, values: Mapping[str, object]) -> tuple[int, ...] | None:
        """A placement as one number per site; None where a site is missing or has a choice of
        another space.
        """
        try:
            return tuple(
                codes[values[site]] for site, codes in zip(self.sites, self._codes, strict=True)
            )
        except (KeyError, TypeError):
            return None

    def codes(self, placements: Sequence[Placement]) -> Codes:
        rows = [
            self.encode({**dict.fromkeys(self.sites, NO_MODULE), **_read(placement)})
            for placement in placements
        ]
        return np.array(rows, dtype=np.intp).reshape(len(placements), len(self.sites))

    def decode(self, codes: Sequence[int]) -> dict[str, Hashable]:
        return {
            site: choices[code]
            for (site, choices), code in zip(self.sites.items(), codes, strict=True)
        }

    def scaled_to(self, codes: Codes) -> Coding:
        """The same with parts scaled, and pairs centred, to fit these (the evaluated)
        placements.
        """
        coding = copy.copy(self)
        n = len(codes)
        coding.middle = self.one_hot(codes).mean(axis=0) if n else self.middle
        coding._scale = dict.fromkeys(EFFECT_PARTS, 1.0)
        for part in EFFECT_PARTS:
            size = 0.0
            # mean variance of the difference of two placements
            if n > 1:
                kernel = coding._part(part, codes, codes)
                trace = float(np.trace(kernel))
                size = 2 * (trace / n - (float(kernel.sum()) - trace) / (n * (n - 1)))
            coding._scale[part] = 2 / size if size > 1e-9 else 0.0
        return coding

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Those of the shapes that the evaluated placements can tell apart; without one, a shape in
        which all effects are their own.
        """
        able = [
            s
            for s in shapes
            if all(self._scale[part] or not getattr(s, part) for part in EFFECT_PARTS)
        ]
        return able or [Shape(1.0, own=1.0)]

    def kernel(self, shape: Shape, left: Codes, right: Codes | None = None) -> Floats:
        """(n, m) covariance of what placements share, `own` is not in it; (n,) variances without
        `right`.
        """
        covariances = np.zeros(len(left) if right is None else (len(left), len(right)))
        for part in EFFECT_PARTS:
            if share := getattr(shape, part):
                covariances += share * self._part(part, left, right)
        return covariances

    def one_hot(self, codes: Codes) -> Floats:
        """(n, entries): 1 for the choice that each placement has at each site."""
        ones = np.zeros((len(codes), len(self._site)))
        ones[np.arange(len(codes))[:, None], self.first + codes] = 1.0
        return ones

    def centred(self, codes: Codes) -> Floats:
        """(n, entries): choices less how often the evaluated placements have them."""
        return self.one_hot(codes) - self.middle

    def main(self, shape: Shape) -> Floats:
        """(entries, names) root of the covariance of what choices do, without pairs."""
        parts = [
            np.sqrt(getattr(shape, part) * self._scale[part]) * self._names[part]
            for part in OF_CHOICES
        ]
        return np.concatenate(parts, axis=1)

    def pair_size(self, shape: Shape) -> float:
        """Standard deviation of what a pair of choices does."""
        return float(np.sqrt(shape.pair * self._scale["pair"]))

    def between_sites(self, matrix: Floats) -> Floats:
        """(entries, entries) with 0 where both entries are of one site."""
        return np.where(self._site[:, None] == self._site, 0.0, matrix)

    def _part(self, part: str, left: Codes, right: Codes | None) -> Floats:
        """(n, m) covariance of one part of the effects; (n,) variances without `right`."""
        if part == "pair":
            return self._pairs(left, right)
        names = self._names[part]
        a = self.one_hot(left) @ names
        b = None if right is None else self.one_hot(right) @ names
        return self._scale[part] * _products(a, b)

    def _pairs(self, left: Codes, right: Codes | None) -> Floats:
        """The same of pairs: the sum over pairs of sites of the product of the two sites' kernels,
        which is (the square of the sum - the sum of the squares) / 2.
        """
        a = self.centred(left)
        b = None if right is None else self.centred(right)
        total = np.zeros(len(left) if right is None else (len(left), len(right)))
        squares = np.zeros_like(total)
        for site in self._entries:
            product = _products(a[:, site], None if b is None else b[:, site])
            total = total + product
            squares = squares + product**2
        return np.asarray(self._scale["pair"] * 0.5 * (total**2 - squares))


def _products(left: Floats, right: Floats | None) -> Floats:
    """(n, m) products of rows; (n,) of each with itself without `right`."""
    return np.asarray((left**2).sum(axis=1) if right is None else left @ right.T)


def array_content(array: Floats | Ints) -> Hashable:
    """Equal for arrays of equal numbers and shape."""
    return (array.shape, array.dtype.str, array.tobytes())


def _indicators(rows: Sequence[Sequence[str]]) -> Floats:
    columns = {name: i for i, name in enumerate(sorted({name for row in rows for name in row}))}
    table = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        table[i, [columns[name] for name in row]] = 1.0
    return table

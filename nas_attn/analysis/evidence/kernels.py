"""How alike placements are: kernels over sites and types, whose weights the data decide.

A placement's effect is a sum of three parts: what each choice does at its site, what a type does wherever it stands, and what
fits neither and is the placement's own. The share of the parts is one of KERNELS. Each part is scaled so that two placements
differ, on average over the evaluated ones, by a variance of 2: that of two independent effects of variance 1, so that the
spread of effects means the same under every kernel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas_attn.space import parse

Floats = NDArray[np.float64]
Term = tuple[str, ...]
_Read = Mapping[str, Sequence[Term]]
_Terms = Callable[[_Read, Sequence[str]], Mapping[Term, int]]

Sum = Sequence[tuple[str, float]]
"""A weighted sum of placements' shared effects, (explicit notation, weight): what their sites and types do."""

NONE = "none"
"""What stands at a site that a placement does not name: a choice like others."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Shares of the parts in the variance of effects; they add up to 1."""

    name: str
    prior: float
    """Prior probability."""
    site: float
    type: float

    @property
    def own(self) -> float:
        """Share of what is neither the sites' nor the types'."""
        return 1.0 - self.site - self.type


KERNELS = (
    Kernel("own", 0.5, 0.0, 0.0),
    Kernel("site", 0.25, 0.8, 0.0),
    Kernel("type", 0.25, 0.4, 0.4),
)


class Likeness:
    """Features of placements, scaled over the evaluated ones.

    Args:
        evaluated: explicit notation of the evaluated placements.
        others: placements that were not evaluated; they come after the evaluated ones in every matrix.
        sums: sums of shared effects, which come last.
    """

    def __init__(self, evaluated: Sequence[str], others: Sequence[str] = (), sums: Sequence[Sum] = ()) -> None:
        self.placements = len(evaluated) + len(others)
        self.count = self.placements + len(sums)
        rows: list[Sum] = [*(((text, 1.0),) for text in (*evaluated, *others)), *sums]
        sites = sorted({site for row in rows for text, _ in row for site in _read(text)})
        self.site = _scaled(_matrix([_summed(row, sites, _site_terms) for row in rows]), len(evaluated))
        self.type = _scaled(_matrix([_summed(row, sites, _type_terms) for row in rows]), len(evaluated))

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels that the evaluated placements can tell from one another."""
        kept = [k for k in KERNELS if (self.site.size or not k.site) and (self.type.size or not k.type)]
        return tuple(kept)

    def matrix(self, kernel: Kernel) -> Floats:
        """(n, n) covariance of effects of variance about 1; sums have no part of their own."""
        own = kernel.own * (np.arange(self.count) < self.placements)
        return self.across(kernel, np.arange(self.count)) + np.diag(own)

    def across(self, kernel: Kernel, rows: NDArray[np.intp]) -> Floats:
        """(rows, n) covariance of what the sites and types do, without the placements' own parts."""
        found = np.zeros((len(rows), self.count))
        for share, features in self.parts(kernel):
            found += share * (features[rows] @ features.T)
        return found

    def parts(self, kernel: Kernel) -> Iterator[tuple[float, Floats]]:
        """(share, (n, p) features) of the parts that are shared between placements."""
        if kernel.site:
            yield kernel.site, self.site
        if kernel.type:
            yield kernel.type, self.type


@lru_cache(maxsize=1 << 16)
def _read(text: str) -> _Read:
    """Site -> (position, type, choice) of what stands there."""
    found: dict[str, list[Term]] = {}
    for assignment in parse(text).assignments:
        if not assignment.choice.is_none:
            choice = (assignment.position or "", assignment.choice.type, str(assignment.choice))
            found.setdefault(assignment.site, []).append(choice)
    return found


def _summed(row: Sum, sites: Sequence[str], terms: _Terms) -> dict[Term, float]:
    found: dict[Term, float] = {}
    for text, weight in row:
        for term, count in terms(_read(text), sites).items():
            found[term] = found.get(term, 0.0) + weight * count
    return found


def _site_terms(placement: _Read, sites: Sequence[str]) -> Counter[Term]:
    """A type at a site, and exactly this choice there: choices of one type share half of their effect."""
    terms: Counter[Term] = Counter()
    for site in sites:
        for choice in placement.get(site, [("", NONE, NONE)]):
            terms[site, choice[1]] += 1
            terms[site, *choice] += 1
    return terms


def _type_terms(placement: _Read, sites: Sequence[str]) -> Counter[Term]:
    """How often a type stands anywhere, and how often in each stage."""
    terms: Counter[Term] = Counter()
    for site in sites:
        for choice in placement.get(site, [("", NONE, NONE)]):
            terms[choice[1],] += 1
            if "." in site:
                terms[site.partition(".")[0], choice[1]] += 1
    return terms


def _matrix(rows: Sequence[Mapping[Term, float]]) -> Floats:
    columns = {term: i for i, term in enumerate(sorted(set().union(*rows)))} if rows else {}
    found = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for term, count in row.items():
            found[i, columns[term]] = count
    return found


def _scaled(features: Floats, evaluated: int) -> Floats:
    """Features whose rows differ by a squared distance of 2 on average over the evaluated pairs; empty without any."""
    known = features[:evaluated]
    if evaluated < 2:
        return features[:, :0]
    contrast = 2 * float(known.var(axis=0).sum()) * evaluated / (evaluated - 1)
    return features * np.sqrt(2 / contrast) if contrast > 0 else features[:, :0]

"""Placements near another one, as values of a search space: its parts, and those with one module
exchanged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nas_attn.space.search_space import BARE_VALUE, SearchSpace, Values

ALL_PARTS = 4
"""With at most so many modules, all parts are near; else those that lack one module."""


def sites_with_attention(space: SearchSpace, values: Mapping[str, str]) -> list[str]:
    """The sites whose module can be left out."""
    return [
        site
        for site, value in values.items()
        if value != BARE_VALUE and BARE_VALUE in space.allowed[site]
    ]


def modules_alone(values: Mapping[str, str], sites: Sequence[str]) -> Iterator[Values]:
    """Each of these sites' modules without the others'."""
    for site in sites:
        yield _without(values, {*sites} - {site})


def parts(values: Mapping[str, str], sites: Sequence[str]) -> Iterator[Values]:
    """Without the module of one of these sites, then without those of two …; one module is left."""
    most = len(sites) - 1 if len(sites) <= ALL_PARTS else 1
    for count in range(1, most + 1):
        for left_out in itertools.combinations(sites, count):
            yield _without(values, left_out)


def with_one_exchanged(
    space: SearchSpace, values: Mapping[str, str], sites: Sequence[str]
) -> Iterator[Values]:
    """With each of the modules at one of these sites, its own among them."""
    for site in sites:
        for value in space.allowed[site]:
            if value != BARE_VALUE:
                yield {**values, site: value}


def _without(values: Mapping[str, str], sites: Iterable[str]) -> Values:
    return {**values, **dict.fromkeys(sites, BARE_VALUE)}

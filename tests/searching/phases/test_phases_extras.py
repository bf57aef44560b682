"""Placements near an answer: each keeps some of its modules, and none is named twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas_attn.searching.phases.extras import parts
from nas_attn.space.search_space import BARE_VALUE, Values

SITES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")


def values_of(modules: int) -> Values:
    return {site: "se" if i < modules else BARE_VALUE for i, site in enumerate(SITES)}


@given(st.integers(0, len(SITES)))
def test_parts_keep_a_module_and_differ(modules: int) -> None:
    whole = values_of(modules)
    sites = list(SITES[:modules])
    some = list(parts(whole, sites, range(modules - 1, 0, -1)))
    found = [tuple(sorted(part.items())) for part in some]
    assert len(set(found)) == len(found) == max(0, 2**modules - 2)
    for part in some:
        kept = [site for site, value in part.items() if value != BARE_VALUE]
        assert kept
        assert set(kept) < set(sites)
        assert all(part[site] == whole[site] for site in kept)


@given(st.integers(1, len(SITES)))
def test_each_module_stands_alone_once(modules: int) -> None:
    alone = list(parts(values_of(modules), SITES[:modules], [1]))
    kept = [[site for site, value in one.items() if value != BARE_VALUE] for one in alone]
    assert kept == [[site] for site in SITES[:modules]]

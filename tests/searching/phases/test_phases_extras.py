"""Placements near an answer: each keeps some of its modules, and none is named twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nas_attn import backbones
from nas_attn.attachment import survey
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.searching.phases.extras import (
    ALL_PARTS,
    modules_alone,
    parts,
    sites_with_attention,
    with_one_exchanged,
)
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import BARE_VALUE, SearchSpace, Values

SITES = ("stage1", "stage2", "stage3", "stage4", "stage5", "stage6")


def values_of(modules: int) -> Values:
    return {site: "se" if i < modules else BARE_VALUE for i, site in enumerate(SITES)}


@given(st.integers(0, len(SITES)))
def test_parts_keep_a_module_and_differ(modules: int) -> None:
    whole = values_of(modules)
    sites = list(SITES[:modules])
    found = [tuple(sorted(part.items())) for part in parts(whole, sites)]
    assert len(set(found)) == len(found)
    for part in parts(whole, sites):
        kept = [site for site, value in part.items() if value != BARE_VALUE]
        assert kept
        assert set(kept) < set(sites)
        assert all(part[site] == whole[site] for site in kept)
    if modules <= ALL_PARTS:
        assert len(found) == max(0, 2**modules - 2)
    else:
        assert len(found) == modules


@given(st.integers(1, len(SITES)))
def test_each_module_stands_alone_once(modules: int) -> None:
    alone = list(modules_alone(values_of(modules), SITES[:modules]))
    kept = [[site for site, value in one.items() if value != BARE_VALUE] for one in alone]
    assert kept == [[site] for site in SITES[:modules]]


def test_one_module_is_exchanged_and_none_is_left_out() -> None:
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=4)
    spec = SpaceSpec.model_validate({"name": "two", "choices": {"se": {}, "eca": {}}})
    space = SearchSpace(spec, survey(model, (3, 16, 16)).sites)
    answer = {site: allowed[-1] for site, allowed in space.allowed.items()}
    sites = sites_with_attention(space, answer)
    assert sites == list(space.allowed)
    near = list(with_one_exchanged(space, answer, sites))
    assert {sum(one[site] != answer[site] for site in answer) for one in near} == {0, 1}
    assert all(BARE_VALUE not in one.values() for one in near)

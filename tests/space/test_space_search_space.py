import random
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_attn import attachment, backbones, errors
from nas_attn.recipe import reading, recipe
from nas_attn.space import notation, schema
from nas_attn.space.placement import Site
from nas_attn.space.search_space import SearchSpace, resolve


@cache
def sites() -> tuple[Site, ...]:
    model = backbones.build(
        recipe.BackboneSection(name="resnet20"), input_shape=(3, 32, 32), classes=10
    )
    return attachment.survey(model, (3, 32, 32)).sites


def space(**table: object) -> SearchSpace:
    return SearchSpace(schema.SpaceSpec.model_validate({"name": "test", **table}), sites())


knobs = {
    "se": {"reduction": [4, 8, 16]},
    "eca": {"kernel_size": ["auto", 3, 5]},
    "simam": {},
    "ela": {"variant": ["T", "B"]},
}
spaces = st.builds(
    lambda types, positions, limit, none, first: space(
        choices={**{name: knobs[name] for name in types}, "none": none},
        sites={"positions": positions},
        limits={"max_modules": limit},
        per_site={"stage1": {"choices": first}} if first else {},
    ),
    st.lists(st.sampled_from(sorted(knobs)), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(["residual", "block", "stage"]), min_size=1, max_size=2, unique=True),
    st.one_of(st.none(), st.integers(0, 4)),
    st.booleans(),
    st.just([]),
)


@settings(max_examples=20, deadline=None)
@given(spaces)
def test_the_count_is_exact_and_every_placement_another_network(found: SearchSpace) -> None:
    placements = list(found.enumerate())
    assert found.count() == len(placements)
    if len(placements) <= 200:
        assert len({found.resolve(values).key for values in placements}) == len(placements)


@settings(max_examples=20, deadline=None)
@given(spaces, st.integers(0, 99))
def test_samples_lie_in_the_space_and_encode_their_placement(found: SearchSpace, seed: int) -> None:
    if found.count() == 0:
        with pytest.raises(errors.RecipeError, match="max_modules"):
            found.sample(random.Random(seed))
        return
    values = found.sample(random.Random(seed))
    assert found.contains(values)
    assert all(values[site] in choices for site, choices in found.parameters.items())
    resolved = found.resolve(values)
    assert found.values(resolved) == values
    assert found.values(resolve(notation.parse(resolved.text), sites())) == values
    for neighbour in found.neighbours(values):
        assert found.contains(neighbour)
        assert sum(neighbour[site] != values[site] for site in values) == 1


def test_samples_are_uniform_under_a_limit() -> None:
    found = space(choices={"se": {"reduction": [4, 8]}, "simam": {}}, limits={"max_modules": 1})
    rng = random.Random(0)
    seen = Counter(str(found.placement(found.sample(rng))) for _ in range(5000))
    assert len(seen) == found.count() == 10
    assert max(seen.values()) < 1.3 * min(seen.values())


def test_what_is_the_same_network_on_narrow_stages_is_one_choice() -> None:
    found = space(choices={"eca": {"kernel_size": ["auto", 3]}, "coord": {"reduction": [16, 32]}})
    assert found.allowed["stage1"] == ("none", "eca(kernel_size=auto)", "coord(reduction=16)")


def test_a_value_too_large_for_a_stage_becomes_the_nearest_possible() -> None:
    found = space(choices={"se": {"reduction": [64]}})
    assert found.allowed["stage1"] == (
        "none",
        "se",
    )  # 16 channels: reduction 16, which is the default
    assert found.allowed["stage3"] == ("none", "se(reduction=64)")


def test_baselines_may_lie_outside_the_space_but_are_encoded() -> None:
    found = space(
        choices={"se": {"reduction": [8]}, "eca": {}},
        per_site={"stage1": {"choices": ["none", "eca"]}},
        limits={"max_modules": 1},
    )
    names = [baseline.name for baseline in found.baselines()]
    assert names == ["none", "uniform se(reduction=8)", "uniform eca"]
    for baseline in found.baselines():
        assert all(value in found.parameters[site] for site, value in baseline.values.items())
        assert found.contains(baseline.values) == (baseline.name == "none")


def test_blocks_and_patterns() -> None:
    found = space(
        choices={"simam": {}},
        sites={
            "granularity": "block",
            "include": ["stage2.*", "stage3.*"],
            "exclude": ["*.block1"],
        },
    )
    assert [site.name for site in found.sites] == [
        "stage2.block2",
        "stage2.block3",
        "stage3.block2",
        "stage3.block3",
    ]
    assert found.count() == 2**4


def test_positions_that_are_searched_are_part_of_the_value() -> None:
    found = space(
        choices={"simam": {}}, sites={"positions": ["residual", "stage"], "include": ["stage3"]}
    )
    assert found.allowed["stage3"] == ("none", "@residual=simam", "@stage=simam")
    assert str(found.placement({"stage3": "@stage=simam"})) == "stage3@stage=simam"


def test_a_placement_outside_the_space_is_refused_by_name() -> None:
    found = space(choices={"simam": {}}, sites={"include": ["stage1", "stage2"]})
    with pytest.raises(errors.PlacementError, match=r"stage1: .*none, simam"):
        found.values(resolve(notation.parse("stage1=eca"), sites()))
    with pytest.raises(errors.PlacementError, match="does not search at"):
        found.values(resolve(notation.parse("stage3=simam"), sites()))


@pytest.mark.parametrize(
    "name", ["plug_and_play", "channel", "ela", "spatial_and_channel", "detector", "small"]
)
def test_shipped_spaces_fit_the_shipped_backbones(name: str) -> None:
    assert name in reading.shipped("search_spaces")
    assert SearchSpace(reading.load_space(name), sites()).count() > 100


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "x"\n[choices]\nse = {', "is not valid TOML"),
        ('name = "x"\n[choises]\nse = {}', "unknown key 'choises': did you mean 'choices'?"),
        (
            'name = "x"\n[choices]\nse = {}\n[sites]\ngranularty = "block"',
            "did you mean 'granularity'?",
        ),
        ('name = "x"\n[choices]\nse = {}\n[sites]\npositions = ["branch"]', "sites.positions"),
        (
            'name = "x"\n[choices]\nse = {}\n[per_site.stage1]\nchoices = ["es"]',
            "did you mean 'se'?",
        ),
        ('name = "x"\n[choices]\nnone = false', "name at least one attention type"),
        ('name = "x"\n[choices]\nsse = {}', "unknown attention type 'sse'"),
        ('name = "x"\n[choices]\nse = { reductoin = 4 }', "did you mean 'reduction'?"),
        (
            'name = "x"\n[choices]\nse = {}\n[per_site.stge1]\nchoices = ["se"]',
            "did you mean 'stage1'?",
        ),
        (
            'name = "x"\n[choices]\nse = {}\n[sites]\ninclude = ["layer*"]',
            "the backbone has stage1, stage2, stage3",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence_with_file_key_and_way_out(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(errors.RecipeError) as error:
        SearchSpace(reading.load_space(str(path)), sites())
    assert told in str(error.value)
    assert "mine.toml" in str(error.value)
    assert "\n" not in str(error.value)


@cache
def mobilenet_sites() -> tuple[Site, ...]:
    return attachment.survey(mobilenet(), (3, 64, 64), custom={"last": ["features.12"]}).sites


def mobilenet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        section = recipe.BackboneSection(name="torchvision:mobilenet_v3_small")
        return backbones.build(section, input_shape=(3, 64, 64), classes=4).eval()


def searching_originals(**sites: object) -> SearchSpace:
    table = {
        "name": "own",
        "sites": {"originals": "search", **sites},
        "choices": {"eca": {}, "se": {"reduction": 4}},
    }
    return SearchSpace(schema.SpaceSpec.model_validate(table), mobilenet_sites())


def test_a_backbones_own_attention_is_kept_replaced_or_removed() -> None:
    found = searching_originals(include=["*.original*"])
    site = found.sites[0]
    assert found.allowed[site.name][:2] == ("original", "none")
    assert found.contains(found.baselines()[0].values)
    kept = found.baselines()[0].values
    assert found.resolve(kept).text == "none"
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answers = {}
    for value in ("original", "none", "eca"):
        resolved = found.resolve({**kept, site.name: value})
        assert found.values(resolved) == {**kept, site.name: value}
        assert resolve(notation.parse(resolved.text), mobilenet_sites()).key == resolved.key
        model = mobilenet()
        attached = attachment.attach(model, resolved) if resolved.modules else model
        with torch.no_grad():
            answers[value] = attached(x)
    assert torch.equal(answers["original"], mobilenet()(x))
    assert not torch.equal(answers["none"], answers["original"])
    assert not torch.equal(answers["eca"], answers["none"])


def test_a_glob_leaves_a_backbones_own_attention_alone() -> None:
    everywhere = resolve(notation.parse("*=eca"), mobilenet_sites())
    assert not any(point.replaces for point, _ in everywhere.modules)
    with pytest.raises(errors.PlacementError, match=r"stage1 .*original"):
        resolve(notation.parse("stage1=original"), mobilenet_sites())


def test_sites_of_ones_own_are_searched_beside_the_found_ones() -> None:
    table = {"name": "own", "sites": {"custom": {"last": ["features.12"]}}, "choices": {"eca": {}}}
    found = SearchSpace(schema.SpaceSpec.model_validate(table), mobilenet_sites())
    assert found.sites[-1].name == "last"
    assert not any(site.original for site in found.sites)
    assert "last=eca" in found.resolve({**found.baselines()[0].values, "last": "eca"}).text

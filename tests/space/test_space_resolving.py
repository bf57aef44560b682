"""Keys are held against the networks that are really built."""

import zlib
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn import attachment, backbones, errors
from nas_attn.attention.choice import Choice
from nas_attn.recipe import recipe
from nas_attn.space import notation, schema, search_space
from nas_attn.space.placement import Assignment, Placement, ResolvedPlacement, Site

SHAPE = (3, 16, 16)


def bare() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return backbones.build(
            recipe.BackboneSection(name="resnet14", width=8), input_shape=SHAPE, classes=4
        )


@cache
def sites() -> tuple[Site, ...]:
    return attachment.survey(bare(), SHAPE).sites


def resolved(text: str | Placement, init: str = "paper") -> ResolvedPlacement:
    placement = notation.parse(text) if isinstance(text, str) else text
    return search_space.resolve(placement, sites(), init=init)


@cache
def output(placement: ResolvedPlacement) -> bytes:
    """What the network answers when every weight follows from its name: equal for equal networks,
    bit for bit.
    """
    model = attachment.attach(bare(), placement).eval().double()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5
                tensor.copy_(drawn + 1 if tensor.dim() == 1 else drawn)
        x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return model(x).numpy().tobytes()


choices = st.sampled_from(
    [
        Choice("none"),
        Choice("se", (("reduction", 4),)),
        Choice("cbam", (("reduction", 8), ("spatial_kernel_size", 3))),
        Choice("eca"),
        Choice("eca", (("kernel_size", 3),)),
        Choice("eca", (("kernel_size", 5),)),
        Choice("cbam", (("reduction", 2), ("spatial_kernel_size", 3))),
        Choice("coord"),
        Choice("coord", (("reduction", 2),)),
        Choice("ela", (("variant", "T"),)),
        Choice("ela", (("variant", "B"),)),
        Choice("ela", (("variant", "S"),)),
        Choice("ela", (("kernel_size", 5), ("groups", 1), ("norm_groups", 8))),
        Choice("simam"),
        Choice("simam", (("e_lambda", 0.01),)),
    ]
)
places = st.sampled_from(
    [(site.name, position) for site in sites() for position in (None, *site.positions)]
    + [("*", None), ("stage*.block2", "block")]
)
placements = st.lists(st.tuples(places, choices), max_size=3).map(
    lambda parts: Placement(
        tuple(
            Assignment(site, choice, position) for (site, position), choice in dict(parts).items()
        )
    )
)


def may_resolve(placement: Placement) -> ResolvedPlacement | None:
    try:
        return resolved(placement)
    except errors.PlacementError:  # twice at one place, or impossible on 8 channels
        return None


@settings(max_examples=20, deadline=None)
@given(placements, placements)
@pytest.mark.filterwarnings("ignore::nas_attn.errors.NasAttnWarning")
def test_equal_networks_have_equal_keys_and_different_ones_different(
    first: Placement, second: Placement
) -> None:
    a, b = may_resolve(first), may_resolve(second)
    if a is not None and b is not None:
        assert (a.key == b.key) == (output(a) == output(b)), (str(first), str(second))


@settings(max_examples=25, deadline=None)
@given(placements)
@pytest.mark.filterwarnings("ignore::nas_attn.errors.NasAttnWarning")
def test_explicit_notation_resolves_to_the_same_network(placement: Placement) -> None:
    explicit = may_resolve(placement)
    if explicit is not None:
        again = resolved(explicit.text)
        assert (again.key, again.modules, again.text) == (
            explicit.key,
            explicit.modules,
            explicit.text,
        )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("stage1=none stage2=none", "none"),
        ("stage2.block1=se(reduction=4) stage2.block2=se(reduction=4)", "stage2=se(reduction=4)"),
        ("stage2@stage=eca", "stage2.block2@block=eca"),
        ("stage2=se(reduction=4) stage2.block2=none", "stage2.block1=se(reduction=4)"),
        ("stage1=eca(kernel_size=auto)", "stage1@residual=eca(kernel_size=3)"),
        ("*=simam", "stage1=simam stage2=simam stage3=simam"),
    ],
)
def test_two_ways_to_say_the_same(one: str, other: str) -> None:
    assert resolved(one).key == resolved(other).key


def test_positions_are_different_networks() -> None:
    keys = {resolved(f"stage2@{position}=simam").key for position in ("residual", "block", "stage")}
    assert len(keys) == 3


def test_the_two_forms_of_a_module_are_two_networks_but_no_attention_is_one() -> None:
    assert resolved("stage1=eca", "paper").key != resolved("stage1=eca", "identity").key
    assert resolved("none", "paper").key == resolved("none", "identity").key


def test_two_modules_at_one_point_apply_in_the_order_of_the_positions() -> None:
    placement = resolved("stage3@stage=simam stage3@block=eca")
    last = max(placement.modules, key=lambda module: len(module[1]))
    assert [choice.type for choice in last[1]] == ["eca", "simam"]


def test_two_sites_at_one_module_are_no_two_places() -> None:
    both = attachment.survey(bare(), SHAPE, custom={"mine": ["layer1.0"]}).sites
    assert len(search_space.resolve(notation.parse("stage1@block=se mine=se"), both).modules) == 2
    with pytest.raises(errors.PlacementError, match=r"stage1 and mine both mean layer1\.0"):
        search_space.resolve(notation.parse("stage1@block=se mine=eca"), both)
    table = {
        "name": "own",
        "sites": {"custom": {"mine": ["layer1.0"]}, "positions": ["block"]},
        "choices": {"eca": {}},
    }
    with pytest.raises(errors.RecipeError, match=r"sites\.exclude"):
        search_space.SearchSpace(schema.SpaceSpec.model_validate(table), both)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stage9=se", "unknown site 'stage9': did you mean 'stage"),
        ("stage2=sse", "unknown attention type 'sse'"),
        ("stage2=se(reductoin=4)", "unknown knob 'reductoin': did you mean 'reduction'?"),
        ("stage1=se(reduction=64)", "reduction=64"),
        ("stage1=se stage1@residual=eca", "stage1@residual is assigned twice"),
        ("backbone=resnet14 backbone=resnet20 stage1=se", "names two backbones"),
        ("stage1.block1@stage=se", "stage1.block1 has no position 'stage'"),
    ],
)
def test_what_does_not_fit_is_one_sentence_that_names_it(text: str, told: str) -> None:
    with pytest.raises(errors.PlacementError) as error:
        resolved(text)
    assert told in str(error.value)
    assert "\n" not in str(error.value)

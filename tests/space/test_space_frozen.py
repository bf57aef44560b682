"""A recipe means the same before and after a study freezes it: parameters, baselines, keys, in the
same order.
"""

import itertools
import re
import tomllib
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn import attachment, backbones, errors
from nas_attn.attention.catalogue import ROWS
from nas_attn.recipe import reading
from nas_attn.recipe.recipe import BackboneSection, Recipe
from nas_attn.space.placement import Site
from nas_attn.space.search_space import SearchSpace

KNOBS: dict[str, list[Any]] = {"int": [1, 2, 4, 8], "float": [0.5, 1.0], "bool": [True, False]}


@cache
def sites() -> tuple[Site, ...]:
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=(3, 32, 32), classes=4)
    return attachment.survey(model, (3, 32, 32)).sites


def consequences(recipe: Recipe) -> list[object]:
    """What follows from a recipe's space, order included."""
    space = SearchSpace(recipe.space, sites(), init=recipe.training.init)
    baselines = [
        (b.name, list(b.values.items()), space.resolve(b.values).key) for b in space.baselines()
    ]
    first = [space.resolve(values).key for values in itertools.islice(space.enumerate(), 50)]
    return [list(space.parameters.items()), list(space.allowed.items()), baselines, first]


def frozen(recipe: Recipe) -> Recipe:
    return reading.frozen_recipe(recipe.to_json(), where="a test")


def with_space(space: object) -> Recipe:
    table = {
        "name": "made",
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits"},
        "space": space,
    }
    return reading.recipe_from(table, where="a test")


@pytest.mark.parametrize("name", reading.shipped("studies"))
def test_a_shipped_recipe_means_the_same_when_frozen(name: str) -> None:
    recipe = reading.load_recipe(name)
    assert consequences(frozen(recipe)) == consequences(recipe)


@pytest.mark.parametrize("name", reading.shipped("search_spaces"))
def test_a_shipped_space_means_the_same_when_frozen(name: str) -> None:
    recipe = with_space(tomllib.loads(reading.shipped("search_spaces")[name]))
    assert consequences(frozen(recipe)) == consequences(recipe)


@pytest.mark.parametrize(("start", "form"), [("scratch", "paper"), ("backbone", "identity")])
def test_an_older_recipe_keeps_the_form_that_it_trained(start: str, form: str) -> None:
    recipe = frozen(
        reading.load_recipe("digits", overrides={"training.start": start, "training.init": form})
    )
    older = recipe.to_json().replace(f'"init": "{form}"', '"init": "auto"')
    assert older != recipe.to_json()
    assert reading.frozen_recipe(older, where="a test") == recipe


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, object]:
    """Types, their knobs and values in any order, per-site restrictions included."""
    choices: dict[str, object] = {}
    for name in draw(st.lists(st.sampled_from(sorted(ROWS)), min_size=1, max_size=5, unique=True)):
        specs = draw(st.permutations([k for k in ROWS[name].knobs if k.kind in (int, bool)]))
        choices[name] = {
            knob.name: draw(st.permutations(KNOBS[knob.kind.__name__]))[: draw(st.integers(1, 2))]
            for knob in specs[: draw(st.integers(0, 3))]
            if knob.kind is bool or not isinstance(knob.default, str)
        }
    positions = draw(
        st.lists(
            st.sampled_from(["residual", "block", "stage"]), min_size=1, max_size=3, unique=True
        )
    )
    types = draw(st.permutations([*choices, "none"]))
    return {
        "name": "made",
        "choices": choices,
        "sites": {"positions": positions},
        "per_site": {"stage2": {"choices": types}},
    }


@settings(max_examples=15, deadline=None)
@given(spaces())
def test_any_space_means_the_same_when_frozen(space: dict[str, object]) -> None:
    recipe = with_space(space)
    try:
        meant = consequences(recipe)
    except errors.RecipeError as error:  # values that no module can take are refused alike
        with pytest.raises(errors.RecipeError, match=re.escape(str(error))):
            consequences(frozen(recipe))
        return
    assert consequences(frozen(recipe)) == meant


def test_sites_of_ones_own_keep_their_order_when_frozen() -> None:
    custom = {"stem": ["conv1"], "neck": ["layer3"], "a": ["layer1"]}
    recipe = with_space({"name": "made", "choices": {"se": {}}, "sites": {"custom": custom}})
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=(3, 32, 32), classes=4)
    for one in (recipe, frozen(recipe)):
        found = attachment.find_sites(model, (3, 32, 32), custom=one.space.sites.custom)
        assert [site.name for site in found][-3:] == ["stem", "neck", "a"]

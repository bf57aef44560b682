"""What `nas-attn search` takes for the recipe of a study that is there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nas_attn.errors import NasAttnError
from nas_attn.recipe.recipe import Recipe


def recipe_of(kept: Recipe) -> str | None:
    """The shipped name, or the file in the working folder, of a study's recipe `kept`; None if
    there is none. Name, length of the target and number of candidates may be other ones: the
    command that goes on from there states or repeats them.
    """
    from nas_attn.recipe.reading import load_recipe, shipped

    asked = kept.as_asked()
    changes = {
        "name": asked.name,
        "target.epochs": asked.target.epochs,
        "search.trials": asked.search.trials,
    }
    for name in (*sorted(map(str, Path().glob("*.toml"))), *shipped("studies")):
        # another program's file is no recipe
        with suppress(NasAttnError):
            if load_recipe(name, overrides=changes).is_that_of(kept):
                return name
    return None

"""What the shell offers for a value: shipped names, files, the studies of the database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import typer

from nas_attn.errors import NasAttnError
from nas_attn.paths import DEFAULT_URL


def recipes(incomplete: str) -> list[str]:
    """Shipped recipes, and TOML files."""
    return _shipped("studies", incomplete)


def spaces(incomplete: str) -> list[str]:
    """Shipped search spaces, and TOML files."""
    return _shipped("search_spaces", incomplete)


def modules(incomplete: str) -> list[str]:
    """Attention modules of the catalogue."""
    from nas_attn.attention import catalogue

    return _beginning(catalogue.ROWS, incomplete)


def studies(context: typer.Context, incomplete: str) -> list[str]:
    """Studies of the database that is named, or usual."""
    from nas_attn.storage import Database

    try:
        with Database(context.params.get("storage") or DEFAULT_URL, must_exist=True) as database:
            return _beginning((study.name for study in database.studies()), incomplete)
    except NasAttnError:  # who completes a word is not told of errors
        return []


def _shipped(kind: Literal["search_spaces", "studies"], incomplete: str) -> list[str]:
    from nas_attn.recipe_reading import shipped

    files = (str(path) for path in Path().glob("*.toml"))
    return _beginning([*shipped(kind), *files], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

"""TOML that a user wrote, as a table, and a table as TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from nas_attn.errors import RecipeError, shorten

DEPTH = 20
"""Levels of tables and lists in a recipe; what is read from it may be walked by recursion."""
_TOO_DEEP = f"{{}} is nested deeper than {DEPTH} levels: use fewer"


def read_toml(text: str, where: str) -> dict[str, Any]:
    """A table from TOML; `where` names its origin in errors.

    Raises:
        RecipeError: it is no valid TOML, or nested too deeply.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not valid TOML: {shorten(str(error))}") from None
    except RecursionError:
        raise RecipeError(_TOO_DEEP.format(where)) from None
    check_depth(table, where)
    return table


def check_depth(table: Any, where: str) -> None:
    """Raises:
    RecipeError: tables and lists lie in each other deeper than DEPTH.
    """
    level = [table]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecipeError(_TOO_DEEP.format(where))


def write_toml(table: Mapping[str, Any]) -> str:
    """TOML that reads as the table; None is left out.

    Args:
        table: of texts, numbers, truth values, lists and tables.
    """
    import tomlkit

    return tomlkit.dumps(_without_none(table))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list | tuple) else value

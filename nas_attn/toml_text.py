"""TOML that a user wrote, as a table, and a table as TOML."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from nas_attn.errors import RecipeError, shorten

DEPTH = 20
"""Levels of tables and lists in a recipe; what is read from it may be walked by recursion."""
_TOO_DEEP = f"{{}} is nested deeper than {DEPTH} levels: write what is meant with fewer"


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
    """TOML that reads as the table: sections for its tables, what lies deeper inline; None is left out.

    Args:
        table: of texts, numbers, truth values, lists and tables.
    """
    plain = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    lines = [*_assignments(plain)]
    for name, section in table.items():
        if isinstance(section, Mapping):
            lines += ["", f"[{_key(name)}]", *_assignments(section)]
    return "\n".join(lines).strip("\n") + "\n"


def _assignments(table: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(name)} = {_value(value)}" for name, value in table.items() if value is not None)


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_assignments(value))} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

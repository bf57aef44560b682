"""Writes recipe.md beside this file from the schema in nas_attn/recipe/sections.py and
protocol.py, and nas_attn/space/schema.py: `make docs`.
"""

from __future__ import annotations

import ast
import inspect
import json
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from nas_attn.recipe import tables, tasks
from nas_attn.recipe.recipe import Augment, Named, Recipe, Schedule
from nas_attn.space.schema import Section, SpaceSpec

PAGE = Path(__file__).with_name("recipe.md")
HEAD = """\
# Recipe and search space, key by key

`make docs` writes this page from `nas_attn/recipe/sections.py`, `nas_attn/recipe/protocol.py` and
`nas_attn/space/schema.py`. Recipes and search spaces are TOML files. A missing key has its default.
An unknown key is an error that names the nearest one.

`nas-attn search RECIPE --set training.batch_size=256` changes a key for one call.
"""
NAMES = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    dict: "table",
    Augment: "table with a name",
    Named: "table with a name",
    Schedule: "table with a name",
}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


TABLES = {  # What a docstring of the schema has in braces
    "data_sets": _listed(tables.DATA_SETS),
    "samplers": _listed(tables.SAMPLERS),
    "latency_modes": _listed(tables.LATENCY_MODES),
    "metrics": "; ".join(f"{name}: {_listed(task.metrics)}" for name, task in tasks.TASKS.items()),
    "costs": _listed(tables.COSTS),
}
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## The recipe\n", *_section(Recipe, ""), "## The search space\n"]
    parts.append("A file that the recipe names, or the recipe's `[space]`.\n")
    parts += _section(SpaceSpec, "")
    parts += ["## Costs\n", *_costs(), "## Samplers\n", *_samplers()]
    return "\n".join(parts)


def _costs() -> Iterator[str]:
    """A table of the costs that an objective can name."""
    yield "An objective is a metric or one of these; lower is better.\n"
    yield "| cost | | limit |\n|---|---|---|"
    for row in tables.COSTS.values():
        limit = f"`limits.{row.limit}`" if row.limit else ""
        yield f"| `{row.name}` | {row.description} | {limit} |"
    yield ""


def _samplers() -> Iterator[str]:
    """A table of the samplers that `search.sampler` can name."""
    yield "| sampler | what it proposes |\n|---|---|"
    for row in tables.SAMPLERS.values():
        yield f"| `{row.name}` | {row.description} |"
    yield ""


def _section(model: type[Section], path: str) -> Iterator[str]:
    """One table of keys, then those of the sections inside."""
    documented, inside = _docstrings(model), []
    if path:
        yield f"### `[{path}]`\n\n{inspect.cleandoc(model.__doc__ or '').splitlines()[0]}\n"
    yield "| key | value | default | |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        if field.exclude:
            continue
        if nested is not None and nested is not SpaceSpec:
            several = typing.get_origin(field.annotation) is dict
            inside.append((nested, f"{path}.{name}".lstrip(".") + (".SITE" if several else "")))
            continue
        value = (
            "shipped name, path or table" if nested else _value(field.annotation) + _bounds(field)
        )
        cells = (f"`{name}`", value, _default(field), documented.get(name, ""))
        yield (
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        )
    yield ""
    for nested, where in inside:
        yield from _section(nested, where)


def _docstrings(model: type[Section]) -> dict[str, str]:
    """Key -> the text under it in the source."""
    (definition,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            assert isinstance(field.target, ast.Name)
            said = inspect.cleandoc(str(text.value.value)).replace("None:", "left out:")
            for name, names in TABLES.items():
                said = said.replace(f"{{{name}}}", names)
            found[field.target.id] = said
    return found


def _nested(annotation: Any) -> type[Section] | None:
    """The section that a key holds, or a table of which."""
    candidates = (annotation, *typing.get_args(annotation))
    return next((a for a in candidates if isinstance(a, type) and issubclass(a, Section)), None)


def _value(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation == SpaceSpec.model_fields["choices"].annotation:
        return "table: type → table of knobs (or a list of such), each one value or a list"
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin is typing.Annotated:
        return _value(arguments[0]) + _limits(arguments[1].metadata)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_value(a) for a in arguments if a is not type(None)))
    if origin is list:
        return f"list of: {_value(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)}: {_value(arguments[0])}"
    return NAMES[origin or annotation]


def _bounds(field: FieldInfo) -> str:
    return _limits(field.metadata)


def _limits(metadata: Any) -> str:
    """Limits of a number; lengths of texts and lists are left to the error messages."""
    found = [
        f"{sign} {getattr(m, key)}"
        for m in metadata
        for key, sign in BOUNDS.items()
        if hasattr(m, key)
    ]
    return f" {' and '.join(found)}" if found else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    return f"`{json.dumps(value)}`" if value not in ([], {}) else "empty"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

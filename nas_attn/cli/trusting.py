"""Recipes are code: they name Python functions and commands. From outside the current folder they run only when trusted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_attn.errors import RecipeError, few, shorten

if TYPE_CHECKING:
    from pydantic import BaseModel

Trust = Annotated[
    bool, typer.Option("--trust", help="Run Python code and commands that a recipe outside the current folder names.")
]
_OBJECT = re.compile(r"(?P<module>[A-Za-z_]\w*(\.\w+)*):[A-Za-z_]\w*")
_SOURCES = ("torchvision", "timm", "smp", "ultralytics", "folder", "coco", "yolo", "python")
"""What may stand before a colon without being a module."""


def check_trust(path: str, read: BaseModel, *, trust: bool) -> None:
    """Asks before code of a file from outside the current folder runs.

    Args:
        path: of the recipe or search space, or a shipped name.
        read: what it says.

    Raises:
        RecipeError: it names code and is not trusted.
    """
    if trust or not os.path.isfile(path) or Path(path).resolve().is_relative_to(Path.cwd()):
        return
    named = sorted(set(_code_in(read.model_dump(mode="json"))))
    if not named:
        return
    what = f"'{shorten(path)}' is outside the current folder and runs code: {few(named)}"
    if sys.stdin.isatty() and typer.confirm(f"{what}. Run it?"):
        return
    raise RecipeError(f"{what}: read it, then add --trust")


def _code_in(value: Any, key: str = "") -> Iterator[str]:
    """Python objects and commands that a table names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _code_in(name)
            yield from _code_in(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _code_in(inner, key)
    elif isinstance(value, str):
        found = _OBJECT.fullmatch(value)
        if key == "command" or (found and found["module"] not in _SOURCES):
            yield value

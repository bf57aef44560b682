"""What of a recipe, a study or a file could run code of its author; a person is asked before it
does. Whatever is overlooked here is refused where it would be imported (`system.importing`).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nas_attn.errors import RecipeError, few, printable, shorten
from nas_attn.recipe import tables
from nas_attn.system.importing import distrust

if TYPE_CHECKING:
    from nas_attn.recipe.recipe import Recipe
    from nas_attn.storage.opening import OpenStudy

HARMLESS = re.compile(
    r"(?<!\S)backbone=(torchvision|timm|smp|python):[^\s:(+]+(?![^\s(+])"
    r"|^data=(folder|coco|python):(\w:)?[^:]*$"
)
"""Settings and parts of placements whose libraries run no code of somebody else. A second colon is
of a hub or of a folder, which old versions of timm read as pickles.
"""
EXECUTED = ("ultralytics:", "yolo:", "timm:local-dir:")
"""How names of files and folders begin that their library executes."""
READ_AS_DATA = frozenset({"weights", "onnx", "onnx-int8"})
"""Formats of exported networks that run no code of their author. torch reads a torch.export archive
with a pickle and evaluates its expressions.
"""
# whatever a text may name with a colon, without the site or the setting before it
_NAMED = re.compile(r"[^\s=(+]*:[^\s(+]*")


def is_here(path: str | Path) -> bool:
    """Whether a file lies in the current folder, whose files are the user's own."""
    return Path(path).resolve().is_relative_to(Path.cwd().resolve())


def check_recipe(path: str, recipe: Recipe, *, trust: bool) -> None:
    """Asks before running code that is named by a recipe at `path` or its space, if these are files
    outside the current folder. Raises RecipeError: nobody says that the code is trusted.
    """
    for at, part in ((path, recipe), (recipe.space.origin, recipe.space)):
        if os.path.isfile(at) and not is_here(at):
            ask_for_trust(at, code_in(part.model_dump(mode="json")), trust=trust)
    check_typed(recipe.backbone.name, recipe.data.name, trust=trust)


def check_study(opened: OpenStudy, *, trust: bool) -> None:
    """Asks before running code that is named by a study outside the current folder; RecipeError if
    it is not trusted.
    """
    path = opened.database.path
    if path is not None and not is_here(path):
        ask_for_trust(str(path), _code_of_study(opened), trust=trust)
    check_typed(opened.recipe.backbone.name, opened.recipe.data.name, trust=trust)


def check_typed(*names: str, trust: bool) -> None:
    """Asks before a file outside the current folder is executed that the user names as backbone or
    data. Raises RecipeError: nobody says that it is trusted.
    """
    for name in names:
        place = name.rpartition(":")[2]
        if name.startswith(EXECUTED) and os.path.exists(place) and not is_here(place):
            ask_for_trust(place, [name], trust=trust)


def check_export(file: Path, *, trust: bool) -> None:
    """Asks before an exported file outside the current folder is run, or code that its card names.
    RecipeError: nobody says that it is trusted. UserError: it has no card.
    """
    from nas_attn.export.card import read_card

    if is_here(file):
        return
    # a card may be damaged, so nothing is assumed about it
    card: Mapping[str, Any] = read_card(file)
    section = card["data"].get("section") if isinstance(card.get("data"), Mapping) else None
    parts = [{"data": section}, card.get("recipe"), card.get("modules"), card.get("placement")]
    code = [name for part in parts for name in code_in(part)]
    if card.get("format") not in READ_AS_DATA:
        code.append(file.name)
    ask_for_trust(str(file), code, trust=trust)


def ask_for_trust(path: str, named: Iterable[str], *, trust: bool) -> None:
    """Asks before code is run that a file outside the current folder names. Raises RecipeError:
    nobody says that it is trusted. Without trust, this process imports nothing that the file names.
    """
    names = sorted(set(named))
    if trust:
        return
    what = f"'{shorten(path)}' is outside the current folder and runs code: {few(names)}"
    if names and sys.stdin.isatty() and typer.confirm(f"{printable(what)}. Run it?"):
        return
    if names:
        raise RecipeError(f"{what}: read it, then add --trust")
    distrust(path, OF_PRESETS)


def code_in(value: Any, at: tuple[str, ...] = ()) -> Iterator[str]:
    """What a recipe or a part of it names of Python objects, commands or files that a library
    executes; doubtful ones included. `at`: the keys that lead to the value.
    """
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from code_in(str(name))
            yield from code_in(inner, (*at, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from code_in(inner, at)
    elif isinstance(value, str):
        yield from _named(value, at)


def _named(text: str, at: tuple[str, ...]) -> list[str]:
    # an option of a backbone may be a file, which its library reads as a pickle
    if {"command", "evaluator"}.intersection(at[-1:]) or at[:2] == ("backbone", "options"):
        return [text]
    if text in OF_PRESETS:
        return []
    setting = f"{at[0]}={text}" if at[1:] == ("name",) else text
    return _NAMED.findall(HARMLESS.sub("", setting))


OF_PRESETS = frozenset(text for text in re.findall(r"'([\w.]+:[\w.]+)'", str(dict(tables.PRESETS))))
"""Objects of other packages that our own presets name."""


def _code_of_study(opened: OpenStudy) -> Iterator[str]:
    """The code that a study's database names: in its recipe, its protocols, its networks."""
    store = opened.store
    yield from code_in(opened.recipe.model_dump(mode="json"))
    for text in (*store.protocols.all().values(), *store.validations.all().values()):
        # whoever needs a damaged one says so
        with suppress(ValueError):
            yield from code_in(json.loads(text))
    yield from code_in([str(candidate.placement) for candidate in store.candidates()])
    yield from code_in([str(row.run.placement) for row in store.queue.rows()])

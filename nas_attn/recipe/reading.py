"""Reads recipes and search spaces from TOML files and studies, and says in one sentence what is
wrong with them.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
import typing
from collections.abc import Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from nas_attn.attention.choice import Choice
from nas_attn.errors import NAME_LETTERS, RecipeError, StorageError, did_you_mean, shorten
from nas_attn.recipe.recipe import KEPT, BackboneSection, Recipe
from nas_attn.space.schema import Section, SpaceSpec
from nas_attn.system.paths import user_path

S = typing.TypeVar("S", bound=Section)
# what every reader takes in place of a shipped name
TOML_PATH = "the path of a .toml file"
# how pydantic begins what a type asks for
SHOULD_BE = "Input should be "
# a part of a key's place that is one of the types that the key may have
TYPE = r"^(bool|int|float|str)$|\[|^constrained-"
# sections that an error names for an unknown key; a name that more of them have says nothing
MOST_SECTIONS = 2


def shipped(kind: Literal["search_spaces", "studies"]) -> dict[str, str]:
    """Name -> text of the TOML files that come with the package."""
    inside = resources.files("nas_attn") / "_shipped" / kind
    if inside.is_dir():
        folder = inside
    else:
        folder = Path(__file__).resolve().parents[2] / kind
    return {
        entry.name.removesuffix(".toml"): entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".toml")
    }


def load_space(name: str, *, relative_to: Path | None = None) -> SpaceSpec:
    """A search space by shipped name or path to a TOML file; RecipeError names file, key and the
    nearest valid name.
    """
    where, table = _read_toml("search_spaces", name, relative_to, TOML_PATH)
    if "choices" not in table and "backbone" in table:
        space = table.get("space")
        named = "the table [space] in it"
        if isinstance(space, str):
            named = f"'{space}'"
        raise RecipeError(f"{where} is a recipe, not a search space: its space is {named}")
    return validated(SpaceSpec, {**table, "origin": where}, where)


def load_recipe(
    name: str, *, overrides: dict[str, Any] | None = None, ways: str = TOML_PATH
) -> Recipe:
    """A recipe by shipped name or path to a TOML file, its space included; RecipeError names file,
    key and the nearest valid name.

    Args:
        overrides: dotted keys -> values that replace what the file says, `{"search.trials": 20}`.
        ways: what else the caller takes in place of a shipped name, as an error says it.
    """
    where, table = _read_toml("studies", name, None, ways)
    return recipe_from(table, where=where, overrides=overrides)


def recipe_from(
    table: dict[str, Any], *, where: str, overrides: dict[str, Any] | None = None
) -> Recipe:
    """A recipe from a table as in TOML; `where` names its origin in errors."""
    table = dict(table)
    for key, value in (overrides or {}).items():
        _set(table, key.split("."), value, where)
    space = table.get("space")
    if isinstance(space, str):
        origin = Path(where)
        table["space"] = load_space(
            space, relative_to=origin.parent if os.path.isfile(origin) else None
        )
    return validated(Recipe, table, where)


def _read_toml(
    kind: Literal["search_spaces", "studies"], name: str, relative_to: Path | None, ways: str
) -> tuple[str, dict[str, Any]]:
    """(location, table) of a shipped name or a path."""
    what = "search space" if kind == "search_spaces" else "recipe"
    path = user_path(name, what=f"{what} file", error=RecipeError)
    if relative_to is not None and not path.is_absolute() and (relative_to / path).is_file():
        path = relative_to / path
    if path.is_file():
        try:
            where = str(path)
            # editors on Windows begin a file with a mark of the order of bytes
            text = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            wrong = shorten(str(error))
            if isinstance(error, UnicodeDecodeError):
                wrong += "; save it as text in UTF-8"
            raise RecipeError(
                f"{what} file '{shorten(str(path))}' cannot be read: {wrong}"
            ) from None
    elif path.suffix == ".toml":
        raise RecipeError(f"{what} file '{shorten(name)}' does not exist (looked in {Path.cwd()})")
    else:
        texts = shipped(kind)
        if name not in texts:
            meant = did_you_mean(name, texts)
            if name and os.path.isfile(f"{path}.toml"):
                meant = f"did you mean the file '{name}.toml'?"
            raise RecipeError(f"unknown {what} '{shorten(name)}': {meant}; or give {ways}")
        where = f"{kind}/{name}.toml (shipped)"
        text = texts[name]
    return where, read_toml(text, where)


def frozen_recipe(text: str, *, where: str) -> Recipe:
    """The recipe that a study was begun with, from the text that `Recipe.to_json` wrote;
    StorageError where it is damaged.
    """
    try:
        return Recipe.model_validate_json(_as_now(text), context=KEPT)
    except ValidationError as error:
        why = sentence(Recipe, error, "recipe")
        raise StorageError(
            f"{where} has an unreadable recipe ({why}): restore the database from a backup, or use"
            " the version that wrote it"
        ) from None


def _as_now(text: str) -> str:
    """A recipe of before 2026-11-24 with the `init` that its `auto` stood for, one of before
    2026-11-27 with its one division, and one of before 2026-11-29 with the norms that it trained;
    none with the bits of its images, with what its sampler expected, or with a limit of
    training memory.
    """
    # a damaged one is told by who reads it
    with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        table = json.loads(text)
        training = table["training"]
        if training.get("init") == "auto":
            training["init"] = "paper" if training["start"] == "scratch" else "identity"
        table["data"].pop("bits", None)
        table["search"].pop("prior", None)
        table["limits"].pop("max_training_memory", None)
        table["data"].setdefault("resplit", False)
        table["backbone"].setdefault("norms", "as_built")
        return json.dumps(table)
    return text


def backbone_section(name: str, **settings: Any) -> BackboneSection:
    """The section of a backbone that a command names; RecipeError if the name is invalid."""
    return validated(BackboneSection, {"name": name, **settings}, "backbone")


def study_name(file: str) -> str:
    """A study's name, from that of a file or folder; `-` replaces letters that a name cannot
    have.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file).strip("-._") or "study"


def other_backbone(section: BackboneSection, choice: Choice) -> BackboneSection:
    """The section of the backbone that a placement names instead of the study's, with the same
    options, and norms of its own unless they are to be as built. Raises RecipeError.
    """
    source, colon, _ = choice.type.partition(":")
    options = {}
    if section.name.partition(":")[:2] == (source, colon):
        options = section.options
    width = None if colon else section.width
    norms = "as_built" if section.norms == "as_built" else "auto"
    return backbone_section(str(choice), width=width, options=options, norms=norms)


def _set(table: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(
                f"{where}: '{shorten(key)}' is not a section: '{shorten('.'.join(keys))}' cannot"
                " be set"
            )
    table[keys[-1]] = value


def validated(model: type[S], table: dict[str, Any], where: str) -> S:
    """A section from a table; RecipeError in one sentence. `where` names its origin."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise RecipeError(sentence(model, error, where)) from None


def sentence(model: type[BaseModel], error: ValidationError, where: str) -> str:
    """One sentence for the first error: file, key, value, way out."""
    # If a key takes a bool or another type, the error about the other type is the useful one.
    errors = sorted(
        error.errors(),
        key=lambda e: (e["type"] != "extra_forbidden", e["type"].startswith("bool_")),
    )
    first = errors[0]
    key = _key(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key '{shorten(key)}': {_known_key(model, first['loc'])}"
    if first["type"] == "missing":
        return f"{where}: '{key}' is missing"
    # what each type that the key may have asks for
    asked = [e["msg"] for e in errors if _key(e["loc"]) == key and e["msg"].startswith(SHOULD_BE)]
    value = ""
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
    else:
        others = (text.removeprefix(SHOULD_BE) for text in asked[1:] if "boolean" not in text)
        message = ", or ".join([first["msg"], *others])
        value = f", not {shorten(repr(first['input']), NAME_LETTERS)}"
    message = shorten(message)
    problem = f"{message[:1].lower()}{message[1:]}{value}"
    if key:
        problem = f"{shorten(key)}: {problem}"
    return f"{where}: {problem}"


def _known_key(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """What may be meant by an unknown key: the one of this name in another section, or in one of
    two others; else one like it.
    """
    name = str(location[-1])
    top = _fields_at(model, ())
    elsewhere = []
    for section in top:
        fields = _fields_at(model, (section,))
        if name in fields and fields != top:
            elsewhere.append(f"'{section}.{name}'")
    if 0 < len(elsewhere) <= MOST_SECTIONS:
        return f"did you mean {' or '.join(elsewhere)}?"
    return did_you_mean(name, _fields_at(model, location[:-1]))


def _key(location: tuple[int | str, ...]) -> str:
    """An error's key with dots, without the types that the key may have."""
    parts = [str(part) for part in location if not re.search(TYPE, str(part))]
    return ".".join(parts)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys that a section knows, found by walking an error's location."""
    for part in location:
        info = model.model_fields.get(str(part))
        annotation = info.annotation if info else None
        candidates = [annotation, *typing.get_args(annotation)]
        nested = [a for a in candidates if isinstance(a, type) and issubclass(a, BaseModel)]
        if nested:
            model = nested[0]
    return [name for name, field in model.model_fields.items() if not field.exclude]


def read_toml(text: str, where: str) -> dict[str, Any]:
    """A table from TOML; RecipeError if the text is not TOML. `where` names its origin."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        way_out = ""
        place = re.search(r"at line (\d+)", str(error))
        if place and "\\" in text.splitlines()[int(place[1]) - 1]:
            way_out = (
                ": in double quotes, a backslash begins an escape, so write a path in single quotes"
                " or with /"
            )
        raise RecipeError(f"{where} is not valid TOML: {shorten(str(error))}{way_out}") from None
    except RecursionError:
        raise RecipeError(f"{where} has tables or lists nested too deeply: use fewer") from None


def write_toml(table: Mapping[str, Any]) -> str:
    """TOML of a table of texts, numbers, truth values, lists and tables; None is left out."""
    import tomlkit

    return tomlkit.dumps(_without_none(table))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value

"""Settings changed in a recipe's text, its comments and order kept."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from nas_attn.errors import RecipeError

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?")


def as_lines(changes: Mapping[str, Any]) -> str:
    """Settings as they stand in a recipe, to be pasted.

    Args:
        changes: dotted key -> value, None where the key must go.
    """
    lines: list[str] = []
    for key, value in sorted(changes.items(), key=lambda item: item[0].partition(".")[0], reverse=True):
        section, _, name = key.partition(".")
        if f"[{section}]" not in lines:
            lines.append(f"[{section}]")
        lines.append(f"# without {name}" if value is None else f"{name} = {json.dumps(value)}")
    return "\n".join(lines)


def changed(text: str, changes: Mapping[str, Any]) -> str:
    """A recipe's text with other values for some keys; a comment behind a value says what that was.

    Args:
        changes: `section.key` -> value, None to take the key out.

    Raises:
        RecipeError: the text is written in a way that this does not know (a section as an inline table).
    """
    lines, wanted = text.splitlines(), copy.deepcopy(tomllib.loads(text))
    for key, value in changes.items():
        section, _, name = key.partition(".")
        table = wanted.setdefault(section, {})
        if value is None:
            table.pop(name, None)
        else:
            table[name] = value
        lines = _with(lines, section, name, value)
    result = "\n".join(lines) + "\n"
    try:
        same = tomllib.loads(result) == wanted
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise RecipeError(
            f"the recipe cannot be changed line by line: put these into it yourself: {'; '.join(as_lines(changes).splitlines())}"
        )
    return result


def _with(lines: list[str], section: str, key: str, value: Any) -> list[str]:
    begin = next((i for i, line in enumerate(lines) if _section(line) == section), None)
    new = [] if value is None else [f"{key} = {json.dumps(value)}"]
    if begin is None:
        return [*lines, "", f"[{section}]", *new] if new else lines
    end = next((i for i in range(begin + 1, len(lines)) if _section(lines[i]) is not None), len(lines))
    for at in range(begin + 1, end):
        if re.match(rf"\s*{re.escape(key)}\s*=", lines[at]):
            last = _last_line(lines, at, end)
            old = tomllib.loads("\n".join(lines[at : last + 1]))[key]
            said = "" if old == value else f" was {json.dumps(old)}:"
            return [*lines[:at], *(line + _comment(lines[at], len(line), said) for line in new), *lines[last + 1 :]]
    return [*lines[: begin + 1], *new, *lines[begin + 1 :]]


def _section(line: str) -> str | None:
    found = _HEADER.fullmatch(line)
    return found.group(1) if found else ("" if line.lstrip().startswith("[[") else None)


def _last_line(lines: list[str], first: int, end: int) -> int:
    """Where a value that begins on a line ends: it may be an array over several."""
    return next(i for i in range(first, end) if _parses("\n".join(lines[first : i + 1])))


def _comment(line: str, column: int, said: str) -> str:
    """The comment behind a value, in the column where it stood as far as there is room, with what is said put first."""
    for found in re.finditer("#", line):
        before = line[: found.start()]
        if _parses(before):
            return " " * max(2, found.start() - column) + f"#{said}{line[found.end() :]}"
    return ""


def _parses(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True

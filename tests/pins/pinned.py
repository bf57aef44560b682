"""Facts that are kept in files and compared: values of JSON without prose, and short texts."""

from __future__ import annotations

import difflib
import json
import math
import re
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("kept")
DIGITS = 6  # of a number in JSON
WIDTH = 160  # of a line of JSON
NUMBER = re.compile(r"-?\d+\.\d+(e[-+]\d+)?|-?\d+e[-+]\d+")
ROUNDING = 5e-5
"""Relative difference of two numbers that processors with other instructions may compute."""
NEXT_TO_ZERO = 1e-8
TIMES = re.compile(r"_(at|s)$|^(pace|versions|per_hour)$")
"""Names in JSON whose values depend on the clock, or on what is installed."""
WORD = re.compile(r"[A-Za-z][a-z]+[,.:;]?")
FEWEST = 3  # words of prose
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?"), "TIME"),
    (re.compile(r"about [\d.]+ (s|min|h) left"), "about SOME TIME left"),
    (re.compile(r"[\d.,]+ candidates an hour"), "SOME candidates an hour"),
    (re.compile(r"about [\d.]+ (s|min|h) would do"), "about SOME TIME would do"),
    (re.compile(r"--time \d+m"), "--time SOME"),
)


def steady(text: str, folder: Path) -> str:
    """A text without times and paths, and without spaces at the ends of lines."""
    text = text.replace(str(folder), "FOLDER")
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def facts(value: Any, name: str = "") -> Any:
    """A value of JSON without times and prose, its numbers rounded.

    A text of several words becomes `…`, and so does a list with one. Placements, keys, names, and
    code to paste are facts.
    """
    if TIMES.search(name) and value is not None:
        return "SOME"
    if isinstance(value, dict):
        return {key: facts(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return "…" if any(map(is_prose, value)) else [facts(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    return "…" if is_prose(value) else value


def is_prose(value: Any) -> bool:
    if not isinstance(value, str) or value.startswith("import "):
        return False
    return sum(WORD.fullmatch(part) is not None for part in value.split()) >= FEWEST


ROWS = {
    "candidates": ("key", "trial", "state", "rung", "values", "beats_none", "on_front"),
    "effects": ("level", "site", "type", "knobs", "mean", "low", "high"),
}
"""Name of a table in JSON -> what is kept of its rows."""


def decided(answer: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
    """An answer without its recipe and with short rows; `whole`: with its recipe, and the first
    row of each table whole.
    """
    short = {name: value for name, value in answer.items() if whole or name != "recipe"}
    for table in ROWS.keys() & short.keys():
        rows = short[table]
        few = [{name: row[name] for name in ROWS[table]} for row in rows]
        short[table] = [*rows[:1], *few[1:]] if whole else few
    return short


def as_json(value: Any) -> str:
    """The facts of a value as JSON: what fits into a line stands in one."""
    return _lines(facts(value))


def _lines(value: Any, indent: str = "", beside: int = 0) -> str:
    """`beside`: letters that stand before the value in its line."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    if not isinstance(value, dict | list) or len(line) + len(indent) + beside < WIDTH:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        names = [f"{json.dumps(key)}: " for key in value]
        items = [
            f"{inner}{name}{_lines(item, inner, len(name))}"
            for name, item in zip(names, value.values(), strict=True)
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    items = [f"{inner}{_lines(item, inner)}" for item in value]
    return "[\n" + ",\n".join(items) + f"\n{indent}]"


def check(name: str, text: str, *, renew: bool) -> None:
    """Compares a text with the one that is kept; `renew`: keeps it instead."""
    path = KEPT / name
    if renew:
        KEPT.mkdir(exist_ok=True)
        path.write_text(text + "\n", "utf-8")
        return
    assert path.is_file(), f"{path} is missing: pytest tests/pins --renew-pins"
    kept = path.read_text("utf-8").splitlines()
    now = text.splitlines()
    if len(now) == len(kept):
        now = [
            before if _alike(before, line) else line for before, line in zip(kept, now, strict=True)
        ]
    changes = "\n".join(difflib.unified_diff(kept, now, "kept", "now", n=1, lineterm=""))
    assert not changes, f"{path.name} has changed:\n{changes}"


def _alike(kept: str, now: str) -> bool:
    """Whether two lines are equal, but for how processors round."""
    if NUMBER.sub("", kept) != NUMBER.sub("", now):
        return False
    pairs = zip(NUMBER.finditer(kept), NUMBER.finditer(now), strict=True)
    return all(
        math.isclose(float(a[0]), float(b[0]), rel_tol=ROUNDING, abs_tol=NEXT_TO_ZERO)
        for a, b in pairs
    )

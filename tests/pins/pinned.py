"""Texts that are kept in files and compared exactly, without what differs from run to run."""

from __future__ import annotations

import difflib
import html
import json
import math
import re
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("kept")
DIGITS = 6  # of a number in JSON
NUMBER = re.compile(r"-?\d+\.\d+(e[-+]\d+)?|-?\d+e[-+]\d+")
ROUNDING = 5e-5
"""Relative difference of two numbers that processors with other instructions may compute."""
NEXT_TO_ZERO = 1e-8
TIMES = re.compile(r"_(at|s)$|^(pace|versions|per_hour)$")
"""Names in JSON whose values depend on the clock, or on what is installed."""
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?"), "TIME"),
    (re.compile(r"about [\d.]+ (s|min|h) left"), "about SOME TIME left"),
    (re.compile(r"[\d.,]+ candidates an hour"), "SOME candidates an hour"),
    (re.compile(r"about [\d.]+ (s|min|h) would do"), "about SOME TIME would do"),
    (re.compile(r"--minutes \d+"), "--minutes SOME"),
)


def steady(text: str, folder: Path) -> str:
    """A text without times and paths, and without spaces at the ends of lines."""
    text = text.replace(str(folder), "FOLDER")
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def steady_json(value: Any, name: str = "") -> Any:
    """A value of JSON without times, its numbers rounded."""
    if TIMES.search(name) and value is not None:
        return "SOME"
    if isinstance(value, dict):
        return {key: steady_json(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [steady_json(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{DIGITS}g}")
    return value


def as_json(value: Any) -> str:
    """A value as JSON, a line for each item of the upper two levels."""
    return _lines(steady_json(value), depth=3)


def _lines(value: Any, *, depth: int, indent: str = "") -> str:
    if depth == 0 or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False, default=str)
    inner = indent + " "
    if isinstance(value, dict):
        items = [
            f"{inner}{json.dumps(key)}: {_lines(item, depth=depth - 1, indent=inner)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    items = [f"{inner}{_lines(item, depth=depth - 1, indent=inner)}" for item in value]
    return "[\n" + ",\n".join(items) + f"\n{indent}]"


def words_of(page: str) -> str:
    """The text of a page of HTML: a line for each element that has some."""
    page = re.sub(r"<(script|style)\b.*?</\1>", "\n", page, flags=re.DOTALL)
    page = re.sub(r"</?(code|b|strong|em|a|span)\b[^>]*>", "", page)
    lines = (html.unescape(part).split() for part in re.sub(r"<[^>]+>", "\n", page).split("\n"))
    return "\n".join(" ".join(words) for words in lines if words)


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

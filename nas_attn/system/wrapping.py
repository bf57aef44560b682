"""Lines of prose: with a label, and wrapped so that a number and its unit stay together."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

GLUE = "\N{NO-BREAK SPACE}"
# a number that stands alone, with the word after it: its unit, or what is counted
_NUMBER = re.compile(r"(?<![^\s(])([+−-]?\d(?:[\d.,]*\d)?) (?=\S)")
_SIGN = re.compile(r"(?<=[±→]) (?=[\d−+])")
_END = re.compile(r"(?<=[\d%].to) (?=[\d−+])")
# columns of a label
LABEL_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an answer or a plan; headlines have no label."""

    text: str
    label: str = ""
    command: str = ""
    """To copy, below the text; empty: there is none."""

    def __str__(self) -> str:
        return f"{self.label:<{LABEL_COLUMNS}}{self.text}" if self.label else self.text


def glued(text: str) -> str:
    """A sentence in which no number can be parted from its unit or from the other end of its
    interval, by no-break spaces.

    >>> glued("about 11 min").replace(GLUE, "_")
    'about 11_min'
    """
    text = _NUMBER.sub(rf"\1{GLUE}", text)
    for pattern in (_SIGN, _END):
        text = pattern.sub(GLUE, text)
    return text


def unquoted(text: str) -> str:
    """A sentence without the backquotes that mark code on a page."""
    return text.replace("`", "")


def wrapped(text: str, width: int, *, first: str = "", rest: str = "") -> list[str]:
    """A text in lines of at most `width` letters; only a word that is longer is broken.

    Args:
        first: begins the first line, as a label does.
        rest: begins all others.
    """
    lines = textwrap.wrap(
        glued(text),
        max(width, len(first) + 1, len(rest) + 1),
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    return [line.replace(GLUE, " ") for line in lines] or [first.rstrip()]

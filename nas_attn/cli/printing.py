"""Prose in a terminal: wrapped between words, with its label in a column of its own. Elsewhere, as
in a file or a pipe, each sentence is one line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from nas_attn.system.wrapping import LABEL_COLUMNS, unquoted, wrapped

# before a row of the card
INDENT = "  "


def show_prose(
    out: Console, text: str, *, label: str = "", indent: str = "", style: str = ""
) -> None:
    """A sentence; its lines begin below one another, after the label."""
    first = indent + (f"{label:<{LABEL_COLUMNS}}" if label else "")
    plain = unquoted(text)
    lines = [first + plain]
    if out.is_terminal:
        lines = wrapped(plain, out.width, first=first, rest=" " * len(first))
    for line in lines:
        show_line(out, line, style)


def show_paragraph(out: Console, title: str, sentences: Sequence[str]) -> None:
    """A title, and sentences below it."""
    out.print(title, style="bold", markup=False)
    for sentence in sentences:
        show_prose(out, sentence, indent=INDENT)


def show_command(out: Console, command: str, *, indent: str = INDENT) -> None:
    """A command to copy: in one line, which only the terminal itself breaks."""
    room = out.width - len(command)
    show_line(out, f"{indent if len(indent) <= room else ''}{command}")


def show_line(out: Console, line: str, style: str = "") -> None:
    """A line that only the terminal itself breaks."""
    out.print(Text(line, style=style), soft_wrap=True)

"""Prose in a terminal: wrapped between words, with its label in a column of its own. Elsewhere, as
in a file or a pipe, each sentence is one line.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from nas_attn.system.wrapping import unquoted, wrapped
from nas_attn.words.card import LINK, CardText, drawing_line
from nas_attn.words.card_row import CardRow
from nas_attn.words.lines import LABEL_COLUMNS

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
        _show_line(out, line, style)


def show_paragraph(out: Console, title: str, sentences: Sequence[str]) -> None:
    """A title, and sentences below it."""
    out.print(title, style="bold", markup=False)
    for sentence in sentences:
        show_prose(out, sentence, indent=INDENT)


def show_command(out: Console, command: str, *, indent: str = INDENT) -> None:
    """A command to copy: in one line, which only the terminal itself breaks."""
    room = out.width - len(command)
    _show_line(out, f"{indent if len(indent) <= room else ''}{command}")


def show_card(out: Console, card: CardText) -> None:
    """The card: headline, drawing, rows; smaller what stands below."""
    show_prose(out, card.headline, style="bold")
    if card.drawing:
        out.print()
        for line in _drawing(card, out.width if out.is_terminal else 0):
            _show_line(out, line)
    if card.rows:
        out.print()
    for row in card.rows:
        _show_row(out, row)
    if card.below:
        out.print()
    for row in card.below:
        _show_row(out, row, style="dim")


def _show_row(out: Console, row: CardRow, *, style: str = "") -> None:
    show_prose(out, row.text, label=row.label, indent=INDENT, style=style)
    if row.command:
        show_command(out, row.command, indent=INDENT + " " * LABEL_COLUMNS)


def _drawing(card: CardText, width: int) -> list[str]:
    """The network, broken between its stages; 0: not broken."""
    line = f"{INDENT}{drawing_line(card.drawing)}"
    if not width or len(line) <= width:
        return [line]
    lines = [INDENT.rstrip("\n")]
    for index, part in enumerate(drawing_line(card.drawing).split(LINK)):
        piece = part if index == 0 else f"{LINK}{part}"
        if len(lines[-1]) + len(piece) > width and lines[-1].strip():
            lines.append(INDENT)
            piece = piece.lstrip()
        lines[-1] += piece
    return lines


def _show_line(out: Console, line: str, style: str = "") -> None:
    out.print(Text(line, style=style), soft_wrap=True)

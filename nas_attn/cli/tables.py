"""Tables that fit a terminal: no word is broken, and what does not fit is left out and named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from nas_attn.system.wrapping import longest_word, wrapped

# letters between two columns, and at both ends of a row
BETWEEN = 2
AT_ENDS = 2
# lines of a heading at most, if its words allow it
HEADING_LINES = 3

Cell = str | Text


class FittedTable:
    """A table as wide as its content, or as the terminal.

    On a narrow terminal, columns of words are broken between words. If that is not enough, columns
    are left out, those of `optional` first to last, and a line below says which.

    Args:
        title: above the table; empty: none.
        columns: the headings.
        rows: cells as text, or styled.
        right: columns of numbers: aligned to the right, never broken.
        whole: other columns that are never broken.
        optional: the columns that may be left out, the least important first.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        *,
        right: Sequence[str] = (),
        whole: Sequence[str] = (),
        optional: Sequence[str] = (),
    ) -> None:
        self.title = title
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.right = right
        self.whole = whole
        self.optional = [column for column in optional if column in self.columns]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown, left_out = self.fitting(options.max_width)
        widths = self.widths(shown, options.max_width)
        if self.title:
            yield Text("\n".join(wrapped(self.title, options.max_width)), style="italic")
        made = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0), show_edge=True)
        for index in shown:
            name = self.columns[index]
            made.add_column(
                _broken(name, widths[index]),
                justify="right" if name in self.right else "left",
                width=widths[index],
                overflow="fold",
            )
        for row in self.rows:
            made.add_row(*(self._cell(row[index], widths[index], index) for index in shown))
        yield made
        if left_out:
            names = ", ".join(self.columns[index].replace("\n", " ") for index in left_out)
            note = f"Left out on this terminal: {names}; --wide shows all."
            yield Text("\n".join(wrapped(note, options.max_width)), style="dim")

    def fitting(self, width: int) -> tuple[list[int], list[int]]:
        """(columns that fit into this width, columns that are left out), each as indices."""
        shown = list(range(len(self.columns)))
        left_out: list[int] = []
        for name in self.optional:
            if _total(self._least(index) for index in shown) <= width:
                break
            index = self.columns.index(name)
            shown.remove(index)
            left_out.append(index)
        return shown, left_out

    def widths(self, shown: Sequence[int], width: int) -> dict[int, int]:
        """The letters of each column that is shown: the widest are narrowed first, down to their
        longest word; below that only if nothing else helps, and numbers last.
        """
        widths = {index: self._natural(index) for index in shown}
        least = {index: self._least(index) for index in shown}
        words_only = {index: least[index] if self._unbroken(index) else 1 for index in shown}
        for floor in (least, words_only, dict.fromkeys(shown, 1)):
            while _total(widths.values()) > width:
                able = [index for index in shown if widths[index] > floor[index]]
                if not able:
                    break
                widest = max(able, key=lambda index: widths[index])
                widths[widest] -= 1
        return widths

    def _cell(self, cell: Cell, width: int, index: int) -> Text:
        if isinstance(cell, Text):
            return cell
        if self._unbroken(index):
            return Text(cell)
        return Text(_broken(cell, width))

    def _unbroken(self, index: int) -> bool:
        name = self.columns[index]
        return name in self.right or name in self.whole

    def _lines(self, index: int) -> Iterator[str]:
        for row in self.rows:
            cell = row[index]
            yield from (cell.plain if isinstance(cell, Text) else cell).split("\n")

    def _least(self, index: int) -> int:
        """Letters that the column needs so that no word is broken."""
        heading = longest_word(self.columns[index].replace("\n", " "))
        size = len if self._unbroken(index) else longest_word
        return max([heading, *map(size, self._lines(index))])

    def _natural(self, index: int) -> int:
        """Letters that the column takes where there is room."""
        lines = max(map(len, self._lines(index)), default=0)
        heading = self.columns[index].replace("\n", " ")
        narrow = max(longest_word(heading), lines)
        while len(wrapped(heading, narrow)) > HEADING_LINES:
            narrow += 1
        return narrow


def _broken(text: str, width: int) -> str:
    """A text in lines of at most `width` letters."""
    return "\n".join(line for part in text.split("\n") for line in wrapped(part, width))


def _total(widths: Iterable[int]) -> int:
    """Letters of a row."""
    each = list(widths)
    return sum(each) + BETWEEN * (len(each) - 1) + AT_ENDS

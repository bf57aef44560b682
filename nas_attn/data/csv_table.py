"""A CSV file, or one for each split, whose first line has the columns' names."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from nas_attn.errors import DataError, did_you_mean, several, shorten

# of what stands between cells, that which is most often in the first line does
DELIMITERS = ",;\t"


class TableLine(NamedTuple):
    """A line of a table."""

    # where it is, for an error
    place: str
    # whose file it is in
    split: str
    # column -> cell
    cells: Mapping[str, str]


@dataclass(frozen=True)
class CsvTable:
    """The lines of a table's files, one after the other."""

    # the first
    file: Path
    header: Sequence[str]
    lines: Sequence[TableLine]
    # whether a comma in a number is a decimal one: no comma parts the cells
    has_decimal_commas: bool

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> Self:
        """Reads the file of each split. Raises DataError: it has no lines, or one is of another
        length.
        """
        headers: list[list[str]] = []
        delimiters = set()
        lines: list[TableLine] = []
        for split, file in files.items():
            try:
                text = file.read_text("utf-8-sig")
                delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
                read = csv.reader(io.StringIO(text), strict=True, delimiter=delimiter)
                cells = [[cell.strip() for cell in row] for row in read]
                header, *rows = [row for row in cells if any(row)] or [[]]
                for name in filter(None, header):
                    if header.count(name) > 1:
                        raise ValueError(f"two columns '{name}', of which one needs another name")
                if not rows:
                    raise ValueError("no line below its first, which names the columns")
                for number, row in enumerate(rows, 2):
                    if len(row) != len(header):
                        raise ValueError(
                            f"line {number} has {several(len(row), 'cell')}, and its first line"
                            f" {len(header)}"
                        )
                    place = f"'{file}', line {number}"
                    lines.append(TableLine(place, split, dict(zip(header, row, strict=True))))
            except (OSError, ValueError, csv.Error) as error:
                raise DataError(f"table '{file}' cannot be read: {shorten(str(error))}") from None
            delimiters.add(delimiter)
            headers.append(header)
        return cls(next(iter(files.values())), headers[0], lines, "," not in delimiters)

    def column(self, name: str) -> list[str]:
        """Returns the cells of a column. Raises DataError: there is none."""
        if name not in self.header:
            raise DataError(
                f"'{self.file}' has no column '{shorten(name)}': {did_you_mean(name, self.header)}"
            )
        return [line.cells.get(name, "") for line in self.lines]

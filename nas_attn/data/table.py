"""A user's folder of images with a table, a CSV file: several labels per image, or numbers.

The table lies in the folder; its first line has the columns' names. One column names the images.
Labels have a column each, with 0 or 1, or one column has the list of each image's labels. Numbers
have a column each. Splits come from a column `split`, from tables called after them (`train.csv`,
`val.csv`, `test.csv`), or from the folders of the images; else the images are divided.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.folder import Files, image_folder, split_folder
from nas_attn.data.inventory import WHOLE
from nas_attn.data.parts import Parts, Place
from nas_attn.data.splitting import GroupsOf, csv_rows
from nas_attn.data.walking import SPLIT_NAMES, Layout, layout, walk
from nas_attn.errors import DataError, did_you_mean, few, several, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind

DELIMITERS = ",;\t"
# of labels in a cell, the first one that occurs in the column; else spaces
SEPARATORS = (";", "|", ",")
# share of a column's cells that are numbers, from which it has numbers
NEARLY_ALL = 0.9
# share of the labels in a column's lists that must recur, where commas part them
RECURRING_OF_COMMAS = 0.5
CELL_WAY_OUT = "correct it, or name the columns to learn in data.table.columns"


@dataclass(frozen=True)
class LabelTable:
    """What a table says of its images."""

    root: Path
    files: Sequence[Path]
    # labels, or columns with numbers
    names: tuple[str, ...]
    # a split, or WHOLE -> the rows of its images
    rows: Mapping[str, Sequence[int]]
    # (N,)
    images: Sequence[Path]
    # (N, K)
    targets: NDArray[np.float32]
    # how it names the labels or numbers
    how: str

    def listed(self, groups_of: GroupsOf | None, split: str) -> Files:
        """The files of a split."""
        index = np.array(self.rows[split], np.int64)
        paths = tuple(self.images[row] for row in index)
        groups = None
        if groups_of is not None:
            # a pattern is for paths below the folder
            groups = np.array(groups_of(paths, self.root.parent))
        labels = np.zeros(len(index), np.int64)
        return Files(self.root, paths, labels, groups, self.targets[index])


def read(kind: Kind, section: DataSection, place: Place) -> Parts:
    """Reads `folder:PATH` with a table. Raises DataError: there is none, or a line is wrong."""
    table = find(kind, section)
    places = {split: (table.root,) for split in table.rows if split != WHOLE}
    way = f"give some images of '{table.files[0].name}' to the test"
    folders = Layout(table.root, places, way)
    return split_folder(folders, section, place, table.listed, table.names, ("image",))


read_tags = partial(read, "tags")
read_numbers = partial(read, "numbers")


@dataclass(frozen=True)
class _Lines:
    """The lines of a table's file, below its first."""

    file: Path
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def at(self, row: int) -> str:
        """The place of a row, for an error."""
        return f"'{self.file}', line {row + 2}"

    def column(self, name: str) -> list[str]:
        """The cells of a column, without spaces at their ends. Raises DataError: there is none."""
        if name not in self.header:
            raise DataError(
                f"'{self.file}' has no column '{shorten(name)}': {did_you_mean(name, self.header)}"
            )
        at = self.header.index(name)
        return [row[at].strip() for row in self.rows]


def _lines(file: Path) -> _Lines:
    rows = [row for row in csv_rows(file, "table", DELIMITERS) if any(map(str.strip, row))]
    if len(rows) < 2:
        raise DataError(f"table '{file}' has no line below its first, which names the columns")
    header = [name.strip() for name in rows[0]]
    lines = _Lines(file, header, rows[1:])
    for number, row in enumerate(lines.rows):
        if len(row) != len(header):
            raise DataError(
                f"{lines.at(number)} has {several(len(row), 'cell')}, and its first line"
                f" {len(header)}: correct it"
            )
    for name in header:
        if name and header.count(name) > 1:
            raise DataError(f"'{file}' has two columns '{name}': rename one of them")
    return lines


def _tables(root: Path, where: TableSection, groups: str | None = None) -> dict[str, Path]:
    """Split, or WHOLE -> the file with its images. Raises DataError: there is none, or nobody said
    which.
    """
    if where.file is not None:
        if not (root / where.file).is_file():
            raise DataError(
                f"data.table.file = '{shorten(where.file)}': '{root / where.file}' does not exist"
            )
        return {WHOLE: root / where.file}
    files = [file for file in sorted(root.glob("*.csv")) if not groups or file.name != groups]
    by_split = {
        split: file
        for split, names in SPLIT_NAMES.items()
        for file in files
        if file.stem.lower() in names
    }
    if "train" in by_split:
        return by_split
    if len(files) == 1:
        return {WHOLE: files[0]}
    if not files:
        raise DataError(
            f"'{root}' has no table of its images' labels: put a CSV file there, whose first line"
            " is like image,cat,dog, or name it in data.table.file"
        )
    names = few([file.name for file in files])
    raise DataError(f"'{root}' has several tables, {names}: name one in data.table.file")


class _Images:
    """Finds the files that a table names: by path, by name, and by both without an ending."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        for path in walk(root).images:
            inside = PurePosixPath(path.relative_to(root).as_posix())
            keys = {str(inside), str(inside.with_suffix("")), inside.name, inside.stem}
            for key in keys:
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> list[Path]:
        """The files that a name may stand for."""
        return self._by_name.get(str(PurePosixPath(name.replace("\\", "/"))), [])

    def column(self, lines: _Lines, given: str | None) -> str:
        """The column with the images. Raises DataError: the table has no line with names."""
        if self.find(lines.header[0]):
            raise DataError(
                f"'{lines.file}' begins with an image: write a first line with the columns' names,"
                " like image,cat,dog"
            )
        if given is not None:
            return given
        named = (name for name in lines.header if name and self.find(lines.column(name)[0]))
        return next(named, lines.header[0])

    def all(self, lines: _Lines, names: Sequence[str]) -> list[Path]:
        """The image of each line. Raises DataError: one is missing, or twice there."""
        found = [self.find(name) for name in names]
        if lacking := [name for name, paths in zip(names, found, strict=True) if not paths]:
            raise DataError(
                f"{len(lacking)} of {several(len(names), 'image')} of '{lines.file}' are not in"
                f" '{self.root}': {few(lacking)}; correct them, or name their column in"
                " data.table.image"
            )
        first: dict[Path, int] = {}
        for row, (name, paths) in enumerate(zip(names, found, strict=True)):
            exact = [path for path in paths if path == self.root / name]
            if len(exact or paths) > 1:
                inside = [path.relative_to(self.root).as_posix() for path in paths]
                raise DataError(
                    f"{lines.at(row)}: '{name}' may be {few(inside)}: give its path in the folder"
                )
            path = (exact or paths)[0]
            if first.setdefault(path, row) != row:
                raise DataError(
                    f"{lines.at(row)} has the image '{name}' of line {first[path] + 2} again: keep"
                    " one of them"
                )
        return list(first)


def find(kind: Kind, section: DataSection) -> LabelTable:
    """Finds the table of `folder:PATH` and reads it; no image is opened. Raises DataError: there is
    none, or a line is wrong.
    """
    root = image_folder(section)
    where = section.table or TableSection()
    groups = None if section.groups is None else section.groups.file
    files = _tables(root, where, groups and Path(groups).name)
    there = _Images(root)
    read = {split: _lines(file) for split, file in files.items()}
    header = next(iter(read.values()))
    image = there.column(header, where.image)
    split = where.split or next((n for n in header.header if n.lower() == "split"), None)
    columns = where.columns or [n for n in header.header if n and n not in (image, split)]
    if not columns:
        raise DataError(f"'{header.file}' has no column beside '{image}': add one with labels")
    labels = _labels(kind, list(read.values()), columns)
    images: list[Path] = []
    rows: dict[str, list[int]] = {}
    for name, lines in read.items():
        own = there.all(lines, lines.column(image))
        own_splits = [name] * len(own)
        if split is not None:
            own_splits = _splits_of(lines, split)
        elif name == WHOLE:
            own_splits = _splits_by_folder(lines, own, section, root)
        for path, part in zip(own, own_splits, strict=True):
            rows.setdefault(part, []).append(len(images))
            images.append(path)
    if WHOLE not in rows and "train" not in rows:
        raise DataError(f"'{header.file}' has no image to train on: give some to the split train")
    twice = len(images) - len(set(images))
    if twice:
        raise DataError(f"{several(twice, 'image')} of '{root}' in two tables: keep each in one")
    ordered = {part: rows[part] for part in (WHOLE, *SPLIT_NAMES) if part in rows}
    return LabelTable(
        root, list(files.values()), labels.names, ordered, images, labels.values, labels.how
    )


def _splits_of(lines: _Lines, column: str) -> list[str]:
    """The split of each line, by a column. Raises DataError: it names none."""
    split_by_name = {name: split for split, names in SPLIT_NAMES.items() for name in names}
    cells = lines.column(column)
    for row, cell in enumerate(cells):
        if cell.lower() not in split_by_name:
            raise DataError(
                f"{lines.at(row)}: '{shorten(cell)}' in the column '{column}' is no split: give"
                " train, val or test"
            )
    return [split_by_name[cell.lower()] for cell in cells]


def _splits_by_folder(
    lines: _Lines, images: Sequence[Path], section: DataSection, root: Path
) -> list[str]:
    """The split of each line, by its image's folder; WHOLE without folders of splits. Raises
    DataError: an image is in none.
    """
    folders = layout(root, section.splits)
    if not folders.splits:
        return [WHOLE] * len(images)
    split_by_folder = {place: split for split in folders.splits for place in folders.of(split)}
    splits = []
    for row, path in enumerate(images):
        split = next((split_by_folder[p] for p in path.parents if p in split_by_folder), None)
        if split is None:
            raise DataError(
                f"{lines.at(row)}: '{path.relative_to(root).as_posix()}' is in no folder of a"
                " split: move it, or give the table a column split"
            )
        splits.append(split)
    return splits


@dataclass(frozen=True)
class _Labels:
    """The labels or numbers of all lines."""

    names: tuple[str, ...]
    # (N, K)
    values: NDArray[np.float32]
    how: str


def _labels(kind: Kind, tables: Sequence[_Lines], columns: Sequence[str]) -> _Labels:
    cells = [list(itertools.chain(*(lines.column(name) for lines in tables))) for name in columns]
    places = [lines.at(row) for lines in tables for row in range(len(lines.rows))]
    if kind == "tags" and len(columns) == 1 and not all(map(_is_bit, cells[0])):
        separator = _separator(cells[0])
        lists = [_listed(cell, separator) for cell in cells[0]]
        names = tuple(sorted(set(itertools.chain(*lists))))
        values = np.array([[name in listed for name in names] for listed in lists], np.float32)
        by = "spaces" if separator is None else f"'{separator}'"
        how = f"lists of labels in the column {columns[0]}, parted by {by}"
        return _Labels(names, values.reshape(len(lists), len(names)), how)
    for name, column in zip(columns, cells, strict=True):
        for place, cell in zip(places, column, strict=True):
            _check_cell(kind, cell, f"{place}", name)
    values = np.array(cells, np.float64).astype(np.float32).T
    how = "a column with 0 or 1 for each label" if kind == "tags" else "a column for each number"
    return _Labels(tuple(columns), np.ascontiguousarray(values), how)


def _check_cell(kind: Kind, cell: str, place: str, column: str) -> None:
    """Raises DataError: a cell is empty, no number, or for a label neither 0 nor 1."""
    if not cell:
        raise DataError(
            f"{place} has nothing in the column '{column}': fill it in, or remove the line"
        )
    said = f"{place}: '{shorten(cell)}' in the column '{column}' is"
    if kind == "tags" and not _is_bit(cell):
        raise DataError(f"{said} neither 0 nor 1: {CELL_WAY_OUT}")
    if not _is_number(cell):
        raise DataError(f"{said} no number: {CELL_WAY_OUT}")


def _number(cell: str) -> float:
    """A cell's number; NaN if it is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _is_number(cell: str) -> bool:
    return math.isfinite(_number(cell))


def _is_bit(cell: str) -> bool:
    return _number(cell) in (0.0, 1.0)


def _separator(cells: Sequence[str]) -> str | None:
    """What parts the labels in the cells of a column; None: spaces."""
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), None)


def _listed(cell: str, separator: str | None) -> set[str]:
    """The labels of a cell; Python writes a list with brackets and quotes."""
    return {name.strip(" []'\"") for name in cell.split(separator)} - {""}


@dataclass(frozen=True)
class Lesson:
    """What a folder's table teaches of its images, as `init` proposes it."""

    # None: nothing, or one class of each image
    kind: Kind | None = None
    # by what that is seen
    why: str = ""
    # to learn; none: all beside the images and their splits
    columns: tuple[str, ...] = ()
    # why another column may be meant, with the names of all; empty: none may
    choice: str = ""


def lesson(root: Path, kind: Kind | None = None, columns: Sequence[str] = ()) -> Lesson:
    """Proposes what of a folder's table is learnt: 0 and 1, lists of labels, or numbers.

    Args:
        root: The folder.
        kind: What its task learns; None: what there is.
        columns: Those to learn; none: what there is.

    Raises:
        DataError: the table has no such column.
    """
    try:
        file, *_ = _tables(root, TableSection()).values()
        lines = _lines(file)
        image = _Images(root).column(lines, None)
    except DataError:
        return Lesson()
    every = [name for name in lines.header if name and name != image and name.lower() != "split"]
    cells = {name: lines.column(name) for name in columns or every}
    bits = [name for name in cells if _nearly_all(cells[name], _is_bit)]
    numbers = [name for name in cells if name not in bits and _nearly_all(cells[name], _is_number)]
    # a running number tells images apart
    if not columns:
        numbers = [name for name in numbers if not _is_running(cells[name])] or numbers
    signs = {name: _list_sign(cells[name]) for name in cells if name not in (*bits, *numbers)}
    lists = [name for name, sign in signs.items() if sign]
    known: dict[Kind, list[str]] = {"tags": lists[:1] or bits, "numbers": numbers}
    found = kind
    if found is None:
        # one column of 0 and 1 among numbers is more likely a number, too
        found = "tags" if lists or len(bits) > (1 if numbers else 0) else "numbers"
    if columns and kind is None and not known[found]:
        raise DataError(
            f"'{file}' has neither 0 and 1, lists of labels nor numbers in {few(columns)}: give"
            " --task multi-label to take each cell as a label, or name other columns"
        )
    taken = list(columns) or known.get(found)
    if not taken:
        return Lesson()
    why = f"'{file.name}' has numbers in {few(taken)}"
    if taken[0] in bits:
        why = f"'{file.name}' has 0 or 1 in {few(taken)}"
    if taken[0] in lists:
        parted = "spaces" if signs[taken[0]] == " " else f"'{signs[taken[0]]}'"
        why = f"'{file.name}' has several labels in a cell of {taken[0]}, parted by {parted}"
    if left := [name for name in every if name not in taken]:
        why += f", and {few(left)} {'is' if len(left) == 1 else 'are'} not learnt"
    classes = [name for name in signs if name not in lists and _recur(cells[name])]
    others = [name for name in (*bits, *numbers, *lists, *classes) if name not in taken]
    choice = ""
    if not columns and (others or (len(numbers) > 1 and taken == numbers)):
        choice = f"'{file}' has several columns that may be learnt, {few([*taken, *others])}"
    return Lesson(found, why, () if taken == every else tuple(taken), choice)


def _nearly_all(cells: Sequence[str], fits: Callable[[str], bool]) -> bool:
    """Whether nearly all cells are of a kind; the others may be mistakes."""
    return sum(map(fits, cells)) >= NEARLY_ALL * len(cells)


def _is_running(cells: Sequence[str]) -> bool:
    """Whether each line has the next number."""
    values = [_number(cell) for cell in cells]
    return len(values) > 2 and all(values[0] + at == value for at, value in enumerate(values))


def _recur(cells: Sequence[str]) -> bool:
    """Whether a column has the same words again and again, as classes are."""
    return 2 * len(set(cells)) <= len(cells)


def _list_sign(cells: Sequence[str]) -> str:
    """What parts the labels in the cells of a column; empty: they are no lists. Commas and spaces
    stand in other text, too: they part labels that recur in other company, of commas most.
    """
    sign = _separator(cells)
    if sign in (";", "|"):
        return sign
    lists = {frozenset(_listed(cell, sign)) for cell in cells}
    times = Counter(itertools.chain(*lists))
    recurring = sum(count > 1 for count in times.values())
    least = RECURRING_OF_COMMAS if sign else 1.0
    if max(map(len, lists)) > 1 and recurring >= least * len(times):
        return sign or " "
    return ""

"""A user's folder of images with a table, a CSV file: one class per image, several labels, or
numbers.

The table lies in the folder; its first line has the columns' names. One column names the images.
Labels have a column each, with 0 or 1, or one column has the labels of each image: a list in its
cell, or a line for each label. A class is the text in one column. Numbers have a column each.
Splits come from a column `split`, from tables called after them (`train.csv`, `val.csv`,
`test.csv`), or from the folders of the images; else the images are divided.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import folder
from nas_attn.data.folder import Files, image_folder, split_folder
from nas_attn.data.inventory import WHOLE
from nas_attn.data.parts import Parts, Place
from nas_attn.data.splitting import GroupsOf, csv_rows
from nas_attn.data.walking import SPLIT_NAMES, Layout, layout, plain, walk
from nas_attn.errors import DataError, did_you_mean, few, several, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind

DELIMITERS = ",;\t"
# of labels in a cell, the first one that occurs in the column; else spaces
SEPARATORS = (";", "|", ",")
# in the names of tables to be handed in, which have no labels
HANDED_IN = "submission"
# of columns whose values stand for several images each
_GROUP = re.compile(
    r"patient|subject|person|participant|individual|identity|animal|donor|case|study|series|scene"
    r"|session|video|clip|film|sequence|lesion|specimen|slide|plot|group|\bpid$|\buid$|\bmrn$",
    re.IGNORECASE,
)
# images of a group, in the mean: at least; at most where only the values show that it is one
LEAST_OF_GROUP = 1.5
MOST_OF_GROUP = 50
# values of such a column
LEAST_UNNAMED = 10
CELL_WAY_OUT = "correct it, or name the columns to learn in data.table.columns"


@dataclass(frozen=True)
class LabelTable:
    """What a table says of its images."""

    root: Path
    files: Sequence[Path]
    # classes, labels, or columns with numbers
    names: tuple[str, ...]
    # a split, or WHOLE -> the rows of its images
    rows: Mapping[str, Sequence[int]]
    # (N,)
    images: Sequence[Path]
    # (N,): of classes
    labels: NDArray[np.int64]
    # (N, K): of labels or numbers; None: of classes
    targets: NDArray[np.float32] | None
    # (N,): by the column of `data.groups`
    groups: NDArray[np.str_] | None
    # how it names what is learnt, and what is left out
    how: str
    # a column beside those that are learnt, whose values stand for several images each; empty: none
    group: str = ""

    def listed(self, groups_of: GroupsOf | None, split: str) -> Files:
        """The files of a split."""
        index = np.array(self.rows[split], np.int64)
        paths = tuple(self.images[row] for row in index)
        groups = None if self.groups is None else self.groups[index]
        if groups_of is not None:
            # a pattern is for paths below the folder
            groups = np.array(groups_of(paths, self.root.parent))
        targets = None if self.targets is None else self.targets[index]
        return Files(self.root, paths, self.labels[index], groups, targets)


def read(kind: Kind, section: DataSection, place: Place) -> Parts:
    """Reads `folder:PATH` with a table. Raises DataError: there is none, or a line is wrong."""
    table = find(kind, section)
    places = {split: (table.root,) for split in table.rows if split != WHOLE}
    way = f"give some images of '{table.files[0].name}' to the test"
    folders = Layout(table.root, places, way)
    return split_folder(folders, section, place, table.listed, table.names, kind)


def read_classes(section: DataSection, place: Place) -> Parts:
    """Reads `folder:PATH` for a class of each image: by the table that the recipe names, else by
    the folders of classes. Raises DataError: as `read`.
    """
    if section.table is None:
        return folder.read(section, place)
    return read("classes", section, place)


read_tags = partial(read, "tags")
read_numbers = partial(read, "numbers")


@dataclass(frozen=True)
class Lines:
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

    def is_unlabelled(self, columns: Sequence[str]) -> bool:
        """Whether the columns to learn are not there, or empty all along."""
        return all(name not in self.header or not any(self.column(name)) for name in columns)


def lines_of(file: Path) -> Lines:
    """Reads a table's file. Raises DataError: it has no lines, or one is of another length."""
    rows = [row for row in csv_rows(file, "table", DELIMITERS) if any(map(str.strip, row))]
    if len(rows) < 2:
        raise DataError(f"table '{file}' has no line below its first, which names the columns")
    header = [name.strip() for name in rows[0]]
    lines = Lines(file, header, rows[1:])
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


def tables_of(root: Path, where: TableSection, groups: str | None = None) -> dict[str, Path]:
    """Split, or WHOLE -> the file with its images. Raises DataError: there is none, or nobody said
    which.

    Args:
        root: The folder.
        where: What the recipe says of the table.
        groups: A file in the folder that is no table of labels.
    """
    if where.file is not None:
        if not (root / where.file).is_file():
            raise DataError(
                f"data.table.file = '{shorten(where.file)}': '{root / where.file}' does not exist"
            )
        return {WHOLE: root / where.file}
    files = [
        file
        for file in sorted(root.glob("*.csv"))
        if file.name != groups and HANDED_IN not in file.stem.lower()
    ]
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


class FilesByName:
    """Finds the files that a table names: by path or name, with or without an ending, in the same
    letters, or in others of them, with another ending, or with other folders before.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        for path in walk(root).images:
            inside = PurePosixPath(path.relative_to(root).as_posix())
            exact = {str(inside), str(inside.with_suffix("")), inside.name, inside.stem}
            for key in exact | set(map(plain, exact)):
                self._by_name.setdefault(key, []).append(path)

    def find(self, name: str) -> list[Path]:
        """The files that a name may stand for."""
        path = PurePosixPath(name.replace("\\", "/"))
        parts = path.parts
        for begin in range(len(parts)):
            tail = PurePosixPath(*parts[begin:])
            for key in (str(tail), plain(str(tail)), plain(str(tail.with_suffix("")))):
                if found := self._by_name.get(key):
                    return found
        return []

    def column(self, lines: Lines, given: str | None = None) -> str:
        """The column with the images: the one that names most. Raises DataError: the table has no
        line with names.
        """
        if self.find(lines.header[0]):
            raise DataError(
                f"'{lines.file}' begins with an image: write a first line with the columns' names,"
                " like image,cat,dog"
            )
        if given is not None:
            return given
        columns = {name: lines.column(name) for name in lines.header if name}
        named = {
            name: len({paths[0] for paths in map(self.find, cells) if paths})
            for name, cells in columns.items()
        }
        best = max(named, key=lambda name: named[name], default=lines.header[0])
        return best if named.get(best) else lines.header[0]

    def all(self, lines: Lines, names: Sequence[str]) -> list[Path]:
        """The image of each line. Raises DataError: one is missing, or may be several."""
        found = [self.find(name) for name in names]
        if lacking := [name for name, paths in zip(names, found, strict=True) if not paths]:
            raise DataError(
                f"{len(lacking)} of {several(len(names), 'image')} of '{lines.file}' are not in"
                f" '{self.root}': {few(lacking)}; correct them, or name their column in"
                " data.table.image"
            )
        images: list[Path] = []
        for row, (name, paths) in enumerate(zip(names, found, strict=True)):
            exact = [path for path in paths if path == self.root / name]
            if len(exact or paths) > 1:
                inside = [path.relative_to(self.root).as_posix() for path in paths]
                raise DataError(
                    f"{lines.at(row)}: '{name}' may be {few(inside)}: give its path in the folder"
                )
            images.append((exact or paths)[0])
        return images


def find(kind: Kind, section: DataSection) -> LabelTable:
    """Finds the table of `folder:PATH` and reads it; no image is opened. Raises DataError: there is
    none, or a line is wrong.
    """
    root = image_folder(section)
    where = section.table or TableSection()
    grouped = section.groups
    no_table = None if grouped is None or grouped.file is None else Path(grouped.file).name
    files = tables_of(root, where, no_table)
    there = FilesByName(root)
    read = {split: lines_of(file) for split, file in files.items()}
    header = next(iter(read.values()))
    image = there.column(header, where.image)
    split = where.split or next((n for n in header.header if n.lower() == "split"), None)
    group = None if grouped is None else grouped.column
    others = (image, split, group)
    columns = where.columns or [name for name in header.header if name and name not in others]
    if not columns:
        raise DataError(f"'{header.file}' has no column beside '{image}': add one with labels")
    unlabelled = [
        name
        for name, lines in read.items()
        if name not in ("train", WHOLE) and lines.is_unlabelled(columns)
    ]
    for name in unlabelled:
        del read[name]
    learnt = _labels(kind, list(read.values()), columns)
    images: list[Path] = []
    splits: list[str] = []
    for name, lines in read.items():
        own = there.all(lines, lines.column(image))
        images += own
        splits += _splits(name, lines, own, split, section)
    places = [lines.at(row) for lines in read.values() for row in range(len(lines.rows))]
    kept, first = _joined(learnt, images, splits, places)
    groups = None
    if group is not None:
        cells = itertools.chain(*(lines.column(group) for lines in read.values()))
        groups = _checked_groups(list(cells), places, group)[first]
    rows: dict[str, list[int]] = {}
    for row, at in enumerate(first.tolist()):
        rows.setdefault(splits[at], []).append(row)
    if WHOLE not in rows and "train" not in rows:
        raise DataError(f"'{header.file}' has no image to train on: give some to the split train")
    how = kept.how
    for name in unlabelled:
        how += f"; '{files[name].name}' has nothing in {few(columns)}, and is left out"
    return LabelTable(
        root,
        [lines.file for lines in read.values()],
        kept.names,
        {part: rows[part] for part in (WHOLE, *SPLIT_NAMES) if part in rows},
        [images[at] for at in first.tolist()],
        kept.labels,
        kept.targets,
        groups,
        how,
        group_of({n: header.column(n) for n in header.header if n not in (image, split, *columns)}),
    )


def _checked_groups(cells: Sequence[str], places: Sequence[str], group: str) -> NDArray[np.str_]:
    """(N,): the group of each line. Raises DataError: one has none."""
    for place, cell in zip(places, cells, strict=True):
        if not cell:
            raise DataError(f"{place} has nothing in '{group}', the column of data.groups: fill it")
    return np.array(cells)


def _splits(
    name: str, lines: Lines, images: Sequence[Path], column: str | None, section: DataSection
) -> Sequence[str]:
    """The split of each line: by a column, by the table's name, else by its image's folder; WHOLE
    without folders of splits. Raises DataError: it is in none.
    """
    if column is not None:
        return _splits_of(lines, column)
    folders = layout(image_folder(section), section.splits) if name == WHOLE else None
    if folders is None or not folders.splits:
        return [name] * len(images)
    split_by_folder = {place: split for split in folders.splits for place in folders.of(split)}
    splits = []
    for row, path in enumerate(images):
        split = next((split_by_folder[p] for p in path.parents if p in split_by_folder), None)
        if split is None:
            raise DataError(
                f"{lines.at(row)}: '{path.relative_to(folders.root).as_posix()}' is in no folder of"
                " a split: move it, or give the table a column split"
            )
        splits.append(split)
    return splits


def _splits_of(lines: Lines, column: str) -> list[str]:
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


@dataclass(frozen=True)
class _Labels:
    """What all lines say."""

    names: tuple[str, ...]
    how: str
    # (N,): of classes
    labels: NDArray[np.int64]
    # (N, K): of labels or numbers
    targets: NDArray[np.float32] | None = None
    # whether each line adds labels to its image
    adds: bool = False


def _labels(kind: Kind, tables: Sequence[Lines], columns: Sequence[str]) -> _Labels:
    cells = [list(itertools.chain(*(lines.column(name) for lines in tables))) for name in columns]
    places = [lines.at(row) for lines in tables for row in range(len(lines.rows))]
    none = np.zeros(len(places), np.int64)
    if kind == "classes":
        return _classes(cells, columns, places)
    if kind == "tags" and len(columns) == 1 and not all(map(is_bit, cells[0])):
        sign = separator(cells[0])
        lists = [listed(cell, sign) for cell in cells[0]]
        names = tuple(sorted(set(itertools.chain(*lists))))
        values = np.array([[name in own for name in names] for own in lists], np.float32)
        by = "spaces" if sign is None else f"'{sign}'"
        how = f"lists of labels in the column {columns[0]}, parted by {by}"
        if max(map(len, lists)) < 2:
            how = f"a label in each line, in the column {columns[0]}"
        return _Labels(names, how, none, values.reshape(len(lists), len(names)), adds=True)
    for name, column in zip(columns, cells, strict=True):
        for place, cell in zip(places, column, strict=True):
            _check_cell(kind, cell, place, name)
    numbers = [[number(cell) for cell in column] for column in cells]
    values = np.ascontiguousarray(np.array(numbers).astype(np.float32).T)
    how = "a column with 0 or 1 for each label" if kind == "tags" else "a column for each number"
    return _Labels(tuple(columns), how, none, values)


def _classes(cells: Sequence[list[str]], columns: Sequence[str], places: Sequence[str]) -> _Labels:
    """The class of each line. Raises DataError: there are several columns, one class, or none in a
    cell.
    """
    if len(columns) > 1:
        raise DataError(
            f"the columns {few(columns)} may be the class of each image: name one in"
            " data.table.columns (nas-attn init with --column)"
        )
    for place, cell in zip(places, cells[0], strict=True):
        if not cell:
            raise DataError(
                f"{place} has nothing in the column '{columns[0]}': fill it in, or remove the line"
            )
    names = sorted(set(cells[0]))
    if all(map(is_number, names)):
        names.sort(key=number)
    if len(names) < 2:
        raise DataError(f"the column '{columns[0]}' has one class only, '{names[0]}': it needs two")
    number_of = {name: at for at, name in enumerate(names)}
    labels = np.array([number_of[cell] for cell in cells[0]], np.int64)
    return _Labels(tuple(names), f"a class for each image in the column {columns[0]}", labels)


def _joined(
    learnt: _Labels, images: Sequence[Path], splits: Sequence[str], places: Sequence[str]
) -> tuple[_Labels, NDArray[np.int64]]:
    """Puts the lines of an image together.

    Args:
        learnt: What the lines say.
        images: The image of each line.
        splits: Its split.
        places: Where the line is, for an error.

    Returns:
        What each image has, and the line in which it is first.

    Raises:
        DataError: Two lines of an image contradict each other.
    """
    row_of: dict[Path, int] = {}
    rows = np.array([row_of.setdefault(path, len(row_of)) for path in images], np.int64)
    first = np.unique(rows, return_index=True)[1]
    labels = learnt.labels[first]
    targets = None if learnt.targets is None else learnt.targets[first]
    if learnt.targets is not None and targets is not None and learnt.adds:
        np.maximum.at(targets, rows, learnt.targets)
    for line, row in enumerate(rows.tolist()):
        before = int(first[row])
        if line == before:
            continue
        again = f"{places[line]} has the image '{images[line].name}' again, of {places[before]}"
        if splits[line] != splits[before]:
            raise DataError(f"{again}, in another split: keep it in one")
        if targets is not None and not learnt.adds:
            raise DataError(f"{again}: give one line for each image, with all of its columns")
        if targets is None and learnt.labels[line] != labels[row]:
            raise DataError(
                f"{again}, with another class: keep one line, or learn several labels of an image"
                " with --task multi-label"
            )
    return replace(learnt, labels=labels, targets=targets), first


def _check_cell(kind: Kind, cell: str, place: str, column: str) -> None:
    """Raises DataError: a cell is empty, no number, or for a label neither 0 nor 1."""
    if not cell:
        raise DataError(
            f"{place} has nothing in the column '{column}': fill it in, or remove the line"
        )
    said = f"{place}: '{shorten(cell)}' in the column '{column}' is"
    if kind == "tags" and not is_bit(cell):
        raise DataError(f"{said} neither 0 nor 1: {CELL_WAY_OUT}")
    if not is_number(cell):
        raise DataError(f"{said} no number: {CELL_WAY_OUT}")


def number(cell: str) -> float:
    """Returns a cell's number, with a decimal point or comma; NaN if it is none."""
    try:
        return float(cell.replace(",", ".") if cell.count(",") == 1 else cell)
    except ValueError:
        return math.nan


def is_number(cell: str) -> bool:
    """Whether a cell has a finite number."""
    return math.isfinite(number(cell))


def is_bit(cell: str) -> bool:
    """Whether a cell has 0 or 1."""
    return number(cell) in (0.0, 1.0)


def group_of(cells: Mapping[str, Sequence[str]]) -> str:
    """Returns the column whose values stand for several images each, as a patient's number does, by
    its name or its values; empty if there is none. Of several, that with the largest groups.
    """
    several = {
        name: len(set(column))
        for name, column in cells.items()
        if all(column) and 3 <= len(set(column)) <= len(column) / LEAST_OF_GROUP
    }
    named = [name for name in several if _GROUP.search(name.replace("_", " "))]
    unnamed = [
        name
        for name, count in several.items()
        if count >= LEAST_UNNAMED
        and 2 * count <= len(cells[name]) <= MOST_OF_GROUP * count
        and all(re.search(r"\d", cell) and not is_number(cell) for cell in cells[name])
    ]
    candidates = named or (unnamed if len(cells) > 1 else [])
    return min(candidates, key=lambda name: several[name], default="")


def separator(cells: Sequence[str]) -> str | None:
    """Returns what parts the labels in the cells of a column; None: spaces."""
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), None)


def listed(cell: str, sign: str | None) -> set[str]:
    """Returns the labels of a cell; Python writes a list with brackets and quotes."""
    return {name.strip(" []'\"") for name in cell.split(sign)} - {""}

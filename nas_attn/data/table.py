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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import folder
from nas_attn.data.decoding import Source
from nas_attn.data.folder import (
    SPLIT_NAMES,
    image_endings,
    image_folder,
    plain,
    split_folders,
    walk,
)
from nas_attn.data.inventory import WHOLE, Remark
from nas_attn.data.samples import Samples, below
from nas_attn.data.splitting import csv_rows, groups_of
from nas_attn.errors import DataError, did_you_mean, few, several, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind

DELIMITERS = ",;\t"
# of labels in a cell, the first one that occurs in the column; else spaces
SEPARATORS = (";", "|", ",")
# in the names of tables to be handed in, which have no labels
HANDED_IN = "submission"
# of columns whose values stand for several images each, however few there are
_GROUP = re.compile(
    r"patient|subject|participant|donor|study|series|session|video|clip|film|\bpid$|\buid$|\bmrn$",
    re.IGNORECASE,
)
# that are classes, too, if they have few values
_GROUP_OR_CLASS = re.compile(
    "person|individual|identity|animal|case|scene|sequence|lesion|specimen|slide|plot|group",
    re.IGNORECASE,
)
# images of a group in the mean, at least
LEAST_OF_GROUP = 1.5
# values of a column that may as well have classes, at least
LEAST_GROUPS = 10
# a number that may have a decimal comma or one of thousands
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_TRUTHS = {"false": 0.0, "true": 1.0}
# labels or columns that are told of
SHOWN_COLUMNS = 12
# the class of an image of which nobody knows it
NOT_KNOWN = -1
# why images are left out
NOTHING_KNOWN = "of which nothing is known, as data.unknown says"
# whether a cell says that nobody knows
Unknown = Callable[[str], bool]
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


@dataclass(frozen=True)
class LabelTable:
    """The lines of a table's files, one after the other."""

    # the first
    file: Path
    header: Sequence[str]
    # where each line is, for an error
    places: Sequence[str]
    # by the files' names, or WHOLE
    splits: Sequence[str]
    rows: Sequence[Mapping[str, str]]
    # whether a comma in a number is a decimal one: no comma parts the cells
    has_decimal_commas: bool

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> LabelTable:
        """Reads the file of each split. Raises DataError: it has no lines, or one is of another
        length.
        """
        headers: list[list[str]] = []
        signs = set()
        lines: list[tuple[str, str, dict[str, str]]] = []
        for split, file in files.items():
            sign, found = csv_rows(file, "table", DELIMITERS)
            signs.add(sign)
            cells = [[cell.strip() for cell in row] for row in found]
            header, *rows = [row for row in cells if any(row)] or [[]]
            headers.append(header)
            if not rows:
                raise DataError(
                    f"table '{file}' has no line below its first, which names the columns"
                )
            for name in filter(None, header):
                if header.count(name) > 1:
                    raise DataError(f"'{file}' has two columns '{name}': rename one of them")
            for number, row in enumerate(rows, 2):
                place = f"'{file}', line {number}"
                if len(row) != len(header):
                    raise DataError(
                        f"{place} has {several(len(row), 'cell')}, and its first line"
                        f" {len(header)}: correct it"
                    )
                lines.append((place, split, dict(zip(header, row, strict=True))))
        places, splits, rows_of_all = zip(*lines, strict=True)
        file = next(iter(files.values()))
        return cls(file, headers[0], places, splits, rows_of_all, "," not in signs)

    def column(self, name: str, *, filled: Unknown | None = None) -> list[str]:
        """The cells of a column. Raises DataError: there is none, or one is empty, which should be
        `filled` unless that says that nobody knows.
        """
        if name not in self.header:
            raise DataError(
                f"'{self.file}' has no column '{shorten(name)}': {did_you_mean(name, self.header)}"
            )
        cells = [row.get(name, "") for row in self.rows]
        if filled is not None and "" in cells and not filled(""):
            raise DataError(
                f"{self.places[cells.index('')]} has nothing in the column '{name}': fill it in,"
                " remove the line, or give data.unknown = [''] if nobody knows what is in empty"
                " cells"
            )
        return cells

    def without(
        self, splits: Sequence[str], columns: Sequence[str]
    ) -> tuple[LabelTable, list[str]]:
        """Leaves out splits that have nothing in these columns, as the tables of a contest have,
        and returns which; `splits`: those of the lines.
        """
        filled = {
            split
            for split, row in zip(splits, self.rows, strict=True)
            if split in ("train", WHOLE) or any(row.get(name) for name in columns)
        }
        kept = [at for at, split in enumerate(splits) if split in filled]
        table = replace(
            self,
            places=[self.places[at] for at in kept],
            splits=[splits[at] for at in kept],
            rows=[self.rows[at] for at in kept],
        )
        return table, sorted(set(splits) - filled)


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
        if file.name != Path(groups or "").name and HANDED_IN not in file.stem.lower()
    ]
    by_split = {_SPLIT_OF.get(file.stem.lower(), WHOLE): file for file in files}
    if "train" in by_split:
        return {split: by_split[split] for split in SPLIT_NAMES if split in by_split}
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
    letters, or in others of them, with another ending, or with other folders before. In all lines,
    as many folders at the beginning are ignored as it takes to find most files.
    """

    def __init__(self, root: Path) -> None:
        self.walked = walk(root)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.walked.images:
            inside = PurePosixPath(below(path, root))
            exact = {str(inside), str(inside.with_suffix("")), inside.name, inside.stem}
            for key in exact | set(map(plain, exact)):
                self._by_name.setdefault(key, []).append(path)

    def find(self, names: Sequence[str]) -> list[list[Path]]:
        """The files that each of the names may stand for."""
        paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
        best: list[list[Path]] = []
        for ignored in range(max(len(path.parts) for path in paths)):
            found = [self._of(path, ignored) for path in paths]
            if sum(map(bool, found)) > sum(map(bool, best)):
                best = found
            if 2 * sum(map(bool, best)) >= len(names):
                return best
        return best or [[] for _ in names]

    def _of(self, path: PurePosixPath, ignored: int) -> list[Path]:
        """The files that a path may stand for, without so many of its folders."""
        tail = PurePosixPath(*path.parts[min(ignored, len(path.parts) - 1) :])
        keys = [str(tail), plain(str(tail))]
        if tail.suffix.lower() in image_endings():
            keys.append(plain(str(tail.with_suffix(""))))
        found = next((self._by_name[key] for key in keys if key in self._by_name), [])
        exact = self.walked.root / path
        return [exact] if exact in found else found

    def column(self, table: LabelTable) -> str:
        """The column with the images: the one that names most. Raises DataError: the table has no
        line with names.
        """
        if self.find(table.header[:1])[0]:
            raise DataError(
                f"'{table.file}' begins with an image: write a first line with the columns' names,"
                " like image,cat,dog"
            )

        def named(column: str) -> int:
            return len({paths[0] for paths in self.find(table.column(column)) if paths})

        # where none names any, the first
        return max(filter(None, table.header), key=named, default=table.header[0])

    def images(self, table: LabelTable, column: str) -> list[Path]:
        """The image of each line. Raises DataError: one is missing, may be several, or has another
        name in another line.
        """
        images: list[Path] = []
        names = table.column(column)
        named: dict[Path, str] = {}
        for place, name, found in zip(table.places, names, self.find(names), strict=True):
            if not found:
                raise DataError(
                    f"{place}: '{shorten(name)}' is not in '{self.walked.root}': correct it, or"
                    " name the column of images in data.table.image"
                )
            if len(found) > 1:
                which = few([below(path, self.walked.root) for path in found])
                raise DataError(f"{place}: '{name}' may be {which}: give its path in the folder")
            other = named.setdefault(found[0], name)
            if plain(other) != plain(name):
                raise DataError(
                    f"{place}: '{shorten(name)}' is '{below(found[0], self.walked.root)}', as is"
                    f" '{shorten(other)}': give their paths in the folder"
                )
            images += found
        return images


def read(kind: Kind, section: DataSection) -> Samples:
    """Lists `folder:PATH` with a table. Raises DataError: there is none, or a line is wrong."""
    root = image_folder(section)
    where = section.table or TableSection()
    grouped = section.groups
    group = None if grouped is None else grouped.column
    files = tables_of(root, where, None if grouped is None else grouped.file)
    table = LabelTable.of(files)
    there = FilesByName(root)
    image = where.image or there.column(table)
    split = where.split or next((n for n in table.header if n.lower() == "split"), None)
    beside = [name for name in table.header if name and name not in (image, split)]
    columns = where.columns or [name for name in beside if name != group]
    if not columns:
        raise DataError(f"'{table.file}' has no column beside '{image}': add one with labels")
    table, unlabelled = table.without(_named_splits(table, split), columns)
    images = there.images(table, image)
    splits = _splits(table, images, section)
    learnt = _learnt(kind, table, columns, unknown_by(section.unknown))
    first = np.array(_first_lines(learnt, table, images, splits))
    is_known = of_known(learnt.values)[first]
    lines = first[is_known].tolist()
    names = [name for name in (WHOLE, *SPLIT_NAMES) if name in splits]
    if not {WHOLE, "train"}.intersection(names):
        raise DataError(f"'{table.file}' has no image to train on: give some to the split train")
    paths = [images[at] for at in lines]
    groups = groups_of(grouped, root, paths, [below(path, root) for path in paths])
    if group is not None:
        groups = np.array(table.column(group, filled=unknown_by(())))[lines]
    walked = there.walked
    walked.leave(NOTHING_KNOWN, [images[at] for at in first[~is_known]])
    for left in walked.left_out.values():
        left[:] = [path for path in left if path not in files.values()]
    walked.leave("that the table does not name", sorted({*walked.images}.difference(images)))
    about = f"table: {few([file.name for file in files.values()], quote='')}, {learnt.how}"
    if unlabelled:
        about += f"; {few(unlabelled, quote='')} has nothing in {few(columns)}, and is left out"
    values = learnt.values[lines]
    shared = group_of({name: table.column(name) for name in beside if name not in columns})
    return Samples.listed(
        root,
        learnt.names,
        [
            (splits[at], Source(images[at]), 0 if values.ndim > 1 else int(label))
            for at, label in zip(lines, values, strict=True)
        ],
        splits=names,
        targets=values if values.ndim > 1 else None,
        groups=groups,
        left_out=walked.left_out,
        about=[about, *about_targets(kind, learnt.names, values)],
        missing_test=f"image folder '{root}' has no test split: give some images of"
        f" '{table.file.name}' to the test",
        remarks=_remarks_on(shared) if shared and grouped is None else (),
    )


def read_classes(section: DataSection) -> Samples:
    """Lists `folder:PATH` for a class of each image: by the table that the recipe names, else by
    the folders of classes. Raises DataError: as `read`.
    """
    return folder.read(section) if section.table is None else read("classes", section)


read_tags = partial(read, "tags")
read_numbers = partial(read, "numbers")


def _remarks_on(column: str) -> list[Remark]:
    said = (
        f"values of '{column}' stand for several images each, which may come into two splits: if"
        " they are one patient, scene or film, keep its images together with data.groups ="
        f' {{ column = "{column}" }}'
    )
    return [Remark("shared_values", said)]


def _named_splits(table: LabelTable, column: str | None) -> Sequence[str]:
    """The split of each line: by a column, else by the file's name. Raises DataError: a cell names
    none.
    """
    if column is None:
        return table.splits
    cells = table.column(column)
    for place, cell in zip(table.places, cells, strict=True):
        if cell.lower() not in _SPLIT_OF:
            raise DataError(
                f"{place}: '{shorten(cell)}' in the column '{column}' is no split: give train, val"
                " or test"
            )
    return [_SPLIT_OF[cell.lower()] for cell in cells]


def _splits(table: LabelTable, images: Sequence[Path], section: DataSection) -> Sequence[str]:
    """The split of each line: as it is named, else by its image's folder; WHOLE without folders of
    splits. Raises DataError: an image is in none.
    """
    if WHOLE not in table.splits:
        return table.splits
    folders = split_folders(image_folder(section), section.splits)
    split_of = {place: split for split, places in folders.items() for place in places}
    splits = [next((split_of[p] for p in path.parents if p in split_of), "") for path in images]
    if "" in splits:
        row = splits.index("")
        raise DataError(
            f"{table.places[row]}: '{images[row]}' is in no folder of a split: move it, or give the"
            " table a column split"
        )
    return splits


@dataclass(frozen=True)
class _Learnt:
    """What the lines say."""

    names: Sequence[str]
    how: str
    # (N,): of classes; (N, K): of labels or numbers
    values: NDArray[Any]
    # whether each line adds labels to its image
    adds: bool = False


def _learnt(kind: Kind, table: LabelTable, columns: Sequence[str], unknown: Unknown) -> _Learnt:
    """What all lines say. Raises DataError: a cell is wrong, or it is not clear which column has
    the class.
    """
    first, *others = columns
    commas = table.has_decimal_commas
    if kind == "classes":
        return _classes(table, columns, unknown)
    cells = table.column(first)
    known = [cell for cell in cells if not unknown(cell)]
    if kind == "tags" and not others and not all(map(is_bit, known)):
        return _lists(first, cells, unknown)
    fits = is_bit if kind == "tags" else partial(is_number, commas=commas)
    read = bit if kind == "tags" else partial(number, commas=commas)
    wrong = "neither 0 nor 1" if kind == "tags" else "no number"
    values = np.full((len(table.rows), len(columns)), np.nan, np.float32)
    for at, column in enumerate(columns):
        for line, cell in enumerate(table.column(column, filled=unknown)):
            if unknown(cell):
                continue
            if not fits(cell):
                raise DataError(
                    f"{table.places[line]}: '{shorten(cell)}' in the column '{column}' is {wrong}:"
                    " correct it, name the columns to learn in data.table.columns, or list it in"
                    " data.unknown if it says that nobody knows"
                )
            values[line, at] = read(cell)
    how = "a column with 0 or 1 for each label" if kind == "tags" else "a column for each number"
    return _Learnt(columns, how, values)


def _classes(table: LabelTable, columns: Sequence[str], unknown: Unknown) -> _Learnt:
    cells = table.column(columns[0], filled=unknown)
    known = {cell for cell in cells if not unknown(cell)}
    commas = table.has_decimal_commas
    numbered = all(is_number(cell, commas) for cell in known)
    names = sorted(known, key=partial(number, commas=commas) if numbered else None)
    if len(columns) > 1 or len(names) < 2:
        wrong = "are several" if len(columns) > 1 else f"has {few(names)} alone"
        raise DataError(
            f"one column has the class of each image, with two classes at least, and"
            f" {few(columns)} {wrong}: name one in data.table.columns (nas-attn init with --column)"
        )
    place = {name: at for at, name in enumerate(names)}
    classes = np.array([place.get(cell, NOT_KNOWN) for cell in cells], np.int64)
    return _Learnt(names, f"a class for each image in the column {columns[0]}", classes)


def _lists(column: str, cells: Sequence[str], unknown: Unknown) -> _Learnt:
    """Labels in the cells of a column; an empty cell has none, unless it says that nobody knows."""
    sign = separator(cells)
    lists = [set() if unknown(cell) else listed(cell, sign) for cell in cells]
    names = sorted(set(itertools.chain(*lists)))
    bits = np.array([[name in own for name in names] for own in lists], np.float32)
    bits[list(map(unknown, cells))] = np.nan
    by = "spaces" if sign is None else f"'{sign}'"
    how = f"lists of labels in the column {column}, parted by {by}"
    if max(map(len, lists)) < 2:
        how = f"a label in each line, in the column {column}"
    return _Learnt(names, how, bits.reshape(len(lists), len(names)), adds=True)


def _first_lines(
    learnt: _Learnt, table: LabelTable, images: Sequence[Path], splits: Sequence[str]
) -> list[int]:
    """The line in which each image is first, with the labels of all of its lines.

    Args:
        learnt: What the lines say; labels are added in place.
        table: The lines.
        images: The image of each.
        splits: Its split.

    Raises:
        DataError: Two lines of an image contradict each other.
    """
    first: dict[Path, int] = {}
    values = learnt.values
    for line, path in enumerate(images):
        before = first.setdefault(path, line)
        if learnt.adds:
            values[before] = np.fmax(values[before], values[line])
        same = learnt.adds or np.array_equal(values[before], values[line], equal_nan=True)
        if not same or splits[line] != splits[before]:
            raise DataError(
                f"{table.places[line]} has the image '{path.name}' again, of"
                f" {table.places[before]}, with another split, class or number: keep one line, or"
                " learn several labels of an image with --task multi-label"
            )
    return list(first.values())


def about_targets(kind: Kind, names: Sequence[str], targets: NDArray[np.float32]) -> list[str]:
    """Returns how many images each label has, or from where to where the numbers of each column
    go, and of how many that is unknown, in lines; none for classes.
    """
    if kind == "classes":
        return []
    labels = np.nansum(targets, 1)
    columns = [values[~np.isnan(values)] for values in targets.T]
    if kind == "numbers":
        rows = [
            f"{name} from {known.min():.6g} to {known.max():.6g}, {known.mean():.6g} in the mean"
            for name, known in zip(names, columns, strict=True)
            if len(known)
        ]
        lines = [f"numbers: {_shown(rows, '; ')}"]
    else:
        rows = [f"{name} {known.sum():,.0f}" for name, known in zip(names, columns, strict=True)]
        together = f"{(labels > 1).sum():,} have several, {(labels == 0).sum():,} none"
        lines = [f"images by label: {_shown(rows, ', ')}; {together}"]
    lacking = [len(targets) - len(known) for known in columns]
    if any(lacking):
        rows = [f"{name} {count:,}" for name, count in zip(names, lacking, strict=True) if count]
        lines.append(f"images by what is unknown of them: {_shown(rows, ', ')}")
    return lines


def _shown(rows: Sequence[str], sign: str) -> str:
    return sign.join(rows[:SHOWN_COLUMNS]) + f"{sign}…" * (len(rows) > SHOWN_COLUMNS)


def unknown_by(cells: Sequence[str]) -> Unknown:
    """Returns what says whether a cell is among those of `data.unknown`; numbers are alike in each
    spelling.
    """
    numbers = {number(cell) for cell in cells if is_number(cell)}
    return lambda cell: cell in cells or number(cell) in numbers


def of_known(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns (N,): whether something is known of each image.

    Args:
        values: (N,) of classes, or (N, K) of labels or numbers.
    """
    unknown = values == NOT_KNOWN if values.ndim == 1 else np.isnan(values).all(1)
    return np.asarray(~unknown, np.bool_)


def number(cell: str, commas: bool = False) -> float:
    """Returns a cell's number, with a decimal point or comma; NaN if it is none.

    Args:
        cell: The text. `1,234` may be a thousand: it is no number without `commas`.
        commas: Whether each comma is a decimal one.
    """
    if cell.count(",") == 1 and (commas or not _THOUSANDS.fullmatch(cell)):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return math.nan


def is_number(cell: str, commas: bool = False) -> bool:
    """Whether a cell has a finite number, as `number` reads it."""
    return math.isfinite(number(cell, commas))


def is_bit(cell: str) -> bool:
    """Whether a cell has 0 or 1, or False or True."""
    return bit(cell) is not None


def bit(cell: str) -> float | None:
    """Returns 0 or 1 of a cell with one of these, or with False or True; None: it has another."""
    found = _TRUTHS.get(cell.lower(), number(cell))
    return found if found in (0.0, 1.0) else None


def group_of(cells: Mapping[str, Sequence[str]]) -> str:
    """Returns the column whose name says that its values stand for several images each, as a
    patient's number does; empty if there is none. Of several, that with the largest groups.
    """
    counts = {name: len(set(column)) for name, column in cells.items() if all(column)}
    named = []
    for name, count in counts.items():
        words = name.replace("_", " ")
        of_class = count >= LEAST_GROUPS and _GROUP_OR_CLASS.search(words)
        if 3 <= count <= len(cells[name]) / LEAST_OF_GROUP and (_GROUP.search(words) or of_class):
            named.append(name)
    return min(named, key=lambda name: counts[name], default="")


def separator(cells: Sequence[str]) -> str | None:
    """Returns what parts the labels in the cells of a column; None: spaces."""
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), None)


def listed(cell: str, sign: str | None) -> set[str]:
    """Returns the labels of a cell; Python writes a list with brackets and quotes."""
    return {name.strip(" []'\"") for name in cell.split(sign)} - {""}

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
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import folder
from nas_attn.data.csv_table import CsvTable
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
from nas_attn.data.splitting import groups_of
from nas_attn.errors import DataError, few, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind

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
# images of a group in the mean, at least; at most where only the values show that it is one
LEAST_OF_GROUP = 1.5
MOST_OF_GROUP = 50
# values of a column that may as well have classes, at least
LEAST_GROUPS = 10
# a number that may have a decimal comma or one of thousands
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_TRUTHS = {"false": 0.0, "true": 1.0}
# the class of an image of which nobody knows it
NOT_KNOWN = -1
# why images are left out
NOTHING_KNOWN = "of which nothing is known, as data.unknown says"
# whether a cell says that nobody knows
Unknown = Callable[[str], bool]
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def tables_of(root: Path, where: TableSection, groups: str | None = None) -> dict[str, Path]:
    """Split, or WHOLE -> the file with its images. Raises DataError: there is none, or nobody said
    which.

    Args:
        root: The folder.
        where: What the recipe says of the table.
        groups: A file in the folder that is no table of labels.
    """
    if where.file is not None:
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
    names = few([file.name for file in files])
    raise DataError(
        f"'{root}' has {f'several tables, {names}' if files else 'no table of its images'}: name"
        " one in data.table.file, a CSV file whose first line is like image,cat,dog"
    )


class FilesByName:
    """Finds the files that a table names: by path or name, with or without an ending, in the same
    letters, or in others of them, with another ending, or with other folders before. In all lines,
    as many folders at the beginning are ignored as it takes to find half of the files.
    """

    def __init__(self, root: Path) -> None:
        self.walked = walk(root)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.walked.images:
            inside = PurePosixPath(plain(below(path, root)))
            for key in {str(inside), str(inside.with_suffix("")), inside.name, inside.stem}:
                self._by_name.setdefault(key, []).append(path)

    def find(self, names: Sequence[str]) -> list[list[Path]]:
        """The files that each of the names may stand for."""
        paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
        found: list[list[Path]] = []
        for ignored in range(max([1, *(len(path.parts) for path in paths)])):
            found = [self._of(path, ignored) for path in paths]
            if 2 * sum(map(bool, found)) >= len(names):
                break
        return found

    def _of(self, path: PurePosixPath, ignored: int) -> list[Path]:
        """The files that a path may stand for, without so many of its folders."""
        tail = PurePosixPath(plain("/".join(path.parts[min(ignored, len(path.parts) - 1) :])))
        found = self._by_name.get(str(tail), [])
        if not found and tail.suffix in image_endings():
            found = self._by_name.get(str(tail.with_suffix("")), [])
        exact = self.walked.root / path
        return [exact] if exact in found else found

    def column(self, table: CsvTable) -> str:
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

    def images(self, table: CsvTable, column: str) -> list[Path]:
        """The image of each line. Raises DataError: one is missing, may be several, or has another
        name in another line.
        """
        names = table.column(column)
        named: dict[Path, str] = {}
        images: list[Path] = []
        for line, name, found in zip(table.lines, names, self.find(names), strict=True):
            which = few([below(path, self.walked.root) for path in found])
            wrong = ""
            if not found:
                wrong = f"not in '{self.walked.root}'"
            elif len(found) > 1:
                wrong = f"one of {which}"
            elif plain(other := named.setdefault(found[0], name)) != plain(name):
                wrong = f"{which}, as is '{shorten(other)}'"
            if wrong:
                raise DataError(
                    f"{line.place}: '{shorten(name)}' is {wrong}: give its path in the folder, or"
                    " name the column of images in data.table.image"
                )
            images += found
        return images


def read(kind: Kind, section: DataSection) -> Samples:
    """Lists `folder:PATH` with a table. Raises DataError: there is none, or a line is wrong."""
    root = image_folder(section)
    where = section.table or TableSection()
    grouped = section.groups
    files = tables_of(root, where, None if grouped is None else grouped.file)
    table = CsvTable.of(files)
    there = FilesByName(root)
    image = where.image or there.column(table)
    split = where.split or next((n for n in table.header if n.lower() == "split"), None)
    beside = [name for name in table.header if name and name not in (image, split)]
    group = None if grouped is None else grouped.column
    columns = where.columns or [name for name in beside if name != group]
    if not columns:
        raise DataError(f"'{table.file}' has no column beside '{image}': add one with labels")
    table, unlabelled = _labelled(table, split, columns)
    images = there.images(table, image)
    table = _divided(table, images, section)
    names, values = _learnt(kind, table, columns, unknown_by(section.unknown))
    # a line for each label
    adds = kind == "tags" and list(names) != columns
    lines = np.array(_first_lines(table, images, values, adds=adds), np.int64)
    known = of_known(values[lines])
    walked = there.walked
    walked.leave(NOTHING_KNOWN, [images[at] for at in lines[~known]])
    lines = lines[known]
    for left in walked.left_out.values():
        left[:] = [path for path in left if path not in files.values()]
    walked.leave("that the table does not name", sorted({*walked.images}.difference(images)))
    about = f"table: {few([file.name for file in files.values()], quote='')}"
    if unlabelled:
        about += f"; {few(unlabelled, quote='')} has nothing in {few(columns)}, and is left out"
    values = values[lines]
    splits = {line.split for line in table.lines}
    if not {WHOLE, "train"} & splits:
        raise DataError(f"'{table.file}' has no image to train on: give some to the split train")
    cells = [] if group is None else table.column(group)
    paths = [images[at] for at in lines]
    shared = group_of({name: table.column(name) for name in beside if name not in columns})
    said = (
        f"values of '{shared}' stand for several images each, which may come into two splits: if"
        " they are one patient, scene or film, keep its images together with data.groups ="
        f' {{ column = "{shared}" }}'
    )
    has_class = kind == "classes"
    return Samples.listed(
        root,
        names,
        [(table.lines[at].split, Source(images[at])) for at in lines],
        list(map(int, values[:, 0])) if has_class else (),
        [name for name in (WHOLE, *SPLIT_NAMES) if name in splits],
        targets=None if has_class else values,
        groups=groups_of(grouped, root, paths, cells=[cells[at] for at in lines if cells]),
        left_out=walked.left_out,
        about=[about, *about_targets(kind, names, values)],
        missing_test=f"image folder '{root}' has no test split: give some images of"
        f" '{table.file.name}' to the test",
        remarks=[Remark("shared_values", said)] if shared and grouped is None else (),
    )


def read_classes(section: DataSection) -> Samples:
    """Lists `folder:PATH` for a class of each image: by the table that the recipe names, else by
    the folders of classes. Raises DataError: as `read`.
    """
    return folder.read(section) if section.table is None else read("classes", section)


read_tags = partial(read, "tags")
read_numbers = partial(read, "numbers")


def _labelled(
    table: CsvTable, column: str | None, columns: Sequence[str]
) -> tuple[CsvTable, list[str]]:
    """Divides lines by a column, if there is one, and leaves out splits that have nothing to learn,
    as the tables of a contest have, and says which. Raises DataError: a cell names no split.
    """
    if column is not None:
        table = _in_splits(table, [_SPLIT_OF.get(c.lower(), "") for c in table.column(column)])
    splits = {line.split for line in table.lines}
    filled = {line.split for line in table.lines if any(map(line.cells.get, columns))}
    empty = splits - filled - {"train", WHOLE}
    lines = [line for line in table.lines if line.split not in empty]
    return replace(table, lines=lines), sorted(empty)


def _divided(table: CsvTable, images: Sequence[Path], section: DataSection) -> CsvTable:
    """The lines with the splits of their images' folders, if nothing else divides them. Raises
    DataError: an image is in none.
    """
    if all(line.split != WHOLE for line in table.lines):
        return table
    folders = split_folders(image_folder(section), section.splits)
    split_of = {place: split for split, places in folders.items() for place in places}
    homes = (next(filter(split_of.__contains__, path.parents), None) for path in images)
    return _in_splits(table, ["" if home is None else split_of[home] for home in homes])


def _in_splits(table: CsvTable, splits: Sequence[str]) -> CsvTable:
    """The lines in these splits. Raises DataError: one has none."""
    if "" in splits:
        raise DataError(
            f"{table.lines[splits.index('')].place} is in no split: give train, val or test in the"
            " column split, or move its image into the folder of one"
        )
    lines = [line._replace(split=own) for line, own in zip(table.lines, splits, strict=True)]
    return replace(table, lines=lines)


def _learnt(
    kind: Kind, table: CsvTable, columns: Sequence[str], unknown: Unknown
) -> tuple[Sequence[str], NDArray[np.float32]]:
    """What all lines say: the names of classes, labels or numbers, and (N, K) of them, NaN if
    nobody knows. Raises DataError: a cell is wrong, or it is not clear which column has the class.
    """
    cells = {name: table.column(name) for name in columns}
    filled = {cell for cell in cells[columns[0]] if cell and not unknown(cell)}
    names = columns
    wrong = "no number"
    read: Callable[[str], float] = partial(number, commas=table.has_decimal_commas)
    if kind == "classes":
        names = sorted(filled, key=read if all(map(math.isfinite, map(read, filled))) else None)
        wrong = "no class"
        read = ({"": math.nan} | {name: at for at, name in enumerate(names)}).__getitem__
        if len(columns) > 1 or len(names) < 2:
            lacking = "are several" if len(columns) > 1 else f"has {few(names)} alone"
            raise DataError(
                "one column has the class of each image, with two classes at least, and"
                f" {few(columns)} {lacking}: name one in data.table.columns (nas-attn init with"
                " --column)"
            )
    elif kind == "tags":
        if len(columns) == 1 and any(math.isnan(bit(cell)) for cell in filled):
            return _lists(cells[columns[0]], unknown)
        wrong = "neither 0 nor 1"
        read = bit
    values = np.full((len(table.lines), len(columns)), np.nan, np.float32)
    for at, column in enumerate(columns):
        for line, cell in enumerate(cells[column]):
            if not unknown(cell):
                values[line, at] = read(cell)
                if not np.isfinite(values[line, at]):
                    raise DataError(
                        f"{table.lines[line].place}: '{shorten(cell)}' in the column '{column}' is"
                        f" {wrong}: correct it, name the columns to learn in data.table.columns,"
                        " or list it in data.unknown if it says that nobody knows"
                    )
    return names, values


def _lists(cells: Sequence[str], unknown: Unknown) -> tuple[Sequence[str], NDArray[np.float32]]:
    """Labels in the cells of a column; an empty cell has none, unless it says that nobody knows."""
    sign = separator(cells)
    lists = [set() if unknown(cell) else listed(cell, sign) for cell in cells]
    names = sorted(set(itertools.chain(*lists)))
    bits = np.array([[name in own for name in names] for own in lists], np.float32)
    bits[list(map(unknown, cells))] = np.nan
    return names, bits


def _first_lines(
    table: CsvTable, images: Sequence[Path], values: NDArray[np.float32], *, adds: bool
) -> list[int]:
    """The line in which each image is first, with the labels of all of its lines.

    Args:
        table: The lines.
        images: The image of each.
        values: What each says; labels are added in place.
        adds: Whether each line adds labels to its image.

    Raises:
        DataError: Two lines of an image contradict each other.
    """
    first: dict[Path, int] = {}
    for at, (line, path) in enumerate(zip(table.lines, images, strict=True)):
        before = first.setdefault(path, at)
        if adds:
            values[before] = np.fmax(values[before], values[at])
        same = adds or np.array_equal(values[before], values[at], equal_nan=True)
        if not same or line.split != table.lines[before].split:
            raise DataError(
                f"{line.place} has the image '{path.name}' again, of"
                f" {table.lines[before].place}, with another split, class or number: keep one"
                " line, or learn several labels of an image with --task multi-label"
            )
    return list(first.values())


def about_targets(kind: Kind, names: Sequence[str], targets: NDArray[np.float32]) -> list[str]:
    """Returns how many images each label has, or from where to where the numbers of each column
    go, and of how many that is unknown, in lines; none for classes.
    """
    if kind == "classes":
        return []
    rows = []
    unknown = []
    for name, column in zip(names, targets.T, strict=True):
        known = column[~np.isnan(column)]
        if len(known) < len(column):
            unknown.append(f"{name} {len(column) - len(known):,}")
        if kind == "tags":
            rows.append(f"{name} {known.sum():,.0f}")
        elif len(known):
            mean = f"{known.mean():.6g}"
            rows.append(f"{name} from {known.min():.6g} to {known.max():.6g} (mean {mean})")
    lines = [f"numbers: {few(rows, quote='')}"]
    if kind == "tags":
        labels = np.nansum(targets, 1)
        together = f"{(labels > 1).sum():,} have several, {(labels == 0).sum():,} none"
        lines = [f"images by label: {few(rows, quote='')}; {together}"]
    if unknown:
        lines.append(f"images by what is unknown of them: {few(unknown, quote='')}")
    return lines


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


def bit(cell: str) -> float:
    """Returns 0 or 1 of a cell with one of these, or with False or True; NaN: it has another."""
    found = _TRUTHS.get(cell.lower(), number(cell))
    return found if found in (0.0, 1.0) else math.nan


def group_of(cells: Mapping[str, Sequence[str]]) -> str:
    """Returns the column whose values stand for several images each, as a patient's number does, by
    its name, else by its values: beside other columns, codes with digits, such as `A017`, that
    recur. Empty if there is none. Of several, that with the largest groups.
    """
    counts = {name: len(set(column)) for name, column in cells.items() if all(column)}
    named = []
    coded = []
    for name, count in counts.items():
        words = name.replace("_", " ")
        images = len(cells[name])
        are_many = count >= LEAST_GROUPS
        of_class = are_many and _GROUP_OR_CLASS.search(words)
        if 3 <= count <= images / LEAST_OF_GROUP and (_GROUP.search(words) or of_class):
            named.append(name)
        elif are_many and 2 * count <= images <= MOST_OF_GROUP * count and _are_codes(cells[name]):
            coded.append(name)
    # a single column is what is learnt
    found = named or (coded if len(cells) > 1 else [])
    return min(found, key=lambda name: counts[name], default="")


def _are_codes(cells: Sequence[str]) -> bool:
    return all(re.search(r"\d", cell) and not is_number(cell) for cell in cells)


def separator(cells: Sequence[str]) -> str | None:
    """Returns what parts the labels in the cells of a column; None: spaces."""
    return next((sign for sign in SEPARATORS if any(sign in cell for cell in cells)), None)


def listed(cell: str, sign: str | None) -> set[str]:
    """Returns the labels of a cell; Python writes a list with brackets and quotes."""
    return {name.strip(" []'\"") for name in cell.split(sign)} - {""}

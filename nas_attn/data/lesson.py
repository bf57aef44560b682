"""What the table of a folder teaches of its images, as `init` proposes it: which columns are
learnt, as what, and which one says which images belong together.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nas_attn.data.csv_table import CsvTable
from nas_attn.data.inventory import WHOLE
from nas_attn.data.table import (
    FilesByName,
    bit,
    group_of,
    listed,
    number,
    separator,
    tables_of,
)
from nas_attn.errors import DataError, few, shorten
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind

# share of a column's cells that are numbers, from which it has numbers
NEARLY_ALL = 0.9
# share of the labels in a column's lists that must recur, where commas part them
RECURRING_OF_COMMAS = 0.5
# whole numbers that recur are classes if they are no more
MOST_CODES = 20
# what is known of whoever is in the image, and is learnt only if nothing else is there
_ABOUT = re.compile(
    r"(patient.?)?((age|sex|gender|male|female|bmi)([^a-z].*)?|weight|height)", re.IGNORECASE
)


# what a column has
BITS = "bits"
NUMBERS = "numbers"
RUNNING = "running numbers"
CODES = "whole numbers that recur"
LISTS = "lists"
WORDS = "words that recur"


class Lesson(NamedTuple):
    """What is proposed of a table."""

    # None: nothing, or the classes are folders
    kind: Kind | None = None
    # by what that is seen
    why: str = ""
    # to learn; none: all beside the images, their splits and groups
    columns: tuple[str, ...] = ()
    # why another column may be meant, with the names of all; empty: none may
    choice: str = ""
    # the column of `data.groups`; empty: there is none
    group: str = ""
    # cells that say that nobody knows, for `data.unknown`
    unknown: tuple[str, ...] = ()


def lesson(root: Path, kind: Kind | None = None, columns: Sequence[str] = ()) -> Lesson:
    """Proposes what of a folder's table is learnt.

    Args:
        root: The folder.
        kind: What its task learns; None: what there is.
        columns: Those to learn; none: what there is.

    Raises:
        DataError: The table has no such column, or names no image.
    """
    try:
        file, *_ = tables_of(root, TableSection()).values()
        table = CsvTable.of({WHOLE: file})
        there = FilesByName(root)
        image = there.column(table)
    except DataError:
        return Lesson(columns=tuple(columns))
    paths = table.column(image)
    if kind is None and not any(there.find(paths)):
        raise DataError(
            f"'{root}' has no folders of classes, and no column of '{file}' names its images:"
            f" '{shorten(paths[0])}' is not in '{root}'; give the table a column with their paths"
        )
    beside = [name for name in table.header if name and name != image and name.lower() != "split"]
    cells = {name: table.column(name) for name in (*beside, *columns)}
    values = {name: {number(cell) for cell in own if cell} for name, own in cells.items()}
    # labels that are there, not there or unknown; a single column of 1, 0 and -1 may be of numbers
    doubtful = [name for name in values if {-1, 1} <= values[name] <= {-1, 0, 1}]
    doubtful = doubtful if len(doubtful) > 1 else []
    forms = {name: _form(own, commas=table.has_decimal_commas) for name, own in cells.items()}
    forms |= dict.fromkeys(doubtful, BITS)
    group = group_of({name: cells[name] for name in beside if name not in columns})
    seen = columns or _learnable([name for name in beside if forms[name]], forms, group)
    group = "" if group in seen else group
    # an image has several lines
    is_long = len(set(paths)) < len(paths)
    found, taken = _taken(kind, {name: forms[name] for name in seen}, is_long=is_long)
    if columns and kind is None and not taken:
        raise DataError(
            f"'{file}' has neither classes, 0 and 1, lists of labels nor numbers in"
            f" {few(columns)}: give --task multi-label to take each cell as a label, or name other"
            " columns"
        )
    taken = list(columns) or taken
    if not taken:
        return Lesson()
    choice = ""
    if not columns and (len(taken) < len(seen) or (found == "numbers" and len(taken) > 1)):
        choice = f"'{file}' has several columns that may be learnt, {few(seen)}"
    form = forms[taken[0]]
    said = {"classes": "a class of each image", "numbers": "numbers"}
    bits = "0 or 1" if form == BITS else "labels"
    why = f"'{file.name}' has {said.get(found or '', bits)} in {few(taken)}"
    if form == CODES and found == "classes":
        why += f", {CODES} (--task regression takes them as quantities)"
    if unlearnt := [name for name in beside if name not in (*taken, group)]:
        why += f"; not learnt: {few(unlearnt)}"
    unknown = ["-1"] * any(name in doubtful for name in taken)
    if form != LISTS and not is_long and any("" in cells[name] for name in taken):
        # in lists, an empty cell has no label
        unknown.insert(0, "")
    if unknown:
        why += f"; cells with {few(unknown)} count as unknown (data.unknown)"
    chosen = columns or unlearnt or found == "classes"
    return Lesson(found, why, tuple(taken) if chosen else (), choice, group, tuple(unknown))


def _learnable(names: Sequence[str], forms: Mapping[str, str], group: str) -> list[str]:
    """The columns that may be learnt: a group or what is known of whoever is in the image only if
    nothing else is there, and no running number, which tells images apart.
    """
    useful = [name for name in names if forms[name] != RUNNING]
    useful = [name for name in useful if name != group] or useful
    return [name for name in useful if not _ABOUT.fullmatch(name)] or useful


def _form(cells: Sequence[str], *, commas: bool) -> str:
    """What nearly all filled cells of a column have, the others may be mistakes; empty: nothing
    that is learnt. `commas`: whether those in numbers are decimal ones.
    """
    cells = list(filter(None, cells))
    if not cells:
        return ""
    if np.isfinite([bit(cell) for cell in cells]).mean() >= NEARLY_ALL:
        return BITS
    recurs = 2 <= len(set(cells)) <= len(cells) / 2
    values = np.array([number(cell, commas) for cell in cells])
    if np.isfinite(values).mean() >= NEARLY_ALL:
        if len(values) > 2 and (np.diff(values) == 1).all():
            return RUNNING
        whole = (values >= 0).all() and (values % 1 == 0).all()
        return CODES if recurs and whole and len(set(values)) <= MOST_CODES else NUMBERS
    if _are_lists(cells):
        return LISTS
    return WORDS if recurs else ""


def _taken(
    kind: Kind | None, forms: Mapping[str, str], *, is_long: bool
) -> tuple[Kind | None, list[str]]:
    """What is learnt of columns with such forms, and of which: all numbers or bits, else the
    likeliest one.

    Args:
        kind: What the task learns; None: what is likeliest.
        forms: Those of all columns.
        is_long: Whether an image has several lines.
    """

    def of(*wanted: str) -> list[str]:
        return [name for form in wanted for name, own in forms.items() if own == form]

    bits = of(BITS)
    words = of(WORDS)
    numbers = [name for name in forms if forms[name] in (NUMBERS, CODES, RUNNING)]
    options: list[tuple[Kind, list[str]]] = [
        ("tags", of(LISTS)[:1]),
        ("tags", words[:1] if is_long and not bits else []),
        # one column of 0 and 1 among numbers is more likely a number, too
        ("tags", bits if len(bits) > bool(numbers) else []),
        ("classes", of(WORDS, CODES)[:1] if len(numbers) == len(of(CODES)) < 2 else []),
        ("numbers", numbers),
        # for whoever gives the task
        ("tags", bits),
        ("classes", of(WORDS, CODES, BITS)[:1]),
    ]
    likeliest = (option for option in options if option[1] and kind in (None, option[0]))
    return next(likeliest, (kind, []))


def _are_lists(cells: Sequence[str]) -> bool:
    """Whether a column has lists of labels. Commas and spaces stand in other text, too: they part
    labels that recur in other company, of commas most.
    """
    sign = separator(cells)
    lists = {frozenset(listed(cell, sign)) for cell in cells}
    times = Counter(itertools.chain(*lists))
    recurring = sum(count > 1 for count in times.values())
    least = RECURRING_OF_COMMAS if sign else 1.0
    recur = max(map(len, lists)) > 1 and recurring >= least * len(times)
    return sign in (";", "|") or recur

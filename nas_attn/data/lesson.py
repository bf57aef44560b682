"""What the table of a folder teaches of its images, as `init` proposes it: which columns are
learnt, as what, and which one says which images belong together.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_attn.data.inventory import WHOLE
from nas_attn.data.table import (
    FilesByName,
    LabelTable,
    group_of,
    is_bit,
    is_number,
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


@dataclass(frozen=True)
class Lesson:
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
        table = LabelTable.of({WHOLE: file})
        there = FilesByName(root)
        image = there.column(table)
    except DataError:
        return Lesson()
    paths = table.column(image)
    if kind is None and not any(there.find(paths)):
        raise DataError(
            f"'{root}' has no folders of classes, and no column of '{file}' names its images:"
            f" '{shorten(paths[0])}' is not in '{root}'; give the table a column with their paths"
        )
    beside = [name for name in table.header if name and name != image and name.lower() != "split"]
    group = group_of({name: table.column(name) for name in beside if name not in columns})
    every = [name for name in beside if name != group]
    forms = _forms(table, columns or every)
    if group and not {*forms.values()} - {"", RUNNING}:
        # it is all that can be learnt
        every = beside
        forms = _forms(table, beside)
        group = ""
    if not columns:
        # a running number tells images apart, and what is known of whoever is in the image is
        # learnt only if nothing else is there
        told = {name: form for name, form in forms.items() if form not in ("", RUNNING)}
        forms = {name: form for name, form in told.items() if not _ABOUT.fullmatch(name)} or told
    # an image has several lines
    is_long = len(set(paths)) < len(paths)
    found = kind or _kind_of(list(forms.values()), is_long=is_long)
    taken = _taken(found, forms, is_long=is_long)
    if columns and kind is None and not taken:
        raise DataError(
            f"'{file}' has neither classes, 0 and 1, lists of labels nor numbers in"
            f" {few(columns)}: give --task multi-label to take each cell as a label, or name other"
            " columns"
        )
    taken = list(columns) or taken
    if not taken:
        return Lesson()
    left = [name for name in forms if forms[name] and name not in taken]
    choice = ""
    if not columns and (left or (found == "numbers" and len(taken) > 1)):
        choice = f"'{file}' has several columns that may be learnt, {few([*taken, *left])}"
    why = f"'{file.name}' has {_what(found, forms.get(taken[0], ''), taken, table)}"
    if unlearnt := [name for name in every if name not in taken]:
        why += f", and {few(unlearnt)} {'is' if len(unlearnt) == 1 else 'are'} not learnt"
    unknown = _unknown(table, taken, lists=forms.get(taken[0]) == LISTS or is_long)
    if unknown:
        why += f"; {' and '.join(map(_cell, unknown))} count as unknown (data.unknown)"
    whole = taken == every and found != "classes"
    proposed = () if whole else tuple(taken)
    return Lesson(found, why, proposed, choice, group, tuple(unknown))


def _forms(table: LabelTable, names: Sequence[str]) -> dict[str, str]:
    """What columns have."""
    cells = {name: table.column(name) for name in names}
    doubtful = _doubtful(cells)
    commas = table.has_decimal_commas
    return {name: BITS if name in doubtful else _form(cells[name], commas) for name in names}


def _unknown(table: LabelTable, taken: Sequence[str], *, lists: bool) -> list[str]:
    """The cells that say that nobody knows. `lists`: an empty cell has no label."""
    cells = {name: table.column(name) for name in taken}
    empty = not lists and any("" in column for column in cells.values())
    return [""] * empty + ["-1"] * bool(_doubtful(cells))


def _form(cells: Sequence[str], commas: bool) -> str:
    """What nearly all filled cells of a column have, the others may be mistakes; empty: nothing
    that is learnt. `commas`: whether those in numbers are decimal ones.
    """
    cells = list(filter(None, cells))
    if not cells:
        return ""
    if sum(map(is_bit, cells)) >= NEARLY_ALL * len(cells):
        return BITS
    recurs = 2 <= len(set(cells)) <= len(cells) / 2
    if sum(is_number(cell, commas) for cell in cells) >= NEARLY_ALL * len(cells):
        values = [number(cell, commas) for cell in cells]
        if len(values) > 2 and all(values[0] + at == value for at, value in enumerate(values)):
            return RUNNING
        whole = all(value >= 0 and value.is_integer() for value in values)
        return CODES if recurs and whole and len(set(values)) <= MOST_CODES else NUMBERS
    if _list_sign(cells):
        return LISTS
    return WORDS if recurs else ""


def _doubtful(cells: Mapping[str, Sequence[str]]) -> list[str]:
    """The columns of labels that are there, not there or unknown: 1, 0 and -1. A single one may be
    of numbers.
    """
    values = {name: {number(cell) for cell in column if cell} for name, column in cells.items()}
    found = [name for name, own in values.items() if {-1.0, 1.0} <= own <= {-1.0, 0.0, 1.0}]
    return found if len(found) > 1 else []


def _cell(cell: str) -> str:
    return f"cells with {cell}" if cell else "empty cells"


def _kind_of(forms: Sequence[str], *, is_long: bool) -> Kind:
    """What is learnt, by the forms of all columns."""
    numbers = sum(form in (NUMBERS, CODES, RUNNING) for form in forms)
    bits = forms.count(BITS)
    words = WORDS in forms
    # one column of 0 and 1 among numbers is more likely a number, too
    if LISTS in forms or (is_long and words and not bits):
        return "tags"
    if bits > (1 if numbers else 0):
        return "tags"
    if (numbers == 1 and CODES in forms) or (words and not numbers):
        return "classes"
    return "numbers"


def _taken(kind: Kind, forms: Mapping[str, str], *, is_long: bool) -> list[str]:
    """The columns that are learnt as this: all numbers or bits, else the likeliest one."""
    by = {form: [name for name in forms if forms[name] == form] for form in forms.values()}
    if kind == "numbers":
        return [name for name in forms if forms[name] in (NUMBERS, CODES, RUNNING)]
    if kind == "classes":
        return [name for form in (WORDS, CODES, BITS) for name in by.get(form, [])][:1]
    words = by.get(WORDS, []) if is_long else []
    return by.get(LISTS, [])[:1] or by.get(BITS, []) or words[:1]


def _what(kind: Kind, form: str, taken: Sequence[str], table: LabelTable) -> str:
    """What a table has in the columns that are learnt."""
    first = taken[0]
    if kind == "classes":
        codes = f", {CODES} (--task regression takes them as quantities)"
        return f"a class of each image in {few(taken)}{codes if form == CODES else ''}"
    if form == LISTS:
        sign = _list_sign(table.column(first))
        parted = "spaces" if sign == " " else f"'{sign}'"
        return f"several labels in a cell of {first}, parted by {parted}"
    if form == WORDS:
        return f"several lines of an image, each with a label in {first}"
    return f"{'0 or 1' if form == BITS else 'numbers'} in {few(taken)}"


def _list_sign(cells: Sequence[str]) -> str:
    """What parts the labels in the cells of a column; empty: they are no lists. Commas and spaces
    stand in other text, too: they part labels that recur in other company, of commas most.
    """
    sign = separator(cells)
    if sign in (";", "|"):
        return sign
    lists = {frozenset(listed(cell, sign)) for cell in cells}
    times = Counter(itertools.chain(*lists))
    recurring = sum(count > 1 for count in times.values())
    least = RECURRING_OF_COMMAS if sign else 1.0
    if max(map(len, lists)) > 1 and recurring >= least * len(times):
        return sign or " "
    return ""

"""What the table of a folder teaches of its images, as `init` proposes it: which columns are
learnt, as what, and which one says which images belong together.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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

# words in the names of positions and angles
PLACES = frozenset(
    {"x", "y", "z", "u", "v", "cx", "cy", "xmin", "xmax", "ymin", "ymax", "left", "right", "top"}
    | {"bottom", "lat", "lon", "pos", "roll", "pitch", "yaw", "phi", "rot", "deg", "dir", "pose"}
)
_PLACE = re.compile(
    "angle|steer|head(ing)?$|azimuth|direction|bearing|rotation|orient|theta|position|coord|cent(er|re)"
    "|point|corner|gaze|landmark|latitude|longitude"
)
# share of a column's cells that are numbers, from which it has numbers
NEARLY_ALL = 0.9
# share of the labels in a column's lists that must recur, where commas part them
RECURRING_OF_COMMAS = 0.5
# whole numbers that recur are classes if they are no more
MOST_NAMES_OF_A_COLUMN = 20
# what is known of whoever is in the image, and is learnt only if nothing else is there
_ABOUT = re.compile(r"(patient.?)?(age|sex|gender|male|female|weight|height|bmi)", re.IGNORECASE)


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
    # whether numbers are positions or angles, by their names
    placed: bool = False


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
        lines = LabelTable.of({WHOLE: file})
        there = FilesByName(root)
        image = there.column(lines)
    except DataError:
        return Lesson()
    names = lines.column(image)
    if kind is None and not any(map(there.find, names)):
        raise DataError(
            f"'{root}' has no folders of classes, and no column of '{file}' names its images:"
            f" '{shorten(names[0])}' is not in '{root}'; give the table a column with their paths"
        )
    return _Columns(lines, image, kind, columns).lesson()


class _Columns:
    """The columns of a table, by what is in their cells."""

    def __init__(
        self, lines: LabelTable, image: str, kind: Kind | None, columns: Sequence[str]
    ) -> None:
        self.file = lines.file
        self.kind = kind
        self.given = columns
        own = [name for name in lines.header if name and name not in (image, *columns)]
        beside = {name: lines.column(name) for name in own if name.lower() != "split"}
        self.group = group_of(beside)
        self.every = [
            name
            for name in lines.header
            if name and name not in (image, self.group) and name.lower() != "split"
        ]
        self.cells = {name: lines.column(name) for name in columns or self.every}
        # an image has several lines
        paths = lines.column(image)
        self.is_long = len(set(paths)) < len(paths)
        self.bits = self._of(is_bit)
        numbers = [name for name in self._of(is_number) if name not in self.bits]
        # a running number tells images apart
        told = [name for name in numbers if not _is_running(self.cells[name])]
        self.numbers = numbers if columns else told or numbers
        rest = [name for name in self.cells if name not in (*self.bits, *numbers)]
        self.signs = {name: _list_sign(self.cells[name]) for name in rest}
        self.lists = [name for name in rest if self.signs[name]]
        self.words = [name for name in rest if name not in self.lists and _recur(self.cells[name])]
        if not columns:
            self._leave_out_what_is_known()

    def _of(self, fits: Callable[[str], bool]) -> list[str]:
        """The columns whose cells nearly all are of a kind; the others may be mistakes."""
        return [
            name
            for name, cells in self.cells.items()
            if sum(map(fits, cells)) >= NEARLY_ALL * len(cells)
        ]

    def _leave_out_what_is_known(self) -> None:
        """Takes out what is known of whoever is in the image, if something else is there."""
        found = (self.bits, self.numbers, self.lists, self.words)
        if any(not _ABOUT.fullmatch(name) for name in itertools.chain(*found)):
            for names in found:
                names[:] = [name for name in names if not _ABOUT.fullmatch(name)]

    @property
    def classes(self) -> list[str]:
        """The columns that may have the class of each image."""
        whole = [name for name in self.numbers if self._recurs_whole(name)]
        return self.words or whole or self.bits

    def _recurs_whole(self, name: str) -> bool:
        values = set(map(number, self.cells[name]))
        whole = all(value >= 0 and value.is_integer() for value in values)
        return whole and 2 <= len(values) <= MOST_NAMES_OF_A_COLUMN and _recur(self.cells[name])

    def found(self) -> Kind:
        """What is learnt, by the columns."""
        if self.lists or (self.is_long and self.words and not self.bits):
            return "tags"
        # one column of 0 and 1 among numbers is more likely a number, too
        if len(self.bits) > (1 if self.numbers else 0):
            return "tags"
        few_numbers = len(self.numbers) == 1 and self._recurs_whole(self.numbers[0])
        if few_numbers or (self.words and not self.numbers):
            return "classes"
        return "numbers"

    def lesson(self) -> Lesson:
        """What is proposed."""
        found = self.kind or self.found()
        known: Mapping[Kind, list[str]] = {
            "tags": self.lists[:1] or self.bits or (self.words[:1] if self.is_long else []),
            "numbers": self.numbers,
            "classes": self.classes[:1],
        }
        if self.given and self.kind is None and not known.get(found):
            raise DataError(
                f"'{self.file}' has neither classes, 0 and 1, lists of labels nor numbers in"
                f" {few(self.given)}: give --task multi-label to take each cell as a label, or name"
                " other columns"
            )
        taken = list(self.given) or known.get(found, [])
        if not taken:
            return Lesson()
        others = (*self.bits, *self.numbers, *self.lists, *self.words)
        left = [name for name in dict.fromkeys(others) if name not in taken]
        choice = ""
        if not self.given and (left or (len(self.numbers) > 1 and taken == self.numbers)):
            choice = f"'{self.file}' has several columns that may be learnt, {few([*taken, *left])}"
        placed = found == "numbers" and any(map(is_place, taken))
        made = Lesson(
            found, self._why(found, taken), choice=choice, group=self.group, placed=placed
        )
        if taken == self.every and found != "classes":
            return made
        return replace(made, columns=tuple(taken))

    def _why(self, found: Kind, taken: Sequence[str]) -> str:
        """By what it is seen, and what is not learnt."""
        first = taken[0]
        why = f"'{self.file.name}' has numbers in {few(taken)}"
        if found == "classes":
            why = f"'{self.file.name}' has a class of each image in {few(taken)}"
            if first in self.numbers:
                why += ", whole numbers that recur (--task regression takes them as quantities)"
        elif first in self.lists:
            parted = "spaces" if self.signs[first] == " " else f"'{self.signs[first]}'"
            why = f"'{self.file.name}' has several labels in a cell of {first}, parted by {parted}"
        elif first in self.words:
            why = f"'{self.file.name}' has several lines of an image, each with a label in {first}"
        elif first in self.bits:
            why = f"'{self.file.name}' has 0 or 1 in {few(taken)}"
        if left := [name for name in self.every if name not in taken]:
            why += f", and {few(left)} {'is' if len(left) == 1 else 'are'} not learnt"
        return why


def is_place(column: str) -> bool:
    """Whether a column has positions in the image or angles, by the words of its name."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower())
    return not PLACES.isdisjoint(words) or any(map(_PLACE.search, words))


def _is_running(cells: Sequence[str]) -> bool:
    """Whether each line has the next number."""
    values = [number(cell) for cell in cells]
    return len(values) > 2 and all(values[0] + at == value for at, value in enumerate(values))


def _recur(cells: Sequence[str]) -> bool:
    """Whether a column has the same words again and again, as classes are."""
    return 2 <= len(set(cells)) <= len(cells) / 2


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

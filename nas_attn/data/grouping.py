"""Which images of a folder belong together: `data.groups`, a file or a regular expression."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from nas_attn.errors import DataError, shorten
from nas_attn.paths import user_path
from nas_attn.recipe import GroupsSection

GroupOf = Callable[[Path, Path], str]
"""An image's path, and the folder of class folders that it is in -> its group."""
COLUMNS = ["image", "group"]


def find_groups(section: GroupsSection, root: Path) -> GroupOf:
    """What tells an image's group.

    Args:
        root: the image folder, which paths in the file begin at.

    Raises:
        DataError: the file cannot be read, or says two things of an image; when called: an image has no group.
    """
    if section.file is not None:
        return _of_file(user_path(section.file, what="data.groups.file", error=DataError), root)
    return _of_pattern(section.pattern or "")


def _of_pattern(pattern: str) -> GroupOf:
    expression = re.compile(pattern)

    def group_of(path: Path, folder: Path) -> str:
        below = "/".join(path.relative_to(folder).parts[1:])
        found = expression.search(below)
        group = found and (found.group(1) if expression.groups else found.group())
        if not group:
            raise DataError(
                f"data.groups.pattern '{shorten(pattern)}' does not match '{below}' of '{folder}': it must match every "
                "image's path below its class folder"
            )
        return str(group)

    return group_of


def _of_file(file: Path, root: Path) -> GroupOf:
    known = _read(file)

    def group_of(path: Path, folder: Path) -> str:
        inside = path.relative_to(root).as_posix()
        group = known.get(inside) or known.get(path.name)
        if group is None:
            raise DataError(f"data.groups.file '{file}' has no line for '{inside}': every image needs one")
        return group

    return group_of


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data.groups.file '{file}' cannot be read: {shorten(str(error))}") from None
    if not rows or rows[0] != COLUMNS:
        raise DataError(f"data.groups.file '{file}' must begin with the line 'image,group'")
    known: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2 or not all(row):
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(','.join(row))}' is not of the form image,group"
            )
        if known.setdefault(row[0], row[1]) != row[1]:
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(row[0])}' is of group '{shorten(known[row[0]])}' above "
                f"and of '{shorten(row[1])}' here"
            )
    return known

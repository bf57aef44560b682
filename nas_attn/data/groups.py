"""The groups of images (`data.groups`) that must stay on one side of a split: from a CSV file, or
by a regular expression over their paths.

Python's own expressions may need longer than the age of the earth for one short name, and cannot be
stopped. So they are matched in a process of its own, all names of a folder at once, with a time
limit.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from nas_attn.errors import DataError, shorten
from nas_attn.recipe.recipe import GroupsSection
from nas_attn.system.paths import user_path

# (paths of images, the folder with their class folders) -> the group of each
GroupsOf = Callable[[Sequence[Path], Path], list[str]]
GROUP_COLUMNS = ["image", "group"]
# time limit for the names of a folder; a usual expression takes a millionth of it
MATCHING_S = 10.0
# names for each further second of it
NAMES_PER_S = 10_000
# Reads [pattern, names] and writes the group of each name, null where there is none. It imports
# nothing that could come from the working folder.
MATCHING = """
import json, re, sys
pattern, names = json.load(sys.stdin)
expression = re.compile(pattern)
groups = []
for name in names:
    match = expression.search(name)
    groups.append(match and (match.group(1) if expression.groups else match.group()))
json.dump(groups, sys.stdout)
"""


def find_groups(section: GroupsSection, root: Path) -> GroupsOf:
    """A function that gives images' groups, from a file with paths below `root`, or a pattern.
    DataError: it is wrong.
    """
    if section.file is not None:
        return _of_file(user_path(section.file, what="data.groups.file", error=DataError), root)
    return _of_pattern(section.pattern or "")


def _of_pattern(pattern: str) -> GroupsOf:
    def groups_of(paths: Sequence[Path], folder: Path) -> list[str]:
        names = ["/".join(path.relative_to(folder).parts[1:]) for path in paths]
        groups = _matched(pattern, names)
        for name, group in zip(names, groups, strict=True):
            if not group:
                raise DataError(
                    f"data.groups.pattern '{shorten(pattern)}' does not match '{name}' of"
                    f" '{folder}': it must match every image's path below its class folder"
                )
        return [str(group) for group in groups]

    return groups_of


def _matched(pattern: str, names: Sequence[str]) -> list[str | None]:
    """What the pattern's first group, or the whole pattern, matches in each name. Raises DataError:
    it takes too long.
    """
    limit_s = MATCHING_S + len(names) / NAMES_PER_S
    command = [sys.executable, "-I", "-S", "-c", MATCHING]
    question = json.dumps([pattern, names])
    try:
        done = subprocess.run(
            command, input=question, capture_output=True, text=True, timeout=limit_s, check=True
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"data.groups.pattern '{shorten(pattern)}' takes more than {limit_s:.0f} s for the"
            f" names of {len(names)} images, since it can match them in very many ways: write it"
            " without a repetition inside a repetition, like '^([^_]+)_', or give data.groups.file"
        ) from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataError(
            f"data.groups.pattern '{shorten(pattern)}' cannot be matched: {shorten(str(error))}"
        ) from None
    groups: list[str | None] = json.loads(done.stdout)
    return groups


def _of_file(file: Path, root: Path) -> GroupsOf:
    group_by_image = _read(file)

    def group_of(path: Path) -> str:
        inside = path.relative_to(root).as_posix()
        group = group_by_image.get(inside) or group_by_image.get(path.name)
        if group is None:
            raise DataError(
                f"data.groups.file '{file}' has no line for '{inside}': every image needs one"
            )
        return group

    return lambda paths, _: [group_of(path) for path in paths]


def _read(file: Path) -> dict[str, str]:
    """Image -> its group."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"data.groups.file '{file}' cannot be read: {shorten(str(error))}"
        ) from None
    if not rows or rows[0] != GROUP_COLUMNS:
        raise DataError(f"data.groups.file '{file}' must begin with the line 'image,group'")
    group_by_image: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2 or not all(row):
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(','.join(row))}' is not"
                " image,group"
            )
        if group_by_image.setdefault(row[0], row[1]) != row[1]:
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(row[0])}' is of group"
                f" '{shorten(group_by_image[row[0]])}' above and of '{shorten(row[1])}' here"
            )
    return group_by_image

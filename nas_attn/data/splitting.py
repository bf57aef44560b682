"""Stratified splits, fixed by a seed; groups (`data.groups`, a file or a regular expression) stay
together.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.parts import Indices
from nas_attn.errors import DataError, shorten
from nas_attn.paths import user_path
from nas_attn.recipe import GroupsSection


def stratified(
    labels: Indices, count: int, seed: int, names: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Indices of `count` images taken and of those left, ascending: every class is in both;
    DataError: too few images.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2 or not len(classes) <= count <= len(labels) - len(classes):
        smallest = f" '{names[classes[sizes.argmin()]]}'" if names else ""
        raise DataError(
            f"cannot split {len(labels)} images of {len(classes)} classes into {count} and"
            f" {len(labels) - count} with every class in both: every class needs an image in each,"
            f" but the smallest{smallest} has only {sizes.min()}"
        )
    shares = sizes * count / len(labels)
    quota = np.clip(np.floor(shares).astype(np.int64), 1, sizes - 1)
    while quota.sum() != count:
        up = quota.sum() < count
        room = quota < sizes - 1 if up else quota > 1
        owed = np.where(room, (shares - quota) * (1 if up else -1), -np.inf)
        quota[np.argmax(owed)] += 1 if up else -1
    rng = np.random.default_rng((seed, len(labels)))
    taken = [
        rng.permutation(np.flatnonzero(labels == name))[:take]
        for name, take in zip(classes, quota, strict=True)
    ]
    mask = np.zeros(len(labels), dtype=bool)
    mask[np.concatenate(taken)] = True
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def divided(
    labels: NDArray[np.int64],
    count: int,
    seed: int,
    names: Sequence[str],
    groups: NDArray[np.str_] | None,
) -> tuple[Indices, Indices]:
    """As `stratified`, but groups are not divided, so `count` is met approximately; DataError: too
    few groups.
    """
    if groups is None:
        return stratified(labels, count, seed, names)
    inside, number = np.unique(groups, return_inverse=True)
    sizes = np.zeros((len(inside), len(names)), dtype=np.int64)
    np.add.at(sizes, (number, labels), 1)
    taken = _grouped(sizes, count, seed, names)
    mask = taken[number]
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def _grouped(
    sizes: NDArray[np.int64], count: int, seed: int, names: Sequence[str]
) -> NDArray[np.bool_]:
    """bool (groups,): the groups to take. Each class is in both parts, and its share is kept as
    well as possible.
    """
    total = sizes.sum(0)
    for label in map(int, np.flatnonzero(total)):
        if np.count_nonzero(sizes[:, label]) < 2:
            raise DataError(
                f"cannot split by groups: all {total[label]} images of class '{names[label]}' are"
                " of one group, and every class needs at least two"
            )
    quota = total * (count / total.sum())
    random = np.random.default_rng((seed, len(sizes)))
    order = random.permutation(len(sizes))
    order = order[
        np.argsort(-sizes[order].sum(1), kind="stable")
    ]  # large groups first, small ones fill up
    taken, have = np.zeros(len(sizes), dtype=bool), np.zeros(len(names))

    def off(counts: NDArray[np.float64]) -> float:
        return float((((counts - quota) / np.maximum(quota, 1)) ** 2).sum())

    for group in order:
        more = have + sizes[group]
        leaves_all = np.all((total - more > 0) | (total == 0) | (sizes[group] == 0))
        if leaves_all and off(more) < off(have):
            taken[group], have = True, more
    for label in map(
        int, np.flatnonzero((have == 0) & (total > 0))
    ):  # too small for its share: its smallest group
        fits = [
            g
            for g in order[::-1]
            if sizes[g, label] and np.all((total - have - sizes[g] > 0) | (sizes[g] == 0))
        ]
        if not fits:
            raise DataError(
                f"cannot split by groups: class '{names[label]}' cannot be put on both sides"
                " without removing another class from one"
            )
        taken[fits[0]], have = True, have + sizes[fits[0]]
    return taken


def amount(wanted: int | float | None, labels: NDArray[np.int64], what: str) -> int:
    """Number of images from a count or a share, at least one of each class; None: a fifth.
    DataError: nothing or everything.
    """
    share, total = 0.2 if wanted is None else wanted, len(labels)
    if isinstance(share, float):
        count = max(round(share * total), len(np.unique(labels)) if share > 0 else 0)
    else:
        count = share
    if not 0 < count < total:
        raise DataError(
            f"{what} = {wanted} would take {count} of {total} training images: give a share between"
            " 0 and 1"
        )
    return count


GroupOf = Callable[
    [Path, Path], str
]  # (an image's path, the folder with its class folders) -> its group
COLUMNS = ["image", "group"]


def find_groups(section: GroupsSection, root: Path) -> GroupOf:
    """A function that gives an image's group, from a file with paths below `root`, or a pattern.
    DataError: it is wrong.
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
                f"data.groups.pattern '{shorten(pattern)}' does not match '{below}' of '{folder}':"
                " it must match every image's path below its class folder"
            )
        return str(group)

    return group_of


def _of_file(file: Path, root: Path) -> GroupOf:
    known = _read(file)

    def group_of(path: Path, folder: Path) -> str:
        inside = path.relative_to(root).as_posix()
        group = known.get(inside) or known.get(path.name)
        if group is None:
            raise DataError(
                f"data.groups.file '{file}' has no line for '{inside}': every image needs one"
            )
        return group

    return group_of


def _read(file: Path) -> dict[str, str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = list(csv.reader(opened, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"data.groups.file '{file}' cannot be read: {shorten(str(error))}"
        ) from None
    if not rows or rows[0] != COLUMNS:
        raise DataError(f"data.groups.file '{file}' must begin with the line 'image,group'")
    known: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        if len(row) != 2 or not all(row):
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(','.join(row))}' is not"
                " image,group"
            )
        if known.setdefault(row[0], row[1]) != row[1]:
            raise DataError(
                f"data.groups.file '{file}', line {number}: '{shorten(row[0])}' is of group"
                f" '{shorten(known[row[0]])}' above and of '{shorten(row[1])}' here"
            )
    return known

"""Stratified splits, fixed by a seed; groups stay together.

Groups (`data.groups`) come from a CSV file, or by a regular expression over paths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.csv_table import CsvTable
from nas_attn.data.pixels import Indices
from nas_attn.errors import DataError, shorten
from nas_attn.recipe.recipe import GroupsSection
from nas_attn.system.paths import user_path

# orders in which groups are tried, before the usual one
MOST_ORDERS = 50
# of one division, or of one of many
Seed = int | tuple[int, ...]


def stratified(
    labels: Indices, count: int, seed: Seed, names: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Divides images so that every class is on both sides. Raises DataError: too few images.

    Args:
        labels: (N,), indices into the classes.
        count: How many images to take.
        seed: Of the division.
        names: The classes, for an error.

    Returns:
        Indices of the images taken and of those left, ascending.
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
    rng = _generator(seed, len(labels))
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
    seed: Seed,
    names: Sequence[str],
    groups: NDArray[np.str_] | None,
    tags: NDArray[np.float32] | None = None,
) -> tuple[Indices, Indices]:
    """Divides images as `stratified`, but no group, so `count` is met approximately; images with
    several labels by `shared_out`. Raises DataError: too few images or groups.

    Args:
        labels: (N,), indices into the classes.
        count: How many images to take.
        seed: An integer: of the only division. Several: of one of many, in which groups are taken
            in any order, so that large ones are not always on the same side.
        names: The classes.
        groups: (N,), the group of each image; None: there are none.
        tags: (N, K), 0 or 1: the labels of each image; None: it has a class.

    Returns:
        Indices of the images taken and of those left, ascending.
    """
    if tags is not None:
        mask = shared_out(tags, count, seed, groups)
    elif groups is None:
        return stratified(labels, count, seed, names)
    else:
        inside, number = np.unique(groups, return_inverse=True)
        # images of each group (row) in each class (column)
        sizes = np.zeros((len(inside), len(names)), dtype=np.int64)
        np.add.at(sizes, (number, labels), 1)
        mask = _taken(sizes, count, seed, names)[number]
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def shared_out(
    tags: NDArray[np.float32], count: int, seed: Seed, groups: NDArray[np.str_] | None = None
) -> NDArray[np.bool_]:
    """Divides images with several labels so that both parts have each label's share: iterative
    stratification (Sechidis et al., ECML 2011), which gives out the rarest label first.

    Args:
        tags: (N, K), 0 or 1: the labels of each image.
        count: About how many images to take.
        seed: Of the division.
        groups: (N,): images of a group stay together.

    Returns:
        (N,): whether an image is taken.
    """
    total = len(tags)
    unit = np.arange(total)
    if groups is not None:
        unit = np.unique(groups, return_inverse=True)[1]
    # images of each unit; its images with each label
    sizes = np.bincount(unit).astype(np.float64)
    labels = np.zeros((len(sizes), tags.shape[1]))
    np.add.at(labels, unit, tags)
    # what is still wanted in the part that is left and in the one that is taken
    shares = np.array([1 - count / total, count / total])
    images = shares * total
    wanted = shares[:, None] * labels.sum(0)
    order = _generator(seed, total).permutation(len(sizes))
    # -1: in none yet
    part = np.full(len(sizes), -1)
    while (waiting := order[part[order] < 0]).size:
        left = (labels[waiting] > 0).sum(0)
        rarest = int(np.where(left > 0, left, total + 1).argmin()) if left.any() else None
        alike = waiting if rarest is None else waiting[labels[waiting, rarest] > 0]
        for one in alike.tolist():
            need = images if rarest is None else wanted[:, rarest]
            best = int(np.lexsort((images, need))[-1])
            part[one] = best
            images[best] -= sizes[one]
            wanted[best] -= labels[one]
    taken: NDArray[np.bool_] = part[unit] == 1
    return taken


def _taken(
    sizes: NDArray[np.int64], count: int, seed: Seed, names: Sequence[str]
) -> NDArray[np.bool_]:
    """bool (groups,): the groups to take."""
    if isinstance(seed, tuple):
        for attempt in range(MOST_ORDERS):
            with suppress(DataError):
                return _grouped(sizes, count, (*seed, attempt), names)
        # no order of some puts every class on both sides
        seed = seed[0]
    return _grouped(sizes, count, seed, names)


def _generator(seed: Seed, total: int) -> np.random.Generator:
    return np.random.default_rng((*np.atleast_1d(seed), total))


def _grouped(
    sizes: NDArray[np.int64], count: int, seed: Seed, names: Sequence[str]
) -> NDArray[np.bool_]:
    """bool (groups,): the groups to take, of the only division in order of size. Each class is in
    both parts, and its share is kept as well as possible.
    """
    total = sizes.sum(0)
    quota = total * (count / total.sum())
    order = _generator(seed, len(sizes)).permutation(len(sizes))
    if isinstance(seed, int):
        # small ones fill up
        order = order[np.argsort(-sizes[order].sum(1), kind="stable")]
    taken = np.zeros(len(sizes), dtype=bool)
    have = np.zeros(len(names))

    def off(counts: NDArray[np.float64]) -> float:
        return float((((counts - quota) / np.maximum(quota, 1)) ** 2).sum())

    for group in order:
        more = have + sizes[group]
        leaves_all = np.all((total - more > 0) | (total == 0) | (sizes[group] == 0))
        if leaves_all and off(more) < off(have):
            taken[group] = True
            have = more
    for label in map(int, np.flatnonzero((have == 0) & (total > 0))):
        # too small for its share: its smallest group
        fits = [
            g
            for g in order[::-1]
            if sizes[g, label] and np.all((total - have - sizes[g] > 0) | (sizes[g] == 0))
        ]
        if not fits:
            raise DataError(
                f"cannot split by groups: class '{names[label]}' cannot be put on both sides"
                " without removing a class from one; every class needs two groups at least"
            )
        taken[fits[0]] = True
        have = have + sizes[fits[0]]
    return taken


def amount(wanted: int | float | None, labels: NDArray[np.int64], what: str) -> int:
    """Returns a number of images from a count or a share, at least one of each class; None: a
    fifth. Raises DataError: nothing or everything.
    """
    share = 0.2 if wanted is None else wanted
    total = len(labels)
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


def groups_of(
    section: GroupsSection | None,
    root: Path,
    paths: Sequence[Path],
    inside: Sequence[str] | None = None,
    cells: Sequence[str] = (),
) -> NDArray[np.str_] | None:
    """Returns the group of each image, from a file, a pattern or a column; None: none is given.

    Args:
        section: `data.groups`.
        root: The folder, below which the file names images.
        paths: The images.
        inside: Their paths below their class folders, which a pattern is for; None: below the root.
        cells: Of their column.

    Raises:
        DataError: The file is wrong, or an image has no group.
    """
    if section is None:
        return None
    names = [path.relative_to(root).as_posix() for path in paths]
    groups = list(cells)
    if section.file is not None:
        file = user_path(section.file, what="data.groups.file", error=DataError)
        table = CsvTable.of({"": file})
        by_image: dict[str, str] = {}
        for line, *pair in zip(
            table.lines, table.column("image"), table.column("group"), strict=True
        ):
            if by_image.setdefault(*pair) != pair[1]:
                raise DataError(f"{line.place} gives an image another group than above: correct it")
        groups = [by_image.get(name) or by_image.get(Path(name).name, "") for name in names]
    elif section.pattern is not None:
        expression = re.compile(section.pattern)
        matches = map(expression.search, inside or names)
        # the first group in brackets, if there is one
        groups = [(match and match[min(1, expression.groups)]) or "" for match in matches]
    if "" in groups:
        said = section.file or section.pattern or section.column or ""
        raise DataError(
            f"data.groups, '{shorten(said)}', has no group for '{names[groups.index('')]}' of"
            f" '{root}': it must have one for every image; a pattern is for paths below the class"
            " folders"
        )
    return np.array(groups)

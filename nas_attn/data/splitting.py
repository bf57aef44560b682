"""Stratified splits, fixed by a seed; groups stay together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.pixels import Indices
from nas_attn.errors import DataError

# orders in which groups are tried, before the usual one
MOST_ORDERS = 50
# of one division, or of one of many
Seed = int | tuple[int, ...]


def stratified(
    labels: Indices, count: int, seed: Seed, names: Sequence[str] | None = None
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
    rng = np.random.default_rng((*_parts(seed), len(labels)))
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
    sizes, number = _group_sizes(groups, labels, len(names))
    taken = _grouped(sizes, count, seed, names)
    mask = taken[number]
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def redivided(
    labels: NDArray[np.int64],
    count: int,
    seed: tuple[int, int],
    names: Sequence[str],
    groups: NDArray[np.str_] | None,
) -> tuple[Indices, Indices]:
    """As `divided`, for one of many divisions: groups are taken in any order, so that large ones
    are not always on the same side. Where no order of some puts every class on both sides, the
    groups are divided as `divided` does.
    """
    if groups is None:
        return stratified(labels, count, seed, names)
    sizes, number = _group_sizes(groups, labels, len(names))
    taken = _in_any_order(sizes, count, seed, names)
    mask = taken[number]
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def _group_sizes(
    groups: NDArray[np.str_], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.int64], Indices]:
    """Images of each group (row) in each class (column), and each image's row."""
    inside, number = np.unique(groups, return_inverse=True)
    sizes = np.zeros((len(inside), classes), dtype=np.int64)
    np.add.at(sizes, (number, labels), 1)
    return sizes, number


def _in_any_order(
    sizes: NDArray[np.int64], count: int, seed: tuple[int, int], names: Sequence[str]
) -> NDArray[np.bool_]:
    for attempt in range(MOST_ORDERS):
        with suppress(DataError):
            return _grouped(sizes, count, (*seed, attempt), names, large_first=False)
    return _grouped(sizes, count, seed[0], names)


def _parts(seed: Seed) -> tuple[int, ...]:
    return seed if isinstance(seed, tuple) else (seed,)


def _grouped(
    sizes: NDArray[np.int64],
    count: int,
    seed: Seed,
    names: Sequence[str],
    *,
    large_first: bool = True,
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
    random = np.random.default_rng((*_parts(seed), len(sizes)))
    order = random.permutation(len(sizes))
    if large_first:
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
                " without removing another class from one"
            )
        taken[fits[0]] = True
        have = have + sizes[fits[0]]
    return taken


def amount(wanted: int | float | None, labels: NDArray[np.int64], what: str) -> int:
    """Number of images from a count or a share, at least one of each class; None: a fifth.
    DataError: nothing or everything.
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

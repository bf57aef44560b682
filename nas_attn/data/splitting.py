"""Stratified splits, fixed by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.pixels import Indices
from nas_attn.errors import DataError


def stratified(
    labels: NDArray[np.int64], count: int, seed: int, names: Sequence[str] | None = None
) -> tuple[Indices, Indices]:
    """Takes `count` images so that every class keeps its share, and both parts have every class.

    Args:
        names: of the classes, for the message.

    Returns:
        Indices taken and indices left, each ascending.

    Raises:
        DataError: there are too few images for that.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2 or not len(classes) <= count <= len(labels) - len(classes):
        smallest = f" '{names[classes[sizes.argmin()]]}'" if names else ""
        raise DataError(
            f"cannot split {len(labels)} images of {len(classes)} classes into {count} and {len(labels) - count} with every "
            f"class in both: every class needs an image for each, and the smallest{smallest} has {sizes.min()}"
        )
    shares = sizes * count / len(labels)
    quota = np.clip(np.floor(shares).astype(np.int64), 1, sizes - 1)
    while quota.sum() != count:
        up = quota.sum() < count
        room = quota < sizes - 1 if up else quota > 1
        owed = np.where(room, (shares - quota) * (1 if up else -1), -np.inf)
        quota[np.argmax(owed)] += 1 if up else -1
    random = np.random.default_rng((seed, len(labels)))
    taken = [
        random.permutation(np.flatnonzero(labels == name))[:size] for name, size in zip(classes, quota, strict=True)
    ]
    mask = np.zeros(len(labels), dtype=bool)
    mask[np.concatenate(taken)] = True
    return np.flatnonzero(mask), np.flatnonzero(~mask)


def amount(wanted: int | float | None, labels: NDArray[np.int64], what: str) -> int:
    """How many images of these to take: a count, or a share of them, but one of each class; None: a fifth.

    Raises:
        DataError: nothing or everything would be taken.
    """
    share, total = 0.2 if wanted is None else wanted, len(labels)
    if isinstance(share, float):
        count = max(round(share * total), len(np.unique(labels)) if share > 0 else 0)
    else:
        count = share
    if not 0 < count < total:
        raise DataError(
            f"{what} = {wanted} would take {count} of {total} training images: give a count or a share between"
        )
    return count

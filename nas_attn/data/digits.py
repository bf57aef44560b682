"""Digits without a download: 1,797 handwritten ones, plain, or hidden among fragments of others.

They are those of scikit-learn (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998, CC BY 4.0).

A cluttered image shows one digit at a random place among pieces of other digits, so that it pays to look at the right
place (as in cluttered MNIST: Mnih et al., Recurrent Models of Visual Attention, 1406.6247). The source digits are
divided between train, validation and test first (2:1:1, stratified): no piece of a test digit is seen in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.splitting import stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe import DataSection

SIDE = 8
"""Side of a source digit in pixels."""
CLASSES = tuple(str(digit) for digit in range(10))
MASK_CLASSES = ("background", *CLASSES)
STROKE = 64
"""Brightness from which on a pixel of a source digit belongs to it."""
SPLITS = ("train", "validation", "test")
DEFAULTS = {"size": 20, "fragments": 14, "fragment_size": 4, "train": 6000, "validation": 5000, "test": 5000}
LIMITS = {
    "size": (SIDE, 128),
    "fragments": (0, 200),
    "fragment_size": (1, SIDE),
    "train": (20, 1_000_000),
    "validation": (20, 1_000_000),
    "test": (20, 1_000_000),
}
Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def cluttered(section: DataSection, _place: Place) -> Parts:
    """`digits`: generated from `section.options` and `section.seed`.

    Raises:
        DataError: an option is unknown or out of range.
    """
    refuse_validation(section)
    options = whole_numbers(section, DEFAULTS, LIMITS)
    sources = source_digits(section.seed)

    def make(split: str) -> Labelled:
        random = np.random.default_rng((section.seed, SPLITS.index(split)))
        images, labels = _scatter(*sources[split], options[split], options, random)
        return Labelled.of(images, labels)

    return Parts(make("train"), make("validation"), lambda: make("test"), CLASSES)


def masked(section: DataSection, _place: Place) -> Parts:
    """`digits` for segmentation: the same images; a mask has the digit's strokes, what covers them or not, and background.

    Raises:
        DataError: an option is unknown or out of range.
    """
    refuse_validation(section)
    options = whole_numbers(section, DEFAULTS, LIMITS)

    def make(split: str) -> Labelled:
        images, masks = draw_masked(section.seed, split, options)
        return Labelled.of(np.stack([images, masks], 1), np.zeros(len(images), dtype=np.int64))

    return Parts(make("train"), make("validation"), lambda: make("test"), MASK_CLASSES)


def draw_masked(seed: int, split: str, options: Mapping[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cluttered images (N, size, size) of a split, and as many masks with values of MASK_CLASSES."""
    sources = source_digits(seed)[split]
    random = np.random.default_rng((seed, SPLITS.index(split)))
    masks = np.zeros((options[split], options["size"], options["size"]), dtype=np.uint8)
    images, _ = _scatter(*sources, options[split], options, random, masks)
    return images, masks


def box_of(mask: NDArray[np.uint8]) -> tuple[float, float, float, float, float]:
    """Class (from 0), and centre, width and height of what a mask shows, as shares of the image."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    (top, bottom), (left, right) = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    height, width = mask.shape
    return (
        float(mask.max()) - 1,
        (left + right) / 2 / width,
        (top + bottom) / 2 / height,
        (right - left) / width,
        (bottom - top) / height,
    )


def plain(section: DataSection, _place: Place) -> Parts:
    """`digits-8x8`: the source digits as they are.

    Raises:
        DataError: options are given, of which there are none.
    """
    if section.options:
        raise DataError(
            f"data.options.{next(iter(section.options))} does not apply to 'digits-8x8', which has no options"
        )
    sources = source_digits(section.seed)

    def labelled(*splits: str) -> Labelled:
        images = np.concatenate([sources[split][0] for split in splits])
        return Labelled.of(images, np.concatenate([sources[split][1] for split in splits]))

    if section.validation is None:
        return Parts(labelled("train"), labelled("validation"), lambda: labelled("test"), CLASSES)
    return Parts(labelled("train", "validation"), None, lambda: labelled("test"), CLASSES)


@lru_cache(maxsize=2)
def source_digits(seed: int) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Split -> images (N, 8, 8) and labels (N,) of its source digits."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as shipped:
        images = np.round(shipped["images"] * (255 / 16)).astype(np.uint8)
        labels = shipped["labels"].astype(np.int64)
    others, train = stratified(labels, len(labels) // 2, seed)
    test, validation = stratified(labels[others], len(others) // 2, seed)
    index = {"train": train, "validation": others[validation], "test": others[test]}
    return {split: (images[index[split]], labels[index[split]]) for split in SPLITS}


def draw_sources(random: np.random.Generator, sources: int, count: int) -> NDArray[np.int64]:
    """int64 (count,): the source digit that is each image's label.

    Every one is used equally often, within one: fewer lucky and unlucky draws in the validation score.
    """
    return random.permutation(np.resize(random.permutation(sources), count))


def _scatter(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    count: int,
    options: Mapping[str, int],
    random: np.random.Generator,
    masks: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`count` cluttered images (count, size, size) and their labels; where things overlap, the brighter pixel shows.

    Args:
        masks: zeros (count, size, size), into which the digits to be found are drawn: label + 1 where a stroke is.
    """
    side, piece = options["size"], options["fragment_size"]
    chosen = draw_sources(random, len(images), count)
    canvas = np.zeros((count, side, side), dtype=np.uint8)
    place = _paste(canvas, images[chosen], random)
    if masks is not None:
        masks[place] = np.where(images[chosen] >= STROKE, labels[chosen, None, None] + 1, 0)
    for _ in range(options["fragments"]):
        # A piece comes from another source digit than the one to be found.
        other = (chosen + random.integers(1, len(images), count)) % len(images)
        corner = random.integers(0, SIDE - piece + 1, (count, 2))
        window = np.arange(piece)
        rows, columns = corner[:, :1] + window, corner[:, 1:] + window
        _paste(canvas, images[other[:, None, None], rows[:, :, None], columns[:, None, :]], random)
    return canvas, labels[chosen]


def _paste(canvas: NDArray[np.uint8], patches: NDArray[np.uint8], random: np.random.Generator) -> Window:
    """Lays one patch (N, h, h) on each canvas (N, size, size) at a random place, in place; returns where, as indices."""
    count, height = patches.shape[:2]
    corner = random.integers(0, canvas.shape[1] - height + 1, (count, 2))
    window = np.arange(height)
    place = (
        np.arange(count)[:, None, None],
        (corner[:, :1] + window)[:, :, None],
        (corner[:, 1:] + window)[:, None, :],
    )
    canvas[place] = np.maximum(canvas[place], patches)
    return place


def refuse_validation(section: DataSection) -> None:
    """Raises:
    DataError: `validation` is given, which a generated data set has no use for.
    """
    if section.validation is not None:
        raise DataError(
            f"data.validation does not apply to '{section.name}', whose images are generated: set data.options.validation"
        )


def whole_numbers(
    section: DataSection, defaults: Mapping[str, int], limits: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """All options of a generated data set, the given ones in their range (ends included).

    Raises:
        DataError: an option is unknown or out of range.
    """
    options = dict(defaults)
    for name, value in section.options.items():
        if name not in defaults:
            raise DataError(f"unknown option data.options.{name} of '{section.name}': {did_you_mean(name, defaults)}")
        low, high = limits[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise DataError(f"data.options.{name} must be a whole number from {low} to {high}, not {value!r}")
        options[name] = value
    return options

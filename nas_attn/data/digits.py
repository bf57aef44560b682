"""Digits without a download: 1,797 handwritten ones, plain, or hidden among fragments of others.

They are those of scikit-learn (Alpaydin and Kaynak, UCI 1998, CC BY 4.0), divided between train,
validation and test first (2:1:1). A cluttered image shows one digit at a random place among pieces
of others (as in cluttered MNIST: Mnih et al., 1406.6247). A cued image has two digits at the
bottom, one brighter and one darker than the ground. A bar along the top shows which of them is the
label: no unit of a small network sees both, but attention that pools the image early can carry the
cue to the digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from nas_attn.data.samples import Parts, Samples, detector_side
from nas_attn.data.splitting import stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Kind

DIGIT_SIDE = 8
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
# what holds of each digit
TAGS = {
    "even": [1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
    "above four": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    "by three": [1, 0, 0, 1, 0, 0, 1, 0, 0, 1],
}
# least brightness of a digit's pixels in a source image
STROKE = 64
DIGIT_SPLITS = ("train", "validation", "test")
MOST_IMAGES = 1_000_000
# option -> default, lowest and highest value
Ranges = Mapping[str, tuple[int, int, int]]
OPTIONS: Ranges = {
    "size": (20, DIGIT_SIDE, 128),
    "fragments": (14, 0, 200),
    "fragment_size": (4, 1, DIGIT_SIDE),
    "train": (6000, 20, MOST_IMAGES),
    "validation": (5000, 20, MOST_IMAGES),
    "test": (5000, 20, MOST_IMAGES),
}
Window = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def drawn(kind: Kind, section: DataSection) -> Parts:
    """Draws `digits`, one digit among fragments of others: with its class; with what holds of it,
    as several labels; with its value as a number; with a mask that has all of its strokes, covered
    ones too, and background; or, scaled to the detector's input, with its box.
    """
    options = chosen_options(section, OPTIONS)
    side = detector_side(section) if kind == "boxes" else 0

    def make(split: str) -> Samples:
        images, masks, labels = draw_masked(section.seed, split, options)
        if kind == "classes":
            return Samples.of(images, labels, DIGIT_NAMES)
        none = np.zeros_like(labels)
        if kind == "masks":
            return Samples.of(np.stack([images, masks], 1), none, ("background", *DIGIT_NAMES))
        if kind == "boxes":
            # uint8 stays
            larger = interpolate(torch.from_numpy(images)[:, None], (side, side), mode="bilinear")
            boxes = np.array([box_of(mask) for mask in masks], np.float64)[:, None]
            boxes[..., 1:] *= side / options["size"]
            scaled = larger.expand(-1, 3, -1, -1).numpy()
            return replace(Samples.of(scaled, none, DIGIT_NAMES), boxes=boxes.astype(np.float32))
        values = TAGS if kind == "tags" else {"digit": range(10)}
        targets = np.array(list(values.values()), np.float32).T[labels]
        return replace(Samples.of(images, none, list(values)), targets=targets)

    return generated(make)


cluttered = partial(drawn, "classes")
tagged = partial(drawn, "tags")
numbered = partial(drawn, "numbers")
masked = partial(drawn, "masks")
boxed = partial(drawn, "boxes")


def plain(section: DataSection) -> Parts:
    """Reads `digits-8x8`: the source digits as they are. Raises DataError: options are given."""
    no_options(section)
    sources = source_digits(section.seed)

    def labelled(*splits: str) -> Samples:
        images = np.concatenate([sources[split][0] for split in splits])
        labels = np.concatenate([sources[split][1] for split in splits])
        return Samples.of(images, labels, DIGIT_NAMES)

    if section.validation is None:
        return generated(labelled)
    return Parts(labelled("train", "validation"), None, lambda: labelled("test"))


def generated(make: Callable[[str], Samples]) -> Parts:
    """Returns the parts of a generated data set, by a function of the split's name."""
    return Parts(make("train"), make("validation"), lambda: make("test"))


def no_options(section: DataSection) -> None:
    """Raises DataError: options are given to a data set that has none."""
    for name in section.options:
        raise DataError(
            f"data.options.{name} does not apply to '{section.name}', which has no options"
        )


def chosen_options(section: DataSection, ranges: Ranges) -> dict[str, int]:
    """Returns all options of a generated data set. Raises DataError: one is unknown or out of
    range, or `data.validation` is given.
    """
    if section.validation is not None:
        raise DataError(
            f"data.validation does not apply to '{section.name}': set data.options.validation"
        )
    options = {name: default for name, (default, _, _) in ranges.items()}
    for name, value in section.options.items():
        if name not in ranges:
            raise DataError(
                f"unknown option data.options.{name} of '{section.name}':"
                f" {did_you_mean(name, ranges)}"
            )
        _, low, high = ranges[name]
        # not True
        if type(value) is not int or not low <= value <= high:
            raise DataError(
                f"data.options.{name} must be a whole number from {low} to {high}, not {value!r}"
            )
        options[name] = value
    return options


@lru_cache(maxsize=2)
def source_digits(seed: int) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Returns split -> images (N, 8, 8) and labels (N,) of its source digits."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as shipped:
        images = np.round(shipped["images"] * (255 / 16)).astype(np.uint8)
        labels = shipped["labels"].astype(np.int64)
    others, train = stratified(labels, len(labels) // 2, seed)
    test, validation = stratified(labels[others], len(others) // 2, seed)
    index = {"train": train, "validation": others[validation], "test": others[test]}
    return {split: (images[index[split]], labels[index[split]]) for split in DIGIT_SPLITS}


class Drawn:
    """Source digits of the images of a split."""

    def __init__(self, seed: int, split: str, count: int) -> None:
        """`count`: of the images."""
        self.images, self.labels = source_digits(seed)[split]
        self.random = np.random.default_rng((seed, DIGIT_SPLITS.index(split)))
        order = self.random.permutation(len(self.images))
        # int64 (count,): frequencies differ by at most one, for a fair validation
        self.chosen = self.random.permutation(np.resize(order, count))

    def others(self) -> NDArray[np.int64]:
        """Draws for each image another source digit than the one to be found."""
        sources = len(self.images)
        return (self.chosen + self.random.integers(1, sources, len(self.chosen))) % sources


def draw_masked(
    seed: int, split: str, options: Mapping[str, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    """Draws images (N, size, size) of a split, masks (0, or label + 1 at a stroke), labels (N,).
    The brighter pixel shows.
    """
    count = options[split]
    side = options["size"]
    piece = options["fragment_size"]
    drawn = Drawn(seed, split, count)
    found = drawn.images[drawn.chosen]
    labels = drawn.labels[drawn.chosen]
    canvas, masks = (np.zeros((count, side, side), dtype=np.uint8) for _ in range(2))
    place = _paste(canvas, found, drawn.random)
    masks[place] = np.where(found >= STROKE, labels[:, None, None] + 1, 0)
    for _ in range(options["fragments"]):
        other = drawn.others()
        corner = drawn.random.integers(0, DIGIT_SIDE - piece + 1, (count, 2))
        inside = window(corner[:, 0], corner[:, 1], piece)
        _paste(canvas, drawn.images[(other[:, None, None], *inside[1:])], drawn.random)
    return canvas, masks, labels


def box_of(mask: NDArray[np.uint8]) -> list[int]:
    """Returns a mask's digit as class (from 1), left, top, right and bottom in pixels."""
    rows, columns = np.nonzero(mask)
    inside = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return [int(value) for value in (mask.max(), *inside)]


def _paste(
    canvas: NDArray[np.uint8], patches: NDArray[np.uint8], random: np.random.Generator
) -> Window:
    """Lays one patch (N, h, h) on each canvas (N, size, size) at a random place, in place; returns
    where, as indices.
    """
    count, height = patches.shape[:2]
    corner = random.integers(0, canvas.shape[1] - height + 1, (count, 2))
    place = window(corner[:, 0], corner[:, 1], height)
    canvas[place] = np.maximum(canvas[place], patches)
    return place


def window(row: NDArray[np.int64], column: NDArray[np.int64], side: int) -> Window:
    """Returns the indices of a square in each of N images, whose upper left corners are at row and
    column (N,).
    """
    inside = np.arange(side)
    rows = row[:, None] + inside
    columns = column[:, None] + inside
    return np.arange(len(row))[:, None, None], rows[:, :, None], columns[:, None, :]


# pixels between the two digits; rows by which the pair may be above the bottom
GAP = 1
SHIFT_PIXELS = 1
# `cue`, `contrast`: of bar and digits to the ground; `noise`: deviation; up to 255
CUED_OPTIONS: Ranges = {
    "height": (24, DIGIT_SIDE + SHIFT_PIXELS + 1, 128),
    "width": (18, 2 * DIGIT_SIDE + GAP, 128),
    "bar": (4, 0, 64),
    "cue": (127, 0, 127),
    "contrast": (110, 1, 127),
    "noise": (6, 0, 127),
    **dict.fromkeys(DIGIT_SPLITS, (2000, 20, MOST_IMAGES)),
}
GROUND = 128


def cued(section: DataSection) -> Parts:
    """Draws `cued-digits`. Raises DataError: an option is unknown or out of range, or the bar would
    reach the digits.
    """
    options = chosen_options(section, CUED_OPTIONS)
    room = options["height"] - DIGIT_SIDE - SHIFT_PIXELS
    if options["bar"] > room:
        raise DataError(
            f"data.options.bar = {options['bar']} overlaps the digits: with data.options.height ="
            f" {options['height']} at most {room} rows are free"
        )
    return generated(lambda split: Samples.of(*_draw(section.seed, split, options), DIGIT_NAMES))


def _draw(
    seed: int, split: str, options: Mapping[str, int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, height, width) of one split and their labels."""
    count = options[split]
    height = options["height"]
    width = options["width"]
    drawn = Drawn(seed, split, count)
    other = drawn.others()
    random = drawn.random
    bright, left = random.integers(0, 2, (2, count)).astype(bool)
    ground = GROUND + random.normal(0.0, options["noise"], (count, height, width))
    row = height - DIGIT_SIDE - random.integers(0, SHIFT_PIXELS + 1, count)
    column = random.integers(0, width - 2 * DIGIT_SIDE - GAP + 1, count)
    strength = options["contrast"] / 255
    for source, light, first in ((drawn.chosen, bright, left), (other, ~bright, ~left)):
        sign = np.where(light, strength, -strength)[:, None, None]
        ground[window(row, column + np.where(first, 0, DIGIT_SIDE + GAP), DIGIT_SIDE)] += (
            sign * drawn.images[source]
        )
    ground[:, : options["bar"]] = (GROUND + np.where(bright, 1, -1) * options["cue"])[:, None, None]
    return np.clip(ground, 0, 255).astype(np.uint8), drawn.labels[drawn.chosen]

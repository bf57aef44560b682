"""Digits with a cue: two handwritten ones side by side, and far from them a bar that says which of the two is meant.

At the foot of a gray, noisy image stand two digits, one brighter than the ground and one darker; a white bar along the
top edge says that the bright one is the label, a black bar the dark one. No unit of a small network that sees the
digits sees the bar, and pooling at the end adds what would have to be multiplied: the bare network names one of the two.
Attention that pools the image early can carry the cue to the digits, so that its place decides, by tens of points.
As in `digits`, the source digits are divided between the splits first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import digits
from nas_attn.data.digits import MOST_IMAGES, SIDE
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection

GAP, JITTER = 1, 1
"""Pixels between the two digits; rows by which the pair may stand higher than at the foot."""
OPTIONS: digits.Ranges = {
    "height": (24, SIDE + JITTER + 1, 128),
    "width": (18, 2 * SIDE + GAP, 128),
    "bar": (4, 0, 64),
    "cue": (127, 0, 127),
    "contrast": (110, 1, 127),
    "noise": (6, 0, 127),
    "train": (2000, 20, MOST_IMAGES),
    "validation": (2000, 20, MOST_IMAGES),
    "test": (2000, 20, MOST_IMAGES),
}
"""`bar`: its rows; `cue`, `contrast`: how far bar and digits are from the ground; `noise`: standard deviation. Of 255."""
GROUND = 128


def cued(section: DataSection, _place: Place) -> Parts:
    """`cued-digits`.

    Raises:
        DataError: an option is unknown or out of range, or the bar would reach the digits.
    """
    options = digits.chosen_options(section, OPTIONS)
    room = options["height"] - SIDE - JITTER
    if options["bar"] > room:
        raise DataError(
            f"data.options.bar = {options['bar']} overlaps the digits: with data.options.height = {options['height']} "
            f"at most {room} rows are free"
        )
    return digits.generated(lambda split: Labelled.of(*_draw(section.seed, split, options)))


def _draw(seed: int, split: str, options: Mapping[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, height, width) of one split and their labels."""
    images, labels = digits.source_digits(seed)[split]
    count, height, width = options[split], options["height"], options["width"]
    random = np.random.default_rng((seed, digits.SPLITS.index(split)))
    meant = digits.draw_sources(random, len(images), count)
    other = (meant + random.integers(1, len(images), count)) % len(images)
    bright, left = random.integers(0, 2, (2, count)).astype(bool)
    ground = GROUND + random.normal(0.0, options["noise"], (count, height, width))
    row = height - SIDE - random.integers(0, JITTER + 1, count)
    column = random.integers(0, width - 2 * SIDE - GAP + 1, count)
    strength = options["contrast"] / 255
    for source, light, first in ((meant, bright, left), (other, ~bright, ~left)):
        sign = np.where(light, strength, -strength)[:, None, None]
        ground[digits.window(row, column + np.where(first, 0, SIDE + GAP), SIDE)] += sign * images[source]
    ground[:, : options["bar"]] = (GROUND + np.where(bright, 1, -1) * options["cue"])[:, None, None]
    return np.clip(ground, 0, 255).astype(np.uint8), labels[meant]

"""What differs between images with classes, with masks and with boxes when they are loaded."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from nas_attn import data_sets
from nas_attn.data.dataset import Split
from nas_attn.data.parts import Labelled
from nas_attn.data.pixels import moments
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, on the scale 0 to 1."""


class Classes:
    """Images with a class each."""

    name: ClassVar[data_sets.Kind] = "classes"

    def strata(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Names of what a split keeps the shares of."""
        return classes

    def check(self, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Raises:
        DataError: a class is missing from this split (`what`).
        """
        present = np.bincount(part.labels, minlength=len(classes))
        missing = [name for name, count in zip(classes, present, strict=True) if not count]
        if missing:
            raise DataError(
                f"{what} has no image of class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing)"
            )

    def input_shape(self, part: Labelled) -> tuple[int, int, int]:
        """(C, H, W) of what a network is fed."""
        return part.pixels.shape

    def statistics(self, train: Labelled, section: DataSection) -> Statistics:
        """What images are normalised with: of the training split, or as the recipe says."""
        channels = self.input_shape(train)[0]
        if section.mean is None or section.std is None:
            return moments(train.pixels.histogram()[:channels])
        if len(section.mean) != channels or len(section.std) != channels:
            raise DataError(
                f"data.mean and data.std have {len(section.mean)} and {len(section.std)} values, "
                f"but '{section.name}' has {channels} channels"
            )
        return tuple(section.mean), tuple(section.std)

    def split(self, part: Labelled, place: torch.device, classes: int, statistics: Statistics) -> Split:
        """The images on a device."""
        return Split(part.pixels.to(place), torch.from_numpy(part.labels).to(place), classes, *statistics)

"""Splits whose images have a class at each pixel. A mask is the last channel of its image as stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Split
from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.data.loading import Classes, Statistics
from nas_attn.data.parts import Labelled
from nas_attn.errors import DataError


class MaskedSplit(Split):
    """Images with masks; `labels` are zeros and say nothing, y of a batch is int64 (B, H, W)."""

    masked = True

    def first(self, count: int) -> Tensor:
        """The first images as stored: uint8 (count, C, H, W) on the device."""
        return super().first(count)[:, :-1]

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order, as stored: uint8 (B, C, H, W), and their masks int64 (B, H, W)."""
        for both in self.pixels.fetch(torch.split(torch.arange(len(self), device=self.device), batch_size)):
            yield both[:, :-1], both[:, -1].long()

    def _augmented(self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """A mask is mirrored and cropped along with its image."""
        x, _ = super()._augmented(plan, number, mirrored[:, :-1], y)
        return x, plan.apply_mask(number, mirrored[:, -1:])


class Masks(Classes):
    """Images with a class for each pixel."""

    name = "masks"

    def strata(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        return ("image",)

    def check(self, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Validation and test may lack a class, which then does not count; training may not."""
        if not what.startswith("training"):
            return
        pixels = part.pixels.histogram()[-1]
        missing = [name for number, name in enumerate(classes) if not pixels[number]]
        if missing:
            raise DataError(
                f"{what} has no pixel of class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing): a mask's "
                f"values are class numbers, 0 to {len(classes) - 1}, and {NOT_COUNTED} is not counted"
            )

    def input_shape(self, part: Labelled) -> tuple[int, int, int]:
        channels, height, width = part.pixels.shape
        return channels - 1, height, width

    def split(self, part: Labelled, place: torch.device, classes: int, statistics: Statistics) -> Split:
        return MaskedSplit(part.pixels.to(place), torch.from_numpy(part.labels).to(place), classes, *statistics)

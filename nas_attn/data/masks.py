"""Splits whose images have a class at each pixel. A mask is the last channel of its image as stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Split


class MaskedSplit(Split):
    """Images with masks; `labels` are zeros and say nothing, y of a batch is int64 (B, H, W)."""

    def first(self, count: int) -> Tensor:
        """The first images as stored: uint8 (count, C, H, W) on the device."""
        return super().first(count)[:, :-1]

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order, as stored: uint8 (B, C, H, W), and their masks int64 (B, H, W)."""
        for both in self.pixels.fetch(torch.split(torch.arange(len(self), device=self.device), batch_size)):
            yield both[:, :-1], both[:, -1].long()

    def _augmented(self, plan: EpochPlan, number: int, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """A mask is mirrored and cropped along with its image."""
        x, _ = super()._augmented(plan, number, mirrored[:, :-1])
        return x, plan.apply_mask(number, mirrored[:, -1:])

"""Splits whose images have a class at each pixel. A mask is the last channel of its image as stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Split
from nas_attn.recipe import AugmentSection


class MaskedSplit(Split):
    """Images with masks; `labels` are zeros and say nothing, y of a batch is int64 (B, H, W)."""

    def first(self, count: int) -> Tensor:
        """The first images as stored: uint8 (count, C, H, W) on the device."""
        return super().first(count)[:, :-1]

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order, as stored: uint8 (B, C, H, W), and their masks int64 (B, H, W)."""
        for both in self.pixels.fetch(torch.split(torch.arange(len(self), device=self.device), batch_size)):
            yield both[:, :-1], both[:, -1].long()

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        augment: AugmentSection,
        first_batch: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As of any split; a mask is mirrored and cropped along with its image, y int64 (B, H, W)."""
        channels, height, width = self.pixels.shape
        plan = EpochPlan.draw(
            len(self), batch_size, (height, width), augment, seed=seed, epoch=epoch, device=self.device
        )
        plan = plan if part == (0, 1) else plan.part(*part)
        for number, stored in enumerate(self.pixels.fetch(plan.batches[first_batch:]), first_batch):
            both = plan.mirror(number, stored)
            x, _ = plan.apply(number, self._normalised(both[:, :-1]), self.labels[plan.batches[number]], self.classes)
            yield x, plan.apply_mask(number, both[:, channels - 1 :])

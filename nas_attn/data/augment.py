"""Batched augmentation, decided for a whole epoch at once and applied to normalised batches on the device.

All of an epoch's random decisions are a function of (seed, epoch): they are the same for every candidate and on every
device, and an epoch can be taken up again at any batch. Pixels that come from nowhere (beside the padded image, inside
a cut-out square) are the mean colour: 0 after normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.recipe import BATCHED, Augment


@dataclass(frozen=True)
class EpochPlan:
    """One epoch's order and random decisions. Tensors over images are in training order."""

    count: int
    batches: tuple[Tensor, ...]
    """Index batches, int64."""
    mirrored: Tensor | None
    """bool (N,)."""
    corner: Tensor | None
    """int64 (N, 2): row and column at which the crop starts in the padded image, mirrored or not."""
    padding: int
    seed: tuple[int, int]
    """Of the epoch, for what decides each image by itself."""
    blend: tuple[float, ...] | None
    """Per batch, the share of the image itself in mixup (Zhang et al., 1710.09412)."""

    @classmethod
    def draw(
        cls,
        count: int,
        batch_size: int,
        augment: Sequence[Augment],
        *,
        seed: int,
        epoch: int,
        device: torch.device,
    ) -> EpochPlan:
        """Decides one epoch over `count` images, in nearly equal batches of at most `batch_size`.

        Nearly equal, so that every image is seen once and no small batch disturbs the batch statistics.
        """
        asked: dict[str, dict[str, Any]] = {one.name: one.arguments for one in augment if one.name in BATCHED}
        random = np.random.default_rng((seed, epoch))
        order = torch.from_numpy(random.permutation(count)).to(device)
        batches = torch.tensor_split(order, -(-count // batch_size))

        def coordinates(low: int, high: tuple[int, int]) -> Tensor:
            return torch.from_numpy(random.integers(low, high, (count, 2))).to(device)

        flip = torch.from_numpy(random.random(count) < 0.5).to(device) if "flip" in asked else None
        padding = int(asked.get("crop", {}).get("padding", 0))
        corner = coordinates(0, (2 * padding + 1, 2 * padding + 1)) if padding else None
        if corner is not None and flip is not None:  # drawn for the image before it is mirrored
            corner[:, 1] = torch.where(flip, 2 * padding - corner[:, 1], corner[:, 1])
        alpha = asked.get("mixup", {}).get("alpha", 0.0)
        blend = tuple(random.beta(alpha, alpha, len(batches)).tolist()) if alpha else None
        return cls(count, batches, flip, corner, padding, (seed, epoch), blend)

    def drawn(self, first: int) -> list[list[tuple[int, int]]]:
        """Per batch from `first` on, each image's index and the seed of its own random decisions."""
        seeds = np.random.default_rng((*self.seed, 1)).integers(0, 2**62, self.count).tolist()
        rows = [self._rows(number) for number in range(first, len(self.batches))]
        return [
            list(zip(index.tolist(), seeds[at], strict=True))
            for index, at in zip(self.batches[first:], rows, strict=True)
        ]

    def mirror(self, number: int, images: Tensor) -> Tensor:
        """Mirrors those of batch `number` that are to be: uint8 (B, C, H, W), where a mirrored image costs least."""
        if self.mirrored is None:
            return images
        rows = images.permute(0, 2, 3, 1)
        choice = torch.arange(len(images), device=images.device) + len(images) * self.mirrored[self._rows(number)]
        return torch.cat([rows, rows.flip(2)]).index_select(0, choice).permute(0, 3, 1, 2)

    def apply(self, number: int, x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Crops and mixes batch `number`, mirrored already.

        Args:
            x: float32 (B, C, H, W), normalised.
            y: int64 (B,).

        Returns:
            x of the same shape, and y: int64 (B,), or float32 (B, classes) shares with mixup.
        """
        rows = self._rows(number)
        if self.corner is not None:
            x = _crop(x, self.corner[rows], self.padding)
        if self.blend is None:
            return x, y
        share = self.blend[number]
        shares = one_hot(y, classes).to(x.dtype)
        return torch.lerp(x.roll(1, 0), x, share), torch.lerp(shares.roll(1, 0), shares, share)

    def apply_mask(self, number: int, mask: Tensor) -> Tensor:
        """The masks of batch `number`, mirrored already, cropped as their images; beside an image nothing is counted.

        Args:
            mask: uint8 (B, 1, H, W).

        Returns:
            int64 (B, H, W).
        """
        if self.corner is None:
            return mask[:, 0].long()
        cropped = _crop(mask.float() - NOT_COUNTED, self.corner[self._rows(number)], self.padding) + NOT_COUNTED
        return cropped[:, 0].long()

    def apply_boxes(self, number: int, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """The boxes of batch `number`, mirrored and cropped as their images; one that is left without a surface is none.

        Args:
            boxes: float32 (B, M, 5): class, left, top, right, bottom in pixels of images of `size` (H, W); class 0: none.
        """
        rows, (height, width) = self._rows(number), size
        label, left, top, right, bottom = boxes.unbind(2)
        if self.mirrored is not None:
            turned = self.mirrored[rows][:, None]
            left, right = torch.where(turned, width - right, left), torch.where(turned, width - left, right)
        if self.corner is not None:
            down, across = ((self.padding - self.corner[rows]).to(boxes.dtype)[:, i, None] for i in (0, 1))
            left, right = ((side + across).clamp(0, width) for side in (left, right))
            top, bottom = ((side + down).clamp(0, height) for side in (top, bottom))
        label = torch.where((left < right) & (top < bottom), label, 0)
        return torch.stack([label, left, top, right, bottom], 2) * (label != 0)[..., None]

    def _rows(self, number: int) -> slice:
        """The images of batch `number` in training order."""
        size, larger = divmod(self.count, len(self.batches))
        start = number * size + min(number, larger)
        return slice(start, start + size + (number < larger))


def _crop(x: Tensor, corner: Tensor, padding: int) -> Tensor:
    """Padded random crop; the result lies in channels-last order.

    Each row of the result is a run of floats in the padded images: copied as a whole, a tenth of the time of a gather.
    """
    batch, channels, height, width = x.shape
    padded = pad(x, (padding,) * 4).permute(0, 2, 3, 1).contiguous()
    high, wide = height + 2 * padding, width + 2 * padding
    runs = padded.as_strided((batch * high * wide - width + 1, width * channels), (channels, 1))
    images = torch.arange(batch, device=x.device) * high
    down = torch.arange(height, device=x.device) * wide
    begins = ((images + corner[:, 0]) * wide + corner[:, 1])[:, None] + down
    return runs.index_select(0, begins.flatten()).view(batch, height, width, channels).permute(0, 3, 1, 2)

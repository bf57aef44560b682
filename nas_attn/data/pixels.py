"""Images as uint8 tensors, held in memory: the usual case.

Shapes: N images, B of a batch, C channels, H height, W width. For a segmentation each image's mask is its last channel:
then both are kept, fetched, mirrored and decoded together (`data.masks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


class Pixels(Protocol):
    """N images of one shape, wherever they are kept."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    def __len__(self) -> int: ...

    def item(self, index: int) -> Tensor:
        """One image: uint8 (C, H, W), on the CPU."""

    def subset(self, index: Indices) -> Pixels:
        """The images at these indices, in this order."""

    def to(self, device: torch.device) -> Pixels:
        """The same images, whose batches come on this device."""

    def histogram(self) -> NDArray[np.int64]:
        """(C, 256): how often each value occurs in each channel."""

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (B, C, H, W) on the device for each of these index batches (int64, on the device)."""


class InMemory:
    """Images in one uint8 tensor on one device, in channels-last order."""

    def __init__(self, images: Tensor) -> None:
        """Args:
        images: uint8 (N, C, H, W), in any order in memory.
        """
        self._rows = images.permute(0, 2, 3, 1).contiguous()

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._rows.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> Tensor:
        return self._rows[index].permute(2, 0, 1)

    def subset(self, index: Indices) -> InMemory:
        return InMemory(self._batch(torch.from_numpy(index).to(self._rows.device)))

    def to(self, device: torch.device) -> InMemory:
        return InMemory(self._rows.to(device).permute(0, 3, 1, 2))

    def histogram(self) -> NDArray[np.int64]:
        counts = [torch.bincount(self._rows[..., c].flatten(), minlength=256) for c in range(self.shape[0])]
        return torch.stack(counts).cpu().numpy().astype(np.int64)

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        for index in batches:
            yield self._batch(index)

    def _batch(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, index).permute(0, 3, 1, 2)


def moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the scale 0 to 1; a constant channel has deviation 1."""
    values = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = share @ values**2 - mean**2
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 1e-12)), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())

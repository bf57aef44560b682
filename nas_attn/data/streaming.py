"""Images that do not fit into memory: decoded anew in every epoch by torch's DataLoader workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nas_attn.data.decoding import Source, channels_of, decode
from nas_attn.data.pixels import Indices, InMemory

HISTOGRAM_IMAGES = 5000
"""Mean and deviation are taken from this many images, evenly spaced."""


@dataclass(frozen=True)
class Streamed:
    """Image files, already checked, of which batches come as uint8 (B, 3, size, size), or (B, 4, size, size) with masks."""

    paths: tuple[Source, ...]
    size: int
    workers: int
    device: torch.device

    @property
    def shape(self) -> tuple[int, int, int]:
        return channels_of(self.paths), self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, index: Indices) -> Streamed:
        return replace(self, paths=tuple(self.paths[i] for i in index))

    def to(self, device: torch.device) -> Streamed:
        return replace(self, device=device)

    def histogram(self) -> NDArray[np.int64]:
        sample = np.linspace(0, len(self) - 1, min(len(self), HISTOGRAM_IMAGES)).round().astype(np.int64)
        batches = torch.split(torch.from_numpy(sample), 256)
        found = (InMemory(images).histogram() for images in self.fetch(batches))
        return sum(found, np.zeros((self.shape[0], 256), np.int64))

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        self._feed.order.batches = [index.tolist() for index in batches]
        for images in self._feed.loader:
            yield images.to(self.device, non_blocking=True)

    @cached_property
    def _feed(self) -> _Feed:
        return _Feed(self)


class _Feed:
    """A DataLoader whose workers stay alive from epoch to epoch while the order changes."""

    def __init__(self, pixels: Streamed) -> None:
        self.order = _Order()
        self.loader: DataLoader[Tensor] = DataLoader(
            _Decoder(pixels.paths, pixels.size),
            batch_sampler=self.order,
            num_workers=pixels.workers,
            pin_memory=pixels.device.type == "cuda",
            persistent_workers=True,
        )


class _Order:
    """The index batches of the epoch that comes."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Decoder(TorchDataset[Tensor]):
    """One decoded image per index."""

    def __init__(self, paths: tuple[Source, ...], size: int) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(decode(self.paths[index], self.size)))

"""Images that processes prepare while the network trains: files decoded anew in every epoch, and images transformed one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nas_attn.data.pixels import Indices, InMemory

HISTOGRAM_IMAGES = 5000
"""Mean and deviation are taken from this many images, evenly spaced."""


class Feed:
    """A DataLoader whose workers stay alive from epoch to epoch while the order changes."""

    def __init__(self, item: Callable[[Any], Any], workers: int, *, pinned: bool = False, stacked: bool = True) -> None:
        """Args:
        item: what a worker makes of one entry of a batch.
        stacked: whether items become tensors of a batch; else a batch is a list of items.
        """
        self._order = _Order()
        self._loader: DataLoader[Any] = DataLoader(
            _Items(item),
            batch_sampler=self._order,
            num_workers=workers,
            pin_memory=pinned,
            persistent_workers=True,
            collate_fn=None if stacked else list,
        )

    def __call__(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """The items of these batches, stacked."""
        self._order.batches = list(batches)
        return iter(self._loader)


class _Order:
    """The batches of the epoch that comes."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Items(TorchDataset[Any]):
    def __init__(self, item: Callable[[Any], Any]) -> None:
        self._item = item

    def __getitem__(self, entry: Any) -> Any:
        return self._item(entry)


@dataclass(frozen=True)
class Streamed:
    """Images, already checked, that are read anew in every epoch."""

    entries: tuple[Any, ...]
    read: Callable[[Any], NDArray[np.uint8]]
    """An entry's image, (C, H, W), with its mask as the last channel."""
    shape: tuple[int, int, int]
    workers: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.entries)

    def item(self, index: int) -> Tensor:
        return _tensor(self.entries, self.read, index)

    def subset(self, index: Indices) -> Streamed:
        return replace(self, entries=tuple(self.entries[i] for i in index))

    def to(self, device: torch.device) -> Streamed:
        return replace(self, device=device)

    def histogram(self) -> NDArray[np.int64]:
        sample = np.linspace(0, len(self) - 1, min(len(self), HISTOGRAM_IMAGES)).round().astype(np.int64)
        batches = torch.split(torch.from_numpy(sample), 256)
        found = (InMemory(images).histogram() for images in self.fetch(batches))
        return sum(found, np.zeros((self.shape[0], 256), np.int64))

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        for images in self._feed(index.tolist() for index in batches):
            yield images.to(self.device, non_blocking=True)

    @cached_property
    def _feed(self) -> Feed:
        return Feed(partial(_tensor, self.entries, self.read), self.workers, pinned=self.device.type == "cuda")


def _tensor(entries: tuple[Any, ...], read: Callable[[Any], NDArray[np.uint8]], index: int) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(read(entries[index])))

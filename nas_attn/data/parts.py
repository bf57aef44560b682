"""What a source of images hands over before it is split, normalised and put on a device; images in memory, or read as needed.

Shapes: N images, B of a batch, C channels, H height, W width. For a segmentation each image's mask is its last channel:
then both are kept, fetched, mirrored and decoded together.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nas_attn.records import ALONE, Share

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
        """`images`: uint8 (N, C, H, W), in any order in memory."""
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


HISTOGRAM_IMAGES = 5000  # mean and deviation are taken from this many images, evenly spaced


class Feed:
    """A DataLoader whose workers stay alive from epoch to epoch while the order changes."""

    def __init__(self, item: Callable[[Any], Any], workers: int, *, pinned: bool = False, stacked: bool = True) -> None:
        """`item` is what a worker makes of one entry of a batch; stacked they become tensors, else a list."""
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
    read: Callable[[Any], NDArray[np.uint8]]  # an entry's image, (C, H, W), with its mask as the last channel
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


@dataclass(frozen=True)
class Place:
    """Where images go."""

    device: torch.device
    share: Share = ALONE
    """With how many workers its memory is shared: that decides whether the images of files are held in it."""


@dataclass(frozen=True)
class Labelled:
    """Images, their labels, and what tells one image from another."""

    pixels: Pixels
    labels: NDArray[np.int64]  # (N,), indices into the classes
    identity: NDArray[np.int64]  # (N,), a checksum of each image, or of its file's name and size
    groups: NDArray[np.str_] | None = None
    """(N,), images of one group stand on one side of a split; None: each is its own."""
    boxes: NDArray[np.float32] | None = None
    """(N, M, 5), of images with boxes (`coco.Boxes`); zeros where an image has fewer than M."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Self:
        """From an array (N, C, H, W) or (N, H, W)."""
        images = np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)
        identity = np.fromiter((zlib.crc32(image.data) for image in images), np.int64, len(images))
        return cls(InMemory(torch.from_numpy(images)), labels, identity)

    def subset(self, index: Indices) -> Labelled:
        groups = None if self.groups is None else self.groups[index]
        boxes = None if self.boxes is None else self.boxes[index]
        return Labelled(self.pixels.subset(index), self.labels[index], self.identity[index], groups, boxes)


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they are asked for."""

    train: Labelled
    validation: Labelled | None  # None: to be taken from `train`
    test: Callable[[], Labelled]
    classes: tuple[str, ...]
    missing_test: str = ""  # why there is no test split, with the way out; empty where there is one

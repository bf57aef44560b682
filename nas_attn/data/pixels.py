"""Decoded images, in memory or mapped from a file; workers that load them.

Shapes: N images, B of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from nas_attn.data.cache import Scratch
from nas_attn.errors import DataError
from nas_attn.system.paths import whole_file

CPU = torch.device("cpu")
Indices = NDArray[np.int64]
# images that are decoded before they are written
DECODED_TOGETHER = 256
# mean and deviation come from images of so many bytes, evenly spaced
HISTOGRAM_BYTES = 2**28


@dataclass(frozen=True)
class Images:
    """Images of a tensor, in memory or mapped from a file, of which some rows are used: bytes, or
    float32 of bands with more bits.
    """

    # (n, H, W, C); before `scratch`, so that the file is closed before it is removed, as Windows
    # wants it
    rows: Tensor
    # int64 (N,), on the device of the rows
    index: Tensor
    # where batches go
    device: torch.device = CPU
    # the mapped file, `.npy`: the system keeps as many images in memory as fit
    path: Path | None = None
    # if the file is removed after its last use
    scratch: Scratch | None = None
    # on a GPU, the images that are used all go into its memory
    held: bool = True

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """Takes images (N, C, H, W), in any order in memory."""
        rows = images.permute(0, 2, 3, 1).contiguous()
        return cls(rows, torch.arange(len(rows), device=rows.device), rows.device)

    @classmethod
    def mapped(
        cls,
        path: Path,
        index: Tensor | None = None,
        scratch: Scratch | None = None,
    ) -> Self:
        """Opens a file of images. Raises OSError, ValueError: it does not exist, or is
        incomplete.
        """
        rows = torch.from_numpy(np.load(path, mmap_mode="c"))
        index = torch.arange(len(rows)) if index is None else index
        return cls(rows, index, CPU, path, scratch, held=False)

    def __reduce__(self) -> Any:
        if self.path is None:
            return Images, (self.rows, self.index, self.device)
        # a process that loads images opens the file itself
        return Images.mapped, (self.path, self.index, self.scratch)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        height, width, channels = self.rows.shape[1:]
        return channels, height, width

    @property
    def deep(self) -> bool:
        """Whether they are float32, and not bytes."""
        return self.rows.dtype != torch.uint8

    def __len__(self) -> int:
        return len(self.index)

    def item(self, index: int) -> Tensor:
        return self.rows[self.index[index]].permute(2, 0, 1)

    def subset(self, index: Indices) -> Self:
        chosen = self.index[torch.from_numpy(index).to(self.index.device)]
        return replace(self, index=chosen)

    def to(self, device: torch.device) -> Self:
        """Returns the images for batches on a device."""
        if device.type == self.rows.device.type or not self.held:
            return replace(self, device=self.rows.device if self.held else device)
        return self.of(self._batch(torch.arange(len(self), device=self.index.device)).to(device))

    def histogram(self, *, every: bool = False) -> NDArray[np.int64]:
        """Returns the frequency of each value in each channel, (C, 256); of a part of the images if
        they are many, unless `every`. Of float32, only that of masks means something.
        """
        counts = torch.zeros(self.shape[0], 256, dtype=torch.int64)
        for images in self._sampled(every):
            values = images.clamp(0, 255).long() if self.deep else images
            for number, channel in enumerate(values.unbind(1)):
                counts[number] += torch.bincount(channel.flatten(), minlength=256).cpu()
        return counts.numpy()

    def moments(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and standard deviation of the first channels, on the scale 0 to 1, without
        NaN; a constant channel has deviation 1. Of a part of the images if they are many.
        """
        if self.deep:
            total = np.zeros((3, channels))
            for images in self._sampled():
                bands = images[:, :channels].double().cpu().numpy() / 255
                known = ~np.isnan(bands)
                bands[~known] = 0
                total += np.stack([each.sum((0, 2, 3)) for each in (bands, bands**2, known)])
            mean, square = total[:2] / total[2].clip(min=1)
        else:
            values = np.arange(256) / 255.0
            counts = self.histogram()[:channels]
            share = counts / counts.sum(axis=1, keepdims=True)
            mean = share @ values
            square = share @ values**2
        variance = square - mean**2
        std = np.where(variance > 1e-12 * square, np.sqrt(variance.clip(min=0)), 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())

    def _sampled(self, every: bool = False) -> Iterator[Tensor]:
        """Evenly spaced images, enough to tell mean and deviation."""
        most = max(DECODED_TOGETHER, HISTOGRAM_BYTES // math.prod(self.shape))
        count = len(self) if every else min(len(self), most)
        places = np.linspace(0, len(self) - 1, count).round()
        index = torch.from_numpy(places.astype(np.int64))
        return self.fetch(torch.split(index, DECODED_TOGETHER))

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields (B, C, H, W) on the device for each of these index batches (int64). Of a file, the
        next batch is read while the last one is processed.
        """
        if self.path is None:
            yield from map(self._batch, batches)
            return
        if self.scratch is not None:
            self.scratch.renew()
        # all at once, so that no batch waits for a device
        waiting = [index.cpu() for index in batches]
        coming: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1) as reader:
            for index in waiting:
                coming.append(reader.submit(self._read, index))
                if len(coming) > 1:
                    yield coming.popleft().result().to(self.device, non_blocking=True)
            for last in coming:
                yield last.result().to(self.device, non_blocking=True)

    def _read(self, index: Tensor) -> Tensor:
        images = self._batch(index)
        return images.pin_memory() if self.device.type == "cuda" else images

    def _batch(self, index: Tensor) -> Tensor:
        return self.rows.index_select(0, self.index[index]).permute(0, 3, 1, 2)


@contextmanager
def images_file(
    path: Path,
    count: int,
    shape: tuple[int, int, int],
    dtype: type[np.uint8 | np.float32] = np.uint8,
) -> Iterator[Callable[[NDArray[Any]], object]]:
    """Writes a file for `Images.mapped`, image after image (C, H, W). An incomplete file is not
    kept. OSError: it cannot be written.
    """
    channels, height, width = shape
    header = {
        "descr": np.dtype(dtype).str,
        "fortran_order": False,
        "shape": (count, height, width, channels),
    }
    with whole_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda image: file.write(np.ascontiguousarray(image.transpose(1, 2, 0)).data)


class Feed:
    """A DataLoader whose workers stay alive from epoch to epoch while the order changes."""

    def __init__(
        self,
        items: Any,
        workers: int,
        *,
        pinned: bool = False,
        joined: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        """`items` gives one for an entry of a batch, in a worker; `joined`: a batch of them."""
        self._order: list[list[Any]] = []
        workers = workers if _reaches_workers(items) else 0
        self._loader: DataLoader[Any] = DataLoader(
            items,
            batch_sampler=self._order,
            num_workers=workers,
            pin_memory=pinned,
            persistent_workers=workers > 0,
            collate_fn=joined,
        )

    def __call__(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """The items of these batches, joined. Raises DataError: that of an item."""
        self._order[:] = batches
        try:
            yield from self._loader
        except DataError as error:
            # a worker's comes with a traceback, which it ends
            raise DataError(str(error).strip().rpartition(f"{DataError.__name__}: ")[2]) from error


def _reaches_workers(items: object) -> bool:
    """Whether they can be sent to worker processes: always to forked ones, to others only if they
    can be pickled (no lambda).
    """
    if multiprocessing.get_start_method() == "fork":
        return True
    try:
        ForkingPickler.dumps(items)
    except (PicklingError, AttributeError, TypeError):
        return False
    return True

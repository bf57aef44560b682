"""Decoded images, in memory or mapped from a file; workers that load them.

Shapes: N images, B of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from nas_attn.data.cache import Scratch
from nas_attn.errors import DataError
from nas_attn.system.paths import whole_file

CPU = torch.device("cpu")
Indices = NDArray[np.int64]


class InMemory:
    """Images in one tensor on one device, in channels-last order: bytes, or float32 of bands with
    more bits.
    """

    def __init__(self, images: Tensor) -> None:
        """`images`: uint8 or float32 (N, C, H, W), in any order in memory."""
        self._rows = images.permute(0, 2, 3, 1).contiguous()

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._rows.shape[1:]
        return channels, height, width

    @property
    def deep(self) -> bool:
        """Whether they are float32, and not bytes."""
        return self._rows.dtype != torch.uint8

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> Tensor:
        return self._rows[index].permute(2, 0, 1)

    def subset(self, index: Indices) -> InMemory:
        return InMemory(self._batch(torch.from_numpy(index).to(self._rows.device)))

    def to(self, device: torch.device) -> InMemory:
        return InMemory(self._rows.to(device).permute(0, 3, 1, 2))

    def histogram(
        self,
        *,
        every: bool = False,  # noqa: ARG002 - here it is always of all
    ) -> NDArray[np.int64]:
        """Returns the frequency of each value in each channel, (C, 256); of a part of the images if
        they are many, unless `every`. Of float32, only that of masks means something.
        """
        rows = self._rows.clamp(0, 255).long() if self.deep else self._rows
        counts = [
            torch.bincount(rows[..., c].flatten(), minlength=256) for c in range(self.shape[0])
        ]
        return torch.stack(counts).cpu().numpy().astype(np.int64)

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields uint8 (B, C, H, W) on the device for each of these index batches (int64, on the
        device).
        """
        for index in batches:
            yield self._batch(index)

    def _batch(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, index).permute(0, 3, 1, 2)


def moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation per channel, on the scale 0 to 1; a constant channel has
    deviation 1.
    """
    values = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = share @ values**2 - mean**2
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 1e-12)), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def bands_moments(images: Pixels, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the same as `moments` for float32, of values divided by 255, without NaN; of a part
    of the images if they are many.
    """
    sample = _sample(images)
    total = torch.zeros(3, channels, dtype=torch.float64)
    for batch in images.fetch(torch.split(torch.from_numpy(sample), 256)):
        values = batch[:, :channels].double().cpu() / 255
        known = values.isnan().logical_not()
        values = values.nan_to_num(nan=0.0)
        total += torch.stack([one.sum((0, 2, 3)) for one in (values, values.square(), known)])
    mean, square = total[:2] / total[2].clamp(min=1)
    variance = square - mean**2
    std = torch.where(variance > 1e-12 * square, variance.clamp(min=0).sqrt(), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def _sample(images: Pixels) -> Indices:
    """Which images tell mean and deviation."""
    largest = max(DECODED_TOGETHER, HISTOGRAM_BYTES // math.prod(images.shape))
    count = min(len(images), largest)
    return np.linspace(0, len(images) - 1, count).round().astype(np.int64)


# images that are decoded before they are written
DECODED_TOGETHER = 256
# mean and deviation come from images of so many bytes, evenly spaced
HISTOGRAM_BYTES = 2**28


class Feed:
    """A DataLoader whose workers stay alive from epoch to epoch while the order changes."""

    def __init__(
        self,
        item: Callable[[Any], Any],
        workers: int,
        *,
        pinned: bool = False,
        stacked: bool = True,
    ) -> None:
        """`item` converts one entry of a batch, in a worker; `stacked`: results become tensors,
        else a list. Its DataError is raised here as it is.
        """
        self._order: list[list[Any]] = []
        workers = workers if _reaches_workers(item) else 0
        self._loader: DataLoader[Any] = DataLoader(
            _Items(item),
            batch_sampler=self._order,
            num_workers=workers,
            pin_memory=pinned,
            persistent_workers=workers > 0,
            collate_fn=partial(_batched, default_collate if stacked else list),
        )

    def __call__(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """The items of these batches, stacked."""
        self._order[:] = batches
        return _unless_wrong(iter(self._loader))


@dataclass(frozen=True)
class _Wrong:
    """What a worker says of a wrong item: an error that it raises would come with a traceback."""

    message: str


def _batched(join: Callable[[list[Any]], Any], items: list[Any]) -> Any:
    """The items of a batch, joined; or what is wrong with the first that is."""
    return next((item for item in items if isinstance(item, _Wrong)), None) or join(items)


def _unless_wrong(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, _Wrong):
            raise DataError(batch.message)
        yield batch


def _reaches_workers(item: Callable[[Any], Any]) -> bool:
    """Whether it can be sent to worker processes: always to forked ones, to others only if it can
    be pickled (no lambda).
    """
    if multiprocessing.get_start_method() == "fork":
        return True
    try:
        ForkingPickler.dumps(item)
    except (PicklingError, AttributeError, TypeError):
        return False
    return True


class _Items(TorchDataset[Any]):
    def __init__(self, item: Callable[[Any], Any]) -> None:
        self._item = item

    def __getitem__(self, entry: Any) -> Any:
        try:
            return self._item(entry)
        except DataError as error:
            return _Wrong(str(error))


class ImagesFile:
    """A file of images, `.npy` of (N, H, W, C), opened once and mapped into memory."""

    def __init__(self, path: Path, *, scratch: Scratch | None = None, held: bool = False) -> None:
        """`scratch`: if it is removed after its last use; `held`: on a GPU, the images that are
        used all go into its memory. Raises OSError, ValueError: the file does not exist, or is
        incomplete.
        """
        # first, so that it is closed before the scratch file is removed, as Windows wants it
        self.rows = torch.from_numpy(np.load(path, mmap_mode="c"))
        self.path = path
        self.scratch = scratch
        self.held = held

    def __reduce__(self) -> Any:
        return partial(ImagesFile, scratch=self.scratch, held=self.held), (self.path,)

    def renew(self) -> None:
        """Says that the file is in use."""
        if self.scratch is not None:
            self.scratch.renew()


class Mapped:
    """Images in a file, mapped into memory: the system keeps as many in memory as fit."""

    def __init__(
        self,
        file: ImagesFile,
        index: Indices | None = None,
        device: torch.device = CPU,
    ) -> None:
        """`index`: the images used of the file; `device`: where batches go."""
        self._file = file
        self._rows = file.rows
        if index is None:
            self._index = torch.arange(len(self._rows))
        else:
            self._index = torch.from_numpy(index)
        self._device = device

    def __reduce__(self) -> Any:
        return Mapped, (self._file, self._index.numpy())

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._rows.shape[1:]
        return channels, height, width

    @property
    def deep(self) -> bool:
        """Whether they are float32, and not bytes."""
        return self._rows.dtype != torch.uint8

    def __len__(self) -> int:
        return len(self._index)

    def item(self, index: int) -> Tensor:
        return self._rows[self._index[index]].permute(2, 0, 1)

    def subset(self, index: Indices) -> Mapped:
        return Mapped(self._file, self._index.numpy()[index])

    def to(self, device: torch.device) -> InMemory | Mapped:
        if device.type != "cpu" and self._file.held:
            return InMemory(self._batch(torch.arange(len(self)))).to(device)
        return Mapped(self._file, self._index.numpy(), device)

    def histogram(self, *, every: bool = False) -> NDArray[np.int64]:
        """Returns the same as that of `InMemory`."""
        sample = np.arange(len(self)) if every else _sample(self)
        histograms = (
            InMemory(self._batch(part)).histogram()
            for part in torch.split(torch.from_numpy(sample), 256)
        )
        return sum(histograms, np.zeros((self.shape[0], 256), np.int64))

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yields the same as that of `InMemory`; the next batch is read while the last one is
        processed.
        """
        self._file.renew()
        # all at once, so that no batch waits for a device
        batches = [index.cpu() for index in batches]
        if not batches:
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, batches[0])
            for index in batches[1:]:
                ready = coming.result()
                coming = reader.submit(self._read, index)
                yield ready.to(self._device, non_blocking=True)
            yield coming.result().to(self._device, non_blocking=True)

    def _read(self, index: Tensor) -> Tensor:
        images = self._batch(index)
        if self._device.type == "cuda":
            return images.pin_memory()
        return images

    def _batch(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, self._index[index]).permute(0, 3, 1, 2)


Pixels = InMemory | Mapped


@contextmanager
def images_file(
    path: Path,
    count: int,
    shape: tuple[int, int, int],
    dtype: type[np.uint8 | np.float32] = np.uint8,
) -> Iterator[Callable[[NDArray[Any]], object]]:
    """Writes a file for `ImagesFile`, image after image (C, H, W). An incomplete file is not kept.
    OSError: it cannot be written.
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

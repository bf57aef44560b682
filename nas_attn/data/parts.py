"""What a source of images hands over before it is split, normalised and put on a device: decoded files, in memory or streamed.

Shapes: N images, B of a batch, C channels, H height, W width. In a segmentation an image's last channel is its mask.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nas_attn.processes import cores
from nas_attn.records import ALONE, Share
from nas_attn.waiting import Wait, locked

Indices = NDArray[np.int64]


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
        """(C, 256): how often each value occurs in each channel."""
        counts = [torch.bincount(self._rows[..., c].flatten(), minlength=256) for c in range(self.shape[0])]
        return torch.stack(counts).cpu().numpy().astype(np.int64)

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (B, C, H, W) on the device for each of these index batches (int64, on the device)."""
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
        self._order: list[list[Any]] = []
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
        self._order[:] = batches
        return iter(self._loader)


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


Pixels = InMemory | Streamed


@dataclass(frozen=True)
class Place:
    """Where images go."""

    device: torch.device
    share: Share = ALONE  # With how many workers memory is shared: whether the images of files are held in it


@dataclass(frozen=True)
class Labelled:
    """Images, their labels, and what tells one image from another."""

    pixels: Pixels
    labels: NDArray[np.int64]  # (N,), indices into the classes
    identity: NDArray[np.int64]  # (N,), a checksum of each image, or of its file's name and size
    groups: NDArray[np.str_] | None = None  # (N,), images of one group stand on one side of a split; None: each its own
    boxes: NDArray[np.float32] | None = None  # (N, M, 5), `boxes.BoxTable`; zeros where an image has fewer

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


LONGEST_S = 4 * 3600.0  # seconds that one process may take to prepare or download a data set


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """One process at a time makes `what`. A holder that is stopped, or takes hours, is not waited for: it is made once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Wait(f"{what}, which another process makes") as wait, locked(path, wait, LONGEST_S) as holder:
        if holder:
            wait.say(f"stopped waiting for {holder} and made it again: {what}")
        yield


def cache_folder() -> Path:
    """Where prepared images are kept: the user's cache folder."""
    return platformdirs.user_cache_path("nas_attn") / "images"


SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
NOT_COUNTED = 255  # value of a mask's pixels that are of no class: neither trained on nor scored


@dataclass(frozen=True, slots=True)
class Masked:
    """An image and its mask."""

    image: Path
    mask: Path
    classes: int  # the mask's values are below this, or NOT_COUNTED


@dataclass(frozen=True, slots=True)
class Framed:
    """An image that is to be kept whole: its longer side scaled to the size, grey below or beside it."""

    image: Path
    size: tuple[int, int]  # (width, height) that its annotations are for


Source = Path | Masked | Framed
GREY = (124, 116, 104)  # of what is no image: the mean colour of photographs


def channels_of(sources: Sequence[Source]) -> int:
    """3, or 4 with a mask."""
    return 4 if sources and isinstance(sources[0], Masked) else 3


def decode(source: Source, size: int) -> NDArray[np.uint8]:
    """One image as uint8 (3, size, size): shorter side scaled to `size`, middle square cut out; its mask a fourth channel.
    Raises whatever Pillow raises for a broken file, nearly anything; ValueError for a mask that does not fit."""
    if isinstance(source, Framed):
        return _whole(source, size)
    path = source.image if isinstance(source, Masked) else source
    with Image.open(path) as opened:
        whole = opened.getexif().get(0x0112, 1) < 5 and opened.size  # a draft of a JPEG has another size
        opened.draft("RGB", (2 * size, 2 * size))  # a JPEG far larger than needed is decoded at a fraction of its size
        image = to_rgb(ImageOps.exif_transpose(opened))
    rgb: NDArray[np.uint8] = np.asarray(square(size)(image)).transpose(2, 0, 1)
    if not isinstance(source, Masked):
        return rgb
    with Image.open(source.mask) as opened:
        if opened.mode not in ("L", "P", "1") or (whole and opened.size != whole):
            raise ValueError(f"a mask of mode {opened.mode} and size {opened.size}")
        mask = np.asarray(opened).astype(np.uint8)  # black and white: 0 and 1
        if ((mask >= source.classes) & (mask != NOT_COUNTED)).any():
            raise ValueError(f"a mask with the value {mask[mask != NOT_COUNTED].max()}")
    scaled = np.asarray(square(size, nearest=True)(Image.fromarray(mask)))
    return np.concatenate([rgb, scaled[None]])


def _whole(source: Framed, side: int) -> NDArray[np.uint8]:
    """uint8 (3, side, side); turned as its EXIF data says where it then has the size of its annotations."""
    with Image.open(source.image) as opened:
        image = opened if opened.size == source.size else ImageOps.exif_transpose(opened)
        if image.size != source.size:
            raise ValueError(f"an image of size {image.size}, annotated as {source.size}")
        image = to_rgb(image)
    return framed(image, side)


def framed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 (3, side, side): the longer side of an image scaled to it, grey below or beside."""
    width, height = (max(1, round(side / max(image.size) * length)) for length in image.size)
    image = image.convert("RGB")
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    whole = np.empty((side, side, 3), dtype=np.uint8)
    whole[:] = GREY
    whole[:height, :width] = scaled
    return np.ascontiguousarray(whole.transpose(2, 0, 1))


def decode_all(paths: Sequence[Source], size: int, *, keep: bool) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Decodes every file on all cores: bool (N,), which are broken; with `keep` the images (N, 3 or 4, size, size)."""
    broken = np.zeros(len(paths), dtype=bool)
    images = np.zeros((len(paths), channels_of(paths), size, size), dtype=np.uint8) if keep else None

    def work(number: int) -> None:
        try:
            image = decode(paths[number], size)
        except Exception:  # a decoder meets any nonsense that a file may hold; the caller names the file
            broken[number] = True
        else:
            if images is not None:
                images[number] = image

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, range(len(paths))))
    return broken, images


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB; what is transparent lies on white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@lru_cache(maxsize=8)
def square(size: int, *, nearest: bool = False) -> Any:
    """Makes of an image its middle square: the shorter side is scaled to `size`."""
    from torchvision.transforms import InterpolationMode, v2

    how = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
    return v2.Compose([v2.Resize(size, interpolation=how, antialias=True), v2.CenterCrop(size)])

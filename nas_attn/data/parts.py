"""Decoded images of a source, in memory or mapped, before they are split, normalised and put on a
device.

Shapes: N images, B of a batch, C channels, H height, W width. In segmentation an image's last
    channel is its mask.
"""

from __future__ import annotations

import multiprocessing
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError
from typing import Any, Self

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from nas_attn.data.depth import FULL, is_deep, with_bytes
from nas_attn.data.manifest import Listing, checksum
from nas_attn.errors import DataError, first_line, shorten
from nas_attn.paths import whole_file
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

    def histogram(
        self,
        *,
        every: bool = False,  # noqa: ARG002 - here it is always of all
    ) -> NDArray[np.int64]:
        """(C, 256): frequency of each value in each channel; of a part of the images if they are
        many, unless `every`.
        """
        counts = [
            torch.bincount(self._rows[..., c].flatten(), minlength=256)
            for c in range(self.shape[0])
        ]
        return torch.stack(counts).cpu().numpy().astype(np.int64)

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (B, C, H, W) on the device for each of these index batches (int64, on the
        device).
        """
        for index in batches:
            yield self._batch(index)

    def _batch(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, index).permute(0, 3, 1, 2)


def moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, on the scale 0 to 1; a constant channel has
    deviation 1.
    """
    values = np.arange(256) / 255.0
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = share @ values**2 - mean**2
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 1e-12)), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


# images that are decoded before they are written
TOGETHER = 256
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
        else a list.
        """
        self._order: list[list[Any]] = []
        workers = workers if _reaches_workers(item) else 0
        self._loader: DataLoader[Any] = DataLoader(
            _Items(item),
            batch_sampler=self._order,
            num_workers=workers,
            pin_memory=pinned,
            persistent_workers=workers > 0,
            collate_fn=None if stacked else list,
        )

    def __call__(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """The items of these batches, stacked."""
        self._order[:] = batches
        return iter(self._loader)


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
        return self._item(entry)


class Mapped:
    """Images in a file, `.npy` of uint8 (N, H, W, C), mapped into memory: the system keeps as many
    in memory as fit.
    """

    def __init__(
        self,
        path: Path,
        index: Indices | None = None,
        *,
        scratch: Scratch | None = None,
        held: bool = False,
    ) -> None:
        """`index`: the images used of the file; `scratch`: a file that is removed after its last
        use; `held`: on a GPU, they all go into its memory. Raises OSError, ValueError: the file
        does not exist, or is incomplete.
        """
        self._made = path, index, scratch, held
        self._rows = torch.from_numpy(np.load(path, mmap_mode="c"))
        self._index = torch.arange(len(self._rows)) if index is None else torch.from_numpy(index)
        self._device = torch.device("cpu")

    def __reduce__(self) -> Any:
        path, _, scratch, held = self._made
        return partial(Mapped, scratch=scratch, held=held), (path, self._index.numpy())

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._rows.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self._index)

    def item(self, index: int) -> Tensor:
        return self._rows[self._index[index]].permute(2, 0, 1)

    def subset(self, index: Indices) -> Mapped:
        path, _, scratch, held = self._made
        return Mapped(path, self._index.numpy()[index], scratch=scratch, held=held)

    def to(self, device: torch.device) -> InMemory | Mapped:
        if device.type != "cpu" and self._made[3]:
            return InMemory(self._batch(torch.arange(len(self)))).to(device)
        there = self.subset(np.arange(len(self)))
        there._device = device
        return there

    def histogram(self, *, every: bool = False) -> NDArray[np.int64]:
        """As in `InMemory`."""
        count = (
            len(self)
            if every
            else min(len(self), max(TOGETHER, HISTOGRAM_BYTES // self._rows[0].numel()))
        )
        sample = np.linspace(0, len(self) - 1, count).round().astype(np.int64)
        found = (
            InMemory(self._batch(part)).histogram()
            for part in torch.split(torch.from_numpy(sample), 256)
        )
        return sum(found, np.zeros((self.shape[0], 256), np.int64))

    def fetch(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """As in `InMemory`; the next batch is read while the last one is processed."""
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
        return images.pin_memory() if self._device.type == "cuda" else images

    def _batch(self, index: Tensor) -> Tensor:
        return self._rows.index_select(0, self._index[index]).permute(0, 3, 1, 2)


# Prefix of a file that one process made for itself
SCRATCH = "own-"


class Scratch:
    """A file that is removed with the last reference to this object; after a killed process, a day
    later.
    """

    def __init__(self, path: Path) -> None:
        self._remove = weakref.finalize(self, path.unlink, missing_ok=True)

    def __reduce__(self) -> Any:
        # the process that made it removes it
        return type(None), ()


Pixels = InMemory | Mapped


@contextmanager
def images_file(
    path: Path, count: int, shape: tuple[int, int, int]
) -> Iterator[Callable[[NDArray[np.uint8]], object]]:
    """Writes a file for `Mapped`, image after image (C, H, W). An incomplete file is not kept.
    OSError: it cannot be written.
    """
    channels, height, width = shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, height, width, channels)}
    with whole_file(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda image: file.write(np.ascontiguousarray(image.transpose(1, 2, 0)).data)


@dataclass(frozen=True)
class Place:
    """The device for images."""

    device: torch.device
    # Workers that share its memory, which limits images of files, and the cores of this machine
    share: Share = ALONE

    @property
    def processes(self) -> int:
        """Processes that load or transform images for one worker, by default."""
        return max(1, cores() // self.share.machine)


@dataclass(frozen=True)
class Labelled:
    """Images, their labels, and an identity of each image."""

    pixels: Pixels
    # (N,), indices into the classes
    labels: NDArray[np.int64]
    # (N,), a checksum of each image, or of its file's name and size
    identity: NDArray[np.int64]
    # (N,), images of one group stay on one side of a split; None: no groups
    groups: NDArray[np.str_] | None = None
    # (N, M, 5), `boxes.BoxTable`; zeros if an image has fewer
    boxes: NDArray[np.float32] | None = None
    # a user's DataLoader for training
    loader: Any = None
    # used of images with 16, as in `depth`
    bits: int = FULL
    # (N,), paths below the data's folder; None: the images are in no files of their own
    names: NDArray[np.str_] | None = None
    # (N,), checksums of the files' contents; None: those of the pixels, in `identity`
    content: NDArray[np.int64] | None = None
    # False: the images are others at each reading, so that content tells nothing
    fixed: bool = True

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Self:
        """From an array (N, C, H, W) or (N, H, W). Raises DataError: another shape or dtype, or not
        one label for each image.
        """
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or labels.dtype.kind not in "iu"
            or len(labels) != len(images)
        ):
            found = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            raise DataError(
                "images must be uint8 (N, C, H, W), with an integer label for each, but they are"
                f" {found}"
            )
        images = np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)
        identity = np.fromiter((zlib.crc32(image.data) for image in images), np.int64, len(images))
        return cls(InMemory(torch.from_numpy(images)), labels, identity)

    def subset(self, index: Indices) -> Labelled:
        def chosen(rows: NDArray[Any] | None) -> Any:
            return None if rows is None else rows[index]

        return replace(
            self,
            pixels=self.pixels.subset(index),
            labels=self.labels[index],
            identity=self.identity[index],
            groups=chosen(self.groups),
            boxes=chosen(self.boxes),
            names=chosen(self.names),
            content=chosen(self.content),
        )

    @property
    def listing(self) -> Listing:
        """The images, to be compared with those of later."""
        content = self.identity if self.content is None else self.content
        labels = self.labels
        if self.boxes is not None:
            sums = (zlib.crc32(rows[rows[:, 0] != 0].tobytes()) for rows in self.boxes)
            labels = np.fromiter(sums, np.int64, len(self.boxes))
        known = self.fixed and self.loader is None
        return Listing(labels, self.names, content if known else None, boxed=self.boxes is not None)


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they
    are asked for.
    """

    train: Labelled
    # None: a part of `train`
    validation: Labelled | None
    test: Callable[[], Labelled]
    classes: tuple[str, ...]
    # why there is no test split, with the way out; else empty
    missing_test: str = ""
    # names and classes of the test images, if they are known unread
    unread: Listing | None = None


# seconds that one process may take to prepare or download a data set
LONGEST_S = 4 * 3600.0


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Inside, only this process makes `what`. If the holder is stopped or takes hours, the wait
    ends and `what` is made once more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        Wait(f"{what}, which another process makes") as wait,
        locked(path, wait, LONGEST_S) as holder,
    ):
        if holder:
            wait.say(f"stopped waiting for {holder} and made it again: {what}")
        yield


def cache_folder() -> Path:
    """The folder of prepared images, in the user's cache."""
    return platformdirs.user_cache_path("nas_attn") / "images"


SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# value of a mask's pixels without a class: not used for training or scores
NOT_COUNTED = 255


@dataclass(frozen=True, slots=True)
class Masked:
    """An image and its mask."""

    image: Path
    mask: Path
    # the mask's values are below this, or NOT_COUNTED
    classes: int


@dataclass(frozen=True, slots=True)
class Framed:
    """An image that is not cut: its longer side is scaled to the size, the rest is grey."""

    image: Path
    # (width, height) of its annotations
    size: tuple[int, int]


Source = Path | Masked | Framed
# outside an image: the mean colour of photographs
GREY = (124, 116, 104)


# of why a file cannot be read
REASON_LETTERS = 80


def channels_of(sources: Sequence[Source]) -> int:
    """3, or 4 with a mask."""
    return 4 if sources and isinstance(sources[0], Masked) else 3


@dataclass(frozen=True, slots=True)
class Cut:
    """How an image is scaled and cut: the shorter side is scaled, then the middle square cut
    out.
    """

    size: int
    # the shorter side; None: `size`
    resize: int | None = None
    # torchvision's name of it
    interpolation: str = "bilinear"
    # used of images with 16, as in `depth`
    bits: int = field(default=FULL, repr=False)


def decode(source: Source, cut: Cut | int) -> NDArray[np.uint8]:
    """One image as uint8 (3, size, size), cut as asked; its mask is a fourth channel. For a broken
    file it raises Pillow's error, of any kind; ValueError: the mask does not fit.
    """
    cut = Cut(cut) if isinstance(cut, int) else cut
    if isinstance(source, Framed):
        return _whole(source, cut)
    longest = 2 * (cut.resize or cut.size)
    path = source.image if isinstance(source, Masked) else source
    with Image.open(path) as opened:
        # a draft of a JPEG has another size
        stored = opened.size
        orientation = opened.getexif().get(ORIENTATION, 1)
        # a JPEG far larger than needed is decoded at a fraction of its size
        opened.draft("RGB", (longest, longest))
        image = turned(to_rgb(opened, cut.bits), orientation)
    rgb: NDArray[np.uint8] = np.asarray(square(cut)(_middle(image))).transpose(2, 0, 1)
    if not isinstance(source, Masked):
        return rgb
    mask = _middle(Image.fromarray(_mask(source, stored, orientation)))
    scaled = np.asarray(square(replace(cut, interpolation="nearest"))(mask))
    return np.concatenate([rgb, scaled[None]])


# the EXIF tag that says how an image is turned; from 5, the sides change
ORIENTATION = 0x0112
# times the shorter side; what lies beyond it is never seen
LONGEST_STRIP = 16


def _middle(image: Image.Image) -> Image.Image:
    """The middle of a very long image, which would need gigabytes when its shorter side is
    enlarged.
    """
    width, height = image.size
    most = LONGEST_STRIP * min(image.size)
    left = max(0, (width - most) // 2)
    top = max(0, (height - most) // 2)
    if not left and not top:
        return image
    return image.crop((left, top, width - left, height - top))


def _mask(source: Masked, stored: tuple[int, int], orientation: int) -> NDArray[np.uint8]:
    """(H, W): the values of a mask, turned as its image. `stored`: the image's size in its file.
    Raises ValueError: it does not fit.
    """
    shown = stored if orientation < 5 else stored[::-1]
    with Image.open(source.mask) as opened:
        if opened.mode not in ("L", "P", "1"):
            raise ValueError(f"its mask is {opened.mode}, not gray or palette with class numbers")
        if opened.size not in (shown, stored):
            raise ValueError(
                f"its mask is {opened.size[0]}x{opened.size[1]}, the image {shown[0]}x{shown[1]}"
            )
        mask = np.asarray(turned(opened, orientation if opened.size != shown else 1))
    # black and white: 0 and 1
    values = mask.astype(np.uint8)
    if ((values >= source.classes) & (values != NOT_COUNTED)).any():
        raise ValueError(f"its mask has the value {values[values != NOT_COUNTED].max()}")
    return values


# How an image is turned, by the EXIF tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image as its EXIF tag says that it is shown."""
    return image if orientation not in TURNS else image.transpose(TURNS[orientation])


def _whole(source: Framed, cut: Cut) -> NDArray[np.uint8]:
    """uint8 (3, side, side); turned by its EXIF data if it then has the size of its annotations."""
    with Image.open(source.image) as opened:
        orientation = 1 if opened.size == source.size else opened.getexif().get(ORIENTATION, 1)
        shown = opened.size if orientation < 5 else opened.size[::-1]
        if shown != source.size:
            raise ValueError(f"an image of size {shown}, annotated as {source.size}")
        image = turned(to_rgb(opened, cut.bits), orientation)
    return framed(image, cut.size)


def framed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 (3, side, side): the image's longer side is scaled to `side`, the rest is grey."""
    width, height = (max(1, round(side / max(image.size) * length)) for length in image.size)
    image = image.convert("RGB")
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    whole = np.empty((side, side, 3), dtype=np.uint8)
    whole[:] = GREY
    whole[:height, :width] = scaled
    return np.ascontiguousarray(whole.transpose(2, 0, 1))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a file."""

    # as `decode` gives it; None: it is broken
    pixels: NDArray[np.uint8] | None
    # checksum of the file, and of its mask
    content: int
    # it is broken; else empty
    why: str = ""


def files_of(source: Source) -> list[Path]:
    """The image file, and its mask."""
    if isinstance(source, Path):
        return [source]
    return [source.image, source.mask] if isinstance(source, Masked) else [source.image]


def decode_all(sources: Sequence[Source], cut: Cut) -> Iterator[Decoded]:
    """Decodes every file, in order, on all cores. Raises DataError: one is not there any more."""

    def work(source: Source) -> Decoded:
        pixels = None
        why = ""
        try:
            pixels = decode(source, cut)
        except Exception as error:
            # decoders raise any error for damaged files
            why = shorten(first_line(error), REASON_LETTERS)
        try:
            return Decoded(pixels, checksum(*(p.read_bytes() for p in files_of(source))), why)
        except FileNotFoundError as error:
            raise DataError(
                f"'{error.filename}' was there and is gone: something else changes the folder; wait"
                " until it has finished, then start again"
            ) from None
        except OSError as error:
            return Decoded(None, 0, shorten(error.strerror or str(error), REASON_LETTERS))

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sources), TOGETHER):
            yield from pool.map(work, sources[start : start + TOGETHER])


def to_rgb(image: Image.Image, bits: int = FULL) -> Image.Image:
    """Any image as RGB, with white for transparent parts. `bits`: how many are used of images with
    16. Raises ValueError: its values have no range that is known, so that one cannot say what is
    white.
    """
    if image.mode in ("F", "I") and not is_deep(image):
        raise ValueError("float or 32-bit values have no known white: save it with 8 or 16 bits")
    image = with_bytes(image, bits)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@lru_cache(maxsize=8)
def square(cut: Cut) -> Any:
    """A function that cuts the middle square out of an image."""
    from torchvision.transforms import InterpolationMode, v2

    how = InterpolationMode(cut.interpolation)
    return v2.Compose(
        [
            v2.Resize(cut.resize or cut.size, interpolation=how, antialias=True),
            v2.CenterCrop(cut.size),
        ]
    )

"""A user's own `torch.utils.data.Dataset` or DataLoader: `data.name = "package.module:function"`, a
function of the split's name.

    def flowers(split: str) -> torch.utils.data.Dataset | None:   # "train", "validation", "test";
    None: there is no such split
        return Flowers("data/flowers", split)

An item is (image, label), or a dictionary with `image` and `label`; further fields are ignored. An
image is a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W), as bytes or from 0 to 1.
A label is a class number; in segmentation a mask (H, W) of class numbers; in detection a dictionary
of `boxes`, (K, 4) as left, top, right, bottom in pixels, and `labels`, (K,) from 1.

A DataLoader's batches have the same fields, and are used for training as they are: images float
(B, C, H, W), normalised by `data.mean` and `data.std` (without them: 0 to 1), labels class numbers,
shares of classes, or masks. Validation images are kept as bytes.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.decoding import Cut, framed, square, to_rgb
from nas_attn.data.depth import BYTE, is_deep
from nas_attn.data.inventory import FULL_BITS, NOT_COUNTED
from nas_attn.data.own_fields import IMAGE_COLUMNS, LABELS, image_and_label
from nas_attn.data.own_loader import is_loader, read_loader
from nas_attn.data.parts import Labelled, Parts, Place, cache_folder
from nas_attn.data.pixels import Feed, ImagesFile, InMemory, Mapped, Pixels, images_file
from nas_attn.data.scratch import Scratch
from nas_attn.errors import DataError, first_line, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Kind
from nas_attn.system.notes import MoreFields, warn

# The least label, by the kind of labels
FIRST_CLASS = {"classes": 0, "masks": 0, "boxes": 1}
BOXED_SIDE = 320
# At most so many bytes of images are held in memory
MOST_HELD_BYTES = 2**28


@dataclass(frozen=True)
class Items:
    """Converts an item of a data set, in the loading processes."""

    dataset: Any
    kind: str
    size: int | None
    where: str
    # used of images with 16; None: they are not expected to have 16
    bits: int | None = None

    def image(self, number: int) -> tuple[Image.Image, Any]:
        """The image of an item, of mode L or RGB or with 16 bits, and the label as it is."""
        where = f"item {number} of {self.where}"
        try:
            item = self.dataset[number]
        except Exception as error:
            # a user's data set
            raise DataError(f"{where} cannot be read: {shorten(first_line(error))}") from error
        given, label = image_and_label(item, where)
        return _image(given, where), label

    def __call__(self, number: int) -> tuple[NDArray[np.uint8], Any]:
        """uint8 (C, H, W), a mask as last channel, and the label: a number, or boxes float32 (K,
        5); DataError: the item is wrong.
        """
        where = f"item {number} of {self.where}"
        image, label = self.image(number)
        if is_deep(image):
            if self.bits is None:
                raise DataError(
                    f"{where} has 16 bits, and the first training image has not: say in data.bits"
                    " how many of them are used"
                )
            image = to_rgb(image, self.bits)
        if self.kind == "boxes":
            side = self.size or BOXED_SIDE
            return framed(image, side), _boxes(label, side / max(image.size), where)
        pixels = np.asarray(image if self.size is None else square(Cut(self.size))(image))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.kind == "classes":
            return pixels, _class_number(label, where)
        mask = Image.fromarray(_class_numbers(label, where))
        if self.size is not None:
            mask = square(Cut(self.size, interpolation="nearest"))(mask)
        if mask.size != (pixels.shape[2], pixels.shape[1]):
            raise DataError(
                f"{where} has an image of {pixels.shape[2]}x{pixels.shape[1]} and a mask of"
                f" {mask.size}"
            )
        return np.concatenate([pixels, np.asarray(mask)[None]]), 0


def read(function: Callable[..., Any], kind: Kind, section: DataSection, place: Place) -> Parts:
    """The splits of a user's function; DataError: it fails, has no training images, or an item is
    wrong.
    """
    datasets = {
        split: _opened(function, split, section) for split in ("train", "validation", "test")
    }
    missing = ""
    if datasets["test"] is None:
        missing = f"'{section.name}' gives no data set for 'test'"
    if datasets["train"] is None:
        raise DataError(f"data.name = '{section.name}' gives no data set for 'train': return one")

    def part(split: str) -> Labelled:
        if datasets[split] is None:
            raise DataError(missing)
        if is_loader(datasets[split]):
            return read_loader(datasets[split], kind, f"'{section.name}', {split}", section)
        items = Items(datasets[split], kind, section.size, f"'{section.name}', {split}", bits)
        return replace(
            _labelled(items, len(datasets[split]), section, place), bits=bits or FULL_BITS
        )

    learnt = datasets["train"]
    bits = None
    if not is_loader(learnt):
        bits = _bits(learnt, kind, section, place)
    train = part("train")
    classes = _classes(learnt, train, kind, section)

    def scored(split: str) -> Labelled:
        images = part(split)
        _check_known(images, kind, classes, f"'{section.name}', {split}")
        return images

    validation = None if datasets["validation"] is None else scored("validation")
    return Parts(train, validation, lambda: scored("test"), classes, missing)


def _bits(dataset: Any, kind: str, section: DataSection, place: Place) -> int | None:
    """The bits that the training images use, if their first one has 16; else None."""
    if section.bits != "auto":
        return section.bits
    items = Items(dataset, kind, section.size, f"'{section.name}', train")
    first, _ = items.image(0)
    if not is_deep(first):
        return None
    numbers = [list(range(n, min(n + 64, len(dataset)))) for n in range(0, len(dataset), 64)]
    batches = Feed(_Largest(items), section.workers or place.processes, stacked=False)(numbers)
    most: int = max(itertools.chain.from_iterable(batches))
    return max(BYTE, most.bit_length())


@dataclass(frozen=True)
class _Largest:
    """Gives the largest value of an item's image, in the loading processes."""

    items: Items

    def __call__(self, number: int) -> int:
        image, _ = self.items.image(number)
        if not is_deep(image):
            return 0
        return int(np.asarray(image).max())


def _opened(function: Callable[..., Any], split: str, section: DataSection) -> Any:
    """The data set of a split; reads no item. None if there is none."""
    try:
        dataset = function(split, **section.options)
    except Exception as error:
        # a user's function
        raise DataError(
            f"data.name = '{section.name}' failed at '{split}': {shorten(first_line(error))}"
        ) from error
    items = all(hasattr(dataset, name) for name in ("__getitem__", "__len__"))
    if dataset is not None and not items and not is_loader(dataset):
        raise DataError(
            f"data.name = '{section.name}' gave a {type(dataset).__name__} for '{split}': it must"
            " return a torch.utils.data.Dataset or a DataLoader, with a length"
        )
    return dataset


def _labelled(items: Items, count: int, section: DataSection, place: Place) -> Labelled:
    """Reads all items once; many images go into a file, which is mapped into memory."""
    first, _ = items(0)
    if items.where.endswith("train"):
        _say_fields(items)
    labels = []
    identity = np.zeros(count, np.int64)
    numbers = [list(range(start, min(start + 64, count))) for start in range(0, count, 64)]
    batches = Feed(items, section.workers or place.processes, stacked=False)(numbers)
    read_items = itertools.chain.from_iterable(batches)

    def read_all(write: Callable[[NDArray[np.uint8]], object]) -> None:
        for number, (pixels, label) in enumerate(read_items):
            if pixels.shape != first.shape:
                raise DataError(
                    f"item {number} of {items.where} is {pixels.shape}, item 0 {first.shape}: set"
                    " data.size"
                )
            labels.append(label)
            identity[number] = zlib.crc32(np.ascontiguousarray(pixels).data)
            write(pixels)

    kept: Pixels
    if count * first.size <= MOST_HELD_BYTES:
        images: list[NDArray[np.uint8]] = []
        read_all(images.append)
        kept = InMemory(torch.from_numpy(np.stack(images)))
    else:
        folder = cache_folder()
        try:
            scratch = Scratch(folder)
            with images_file(scratch.path, count, first.shape) as write:
                read_all(write)
            kept = Mapped(ImagesFile(scratch.path, scratch=scratch))
        except OSError as error:
            raise DataError(
                f"the images of {items.where} cannot be kept in '{folder}': {error}"
            ) from None
    fixed = _is_fixed(items, identity)
    if items.kind != "boxes":
        return Labelled(kept, np.array(labels, np.int64), identity, fixed=fixed)
    table = np.zeros((count, max(1, max(map(len, labels))), 5), np.float32)
    for row, boxes in zip(table, labels, strict=True):
        row[: len(boxes)] = boxes
    return Labelled(kept, np.zeros(count, np.int64), identity, boxes=table, fixed=fixed)


# items; a mirroring by chance leaves all of them as they were once in 65,536 times
READ_AGAIN = 16


def _is_fixed(items: Items, identity: NDArray[np.int64]) -> bool:
    """Whether items are the same when they are read again, so not changed by chance."""
    for number in np.unique(np.linspace(0, len(identity) - 1, READ_AGAIN).round().astype(int)):
        pixels, _ = items(int(number))
        if zlib.crc32(np.ascontiguousarray(pixels).data) != identity[number]:
            return False
    return True


def _classes(dataset: Any, train: Labelled, kind: str, section: DataSection) -> tuple[str, ...]:
    """The classes' names in the data set's `classes`, or in `features` as in Hugging Face's; else
    numbers.
    """
    most = _highest_label(train, kind)
    begin = FIRST_CLASS[kind]
    features = getattr(dataset, "features", None) or {}
    described = next((features[name] for name in LABELS if name in features), None)
    named = getattr(dataset, "classes", None) or getattr(described, "names", None) or ()
    given = tuple(str(name) for name in named)
    if given and len(given) <= most - begin:
        raise DataError(f"'{section.name}' names {len(given)} classes, but a label is {most}")
    classes = given or tuple(str(number) for number in range(begin, most + 1))
    if kind != "boxes" and len(classes) < 2:
        present = f"only class {most}" if classes else "no class"
        raise DataError(
            f"the training split of '{section.name}' has {present}: give two classes or more,"
            f" numbered from 0; in masks, {NOT_COUNTED} is not counted"
        )
    return classes


def _check_known(part: Labelled, kind: str, classes: tuple[str, ...], where: str) -> None:
    """Raises DataError: a label is of a class that the training split has not."""
    most = _highest_label(part, kind)
    last = FIRST_CLASS[kind] + len(classes) - 1
    if most > last:
        raise DataError(
            f"{where} has the label {most}, and the training split has no class above {last}:"
            " give both the same classes"
        )


def _highest_label(part: Labelled, kind: str) -> int:
    """The highest class number; -1 if every pixel of masks is without a class."""
    if kind == "boxes":
        assert part.boxes is not None
        return int(np.abs(part.boxes[..., 0]).max())
    if kind == "masks":
        counted = part.pixels.histogram(every=True)[-1][:NOT_COUNTED]
        return int(np.flatnonzero(counted).max(initial=-1))
    return int(part.labels.max())


def _say_fields(items: Items) -> None:
    """Warns which fields of an item are used, if it has more than two."""
    item = items.dataset[0]
    if len(item) <= 2:
        return
    names = list(map(str, item)) if isinstance(item, Mapping) else []
    taken: tuple[str, ...] = ()
    if names:
        image = next(name for name in IMAGE_COLUMNS if name in names)
        label = next(name for name in LABELS if name in names)
        taken = (image, label)
    others = tuple(name for name in names if name not in taken)
    warn(MoreFields(items.where, len(item), taken, others), stacklevel=2)


def _image(image: Any, where: str) -> Image.Image:
    """A PIL image, of mode L or RGB, or with 16 bits."""
    if not isinstance(image, Image.Image):
        return _image_of_array(image, where)
    try:
        if image.mode == "L" or is_deep(image):
            return image
        return to_rgb(image)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def _image_of_array(image: Any, where: str) -> Image.Image:
    """From bytes or 0 to 1: (H, W), (H, W, 1) or (H, W, 3); of a tensor (C, H, W)."""
    array = np.asarray(image)
    if isinstance(image, torch.Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.dtype.kind not in "uifb" or array.ndim < 2:
        described = f"{type(image).__name__} ({shorten(repr(image), 40)})"
        raise DataError(
            f"{where} has for an image a {described}: give a PIL image, an array or a tensor"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise DataError(
                f"{where} has values from {array.min():.3g} to {array.max():.3g}: give bytes or"
                " 0 to 1"
            )
        array = np.round(array * 255)
    elif array.dtype.itemsize > 1 and not (array.min() >= 0 and array.max() <= 255):
        raise DataError(
            f"{where} has values from {array.min()} to {array.max()}: give bytes, or a PIL"
            " image of mode I;16"
        )
    array = array.astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise DataError(
            f"{where} has an image of the shape {np.shape(image)}: give one or three channels"
        )
    return Image.fromarray(array)


def _class_number(label: Any, where: str) -> int:
    number = np.asarray(label)
    if number.dtype.kind not in "ui" or number.size != 1 or number.item() < 0:
        raise DataError(
            f"{where} has the label {shorten(repr(label))}, not a class number: give whole numbers"
            " from 0"
        )
    return int(number.item())


def _class_numbers(label: Any, where: str) -> NDArray[np.uint8]:
    """(H, W): the values of a mask."""
    numbers = np.asarray(label).squeeze()
    if numbers.ndim != 2 or numbers.dtype.kind not in "uifb":
        raise DataError(
            f"{where} has the label {shorten(repr(label), 40)}, not a mask (H, W) of class numbers"
        )
    whole = (numbers >= 0) & (numbers <= NOT_COUNTED) & (numbers == np.floor(numbers))
    if not whole.all():
        raise DataError(
            f"{where} has a mask with the value {numbers[~whole][0]:.4g}: a mask's values are class"
            f" numbers, 0 to {NOT_COUNTED - 1}, and {NOT_COUNTED} is not counted"
        )
    return numbers.astype(np.uint8)


def _boxes(label: Any, scale: float, where: str) -> NDArray[np.float32]:
    """(K, 5): class, left, top, right, bottom in pixels of the scaled image."""
    if not isinstance(label, Mapping) or "boxes" not in label or "labels" not in label:
        raise DataError(f"{where} has no dictionary with boxes and labels: give one")
    boxes = np.asarray(label["boxes"], np.float32).reshape(-1, 4) * scale
    names = np.asarray(label["labels"], np.float32).reshape(-1, 1)
    if len(boxes) != len(names) or (names < 1).any() or (boxes[:, :2] > boxes[:, 2:]).any():
        raise DataError(
            f"{where}: boxes must be (K, 4) as left, top, right, bottom, and labels (K,) from 1"
        )
    return np.concatenate([names, boxes], 1)

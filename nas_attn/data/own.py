"""A user's own `torch.utils.data.Dataset`: `data.name = "package.module:function"`, a function of the split's name.

    def flowers(split: str) -> torch.utils.data.Dataset | None:   # "train", "validation", "test"; None: there is no such split
        return Flowers("data/flowers", split)

An item is (image, label), or a table with `image` and `label`; further fields are left alone. An image is a PIL image, an array
(H, W) or (H, W, C), or a tensor (C, H, W), as bytes or from 0 to 1. A label is a class number; in a segmentation a mask (H, W) of
class numbers; in a detection a table of `boxes`, (K, 4) as left, top, right, bottom in pixels, and `labels`, (K,) from 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.folder import free_memory
from nas_attn.data.parts import Feed, InMemory, Labelled, Parts, Pixels, Place, Streamed, framed, square, to_rgb
from nas_attn.errors import DataError, few, first_line, shorten
from nas_attn.processes import cores
from nas_attn.recipe import DataSection

IMAGES, LABELS = ("image", "img", "pixel_values"), ("label", "labels", "mask", "annotation", "objects", "target")
BOXED_SIDE = 320


@dataclass(frozen=True)
class Items:
    """What an item of a data set is made into, in the processes that load."""

    dataset: Any
    kind: str
    size: int | None
    where: str

    def __call__(self, number: int) -> tuple[NDArray[np.uint8], Any]:
        """uint8 (C, H, W), a mask as last channel, and the label: a number, or boxes float32 (K, 5); DataError: the item is wrong."""
        where = f"item {number} of {self.where}"
        try:
            item = self.dataset[number]
        except Exception as error:  # a stranger's data set
            raise DataError(f"{where} cannot be read: {shorten(first_line(error))}") from error
        given, label = _fields(item, where)
        image = _image(given, where)
        if self.kind == "boxes":
            side = self.size or BOXED_SIDE
            return framed(image, side), _boxes(label, side / max(image.size), where)
        pixels = np.asarray(image if self.size is None else square(self.size)(image))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.kind == "classes":
            if not np.issubdtype(np.asarray(label).dtype, np.integer) or np.asarray(label).size != 1:
                raise DataError(f"{where} has the label {shorten(repr(label))}, not a class number")
            return pixels, int(np.asarray(label).item())
        mask = Image.fromarray(np.asarray(label).astype(np.uint8).squeeze())
        mask = mask if self.size is None else square(self.size, nearest=True)(mask)
        if mask.size != (pixels.shape[2], pixels.shape[1]):
            raise DataError(f"{where} has an image of {pixels.shape[2]}x{pixels.shape[1]} and a mask of {mask.size}")
        return np.concatenate([pixels, np.asarray(mask)[None]]), 0

    def pixels(self, number: int) -> NDArray[np.uint8]:
        """The image alone."""
        return self(number)[0]


def read(function: Callable[..., Any], kind: str, section: DataSection, place: Place) -> Parts:
    """The splits that a user's function gives; DataError: it fails, has no training images, or an item is wrong."""
    datasets = {split: _opened(function, split, section) for split in ("train", "validation", "test")}
    missing = "" if datasets["test"] is not None else f"'{section.name}' gives no data set for 'test'"
    if datasets["train"] is None:
        raise DataError(f"data.name = '{section.name}' gives no data set for 'train'")

    def part(split: str) -> Labelled:
        if datasets[split] is None:
            raise DataError(missing)
        items = Items(datasets[split], kind, section.size, f"'{section.name}', {split}")
        return _labelled(items, len(datasets[split]), section, place)

    train = part("train")
    validation = None if datasets["validation"] is None else part("validation")
    classes = _classes(datasets["train"], train, kind, section)
    return Parts(train, validation, lambda: part("test"), classes, missing)


def _opened(function: Callable[..., Any], split: str, section: DataSection) -> Any:
    """The data set of a split, of which no item is read; None where there is none."""
    try:
        dataset = function(split, **section.options)
    except Exception as error:  # a stranger's function
        raise DataError(f"data.name = '{section.name}' failed at '{split}': {shorten(first_line(error))}") from error
    if dataset is not None and not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(
            f"data.name = '{section.name}' gave a {type(dataset).__name__} for '{split}': it must return a torch.utils.data.Dataset "
            "with a length"
        )
    return dataset


def _labelled(items: Items, count: int, section: DataSection, place: Place) -> Labelled:
    """All items read once; the images stay in memory where there is room for them."""
    first, _ = items(0)
    workers, resident = section.workers or cores(), count * first.size <= section.memory_share * free_memory(place)
    images = np.zeros((count, *first.shape), np.uint8) if resident else None
    labels, identity = [], np.zeros(count, np.int64)
    numbers = [list(range(start, min(start + 64, count))) for start in range(0, count, 64)]
    read_items = (one for batch in Feed(items, workers, stacked=False)(numbers) for one in batch)
    for number, (pixels, label) in enumerate(read_items):
        if pixels.shape != first.shape:
            raise DataError(f"item {number} of {items.where} is {pixels.shape}, item 0 {first.shape}: set data.size")
        labels.append(label)
        identity[number] = zlib.crc32(np.ascontiguousarray(pixels).data)
        if images is not None:
            images[number] = pixels
    kept: Pixels = Streamed(tuple(range(count)), items.pixels, first.shape, workers, place.device)
    if images is not None:
        kept = InMemory(torch.from_numpy(images))
    if items.kind != "boxes":
        return Labelled(kept, np.array(labels, np.int64), identity)
    table = np.zeros((count, max(1, max(map(len, labels))), 5), np.float32)
    for row, found in zip(table, labels, strict=True):
        row[: len(found)] = found
    return Labelled(kept, np.zeros(count, np.int64), identity, boxes=table)


def _classes(dataset: Any, train: Labelled, kind: str, section: DataSection) -> tuple[str, ...]:
    """The names that the data set has in `classes`, else numbers."""
    if kind == "boxes":
        assert train.boxes is not None
        most, begin = int(np.abs(train.boxes[..., 0]).max()), 1
    elif kind == "masks":
        most, begin = int(np.flatnonzero(train.pixels.histogram()[-1][:255]).max()), 0
    else:
        most, begin = int(train.labels.max()), 0
    given = tuple(str(name) for name in getattr(dataset, "classes", ()))
    if given and len(given) <= most - begin:
        raise DataError(f"'{section.name}' names {len(given)} classes, but a label is {most}")
    return given or tuple(str(number) for number in range(begin, most + 1))


def _fields(item: Any, where: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        image, label = (next((name for name in names if name in item), None) for names in (IMAGES, LABELS))
        if image is not None and label is not None:
            return item[image], item[label]
        raise DataError(f"{where} has the fields {few(list(map(str, item)))}: it needs image and label")
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise DataError(f"{where} is a {type(item).__name__}, not (image, label)")


def _image(image: Any, where: str) -> Image.Image:
    """A PIL image, of mode L or RGB."""
    if not isinstance(image, Image.Image):
        array = np.asarray(image)
        if isinstance(image, torch.Tensor) and array.ndim == 3:
            array = array.transpose(1, 2, 0)
        if np.issubdtype(array.dtype, np.floating):
            if not (array.min() >= 0 and array.max() <= 1):
                raise DataError(f"{where} has values from {array.min():.3g} to {array.max():.3g}: give bytes or 0 to 1")
            array = np.round(array * 255)
        array = array.astype(np.uint8)
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
            raise DataError(f"{where} has an image of the shape {np.shape(image)}: give one or three channels")
        return Image.fromarray(array)
    return image if image.mode == "L" else to_rgb(image)


def _boxes(label: Any, scale: float, where: str) -> NDArray[np.float32]:
    """(K, 5): class, left, top, right, bottom in pixels of the scaled image."""
    if not isinstance(label, Mapping) or "boxes" not in label or "labels" not in label:
        raise DataError(f"{where} has no table of boxes and labels")
    boxes = np.asarray(label["boxes"], np.float32).reshape(-1, 4) * scale
    names = np.asarray(label["labels"], np.float32).reshape(-1, 1)
    if len(boxes) != len(names) or (names < 1).any() or (boxes[:, :2] > boxes[:, 2:]).any():
        raise DataError(f"{where}: boxes must be (K, 4) as left, top, right, bottom, and labels (K,) from 1")
    return np.concatenate([names, boxes], 1)

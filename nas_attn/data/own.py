"""A user's own `torch.utils.data.Dataset`: `data.name = "package.module:function"`, a function of
the split's name.

    def flowers(split: str) -> torch.utils.data.Dataset | None:   # "train", "validation", "test";
    None: there is no such split
        return Flowers("data/flowers", split)

An item is (image, label), or a dictionary with `image` and `label`; further fields are ignored. An
image is a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W), with any number of
channels. Bytes stay bytes, and so do floats that are bytes divided by 255; all other values are
kept as float32.
A label is a class number; for several labels 0 or 1 for each of them, (K,); in regression a number,
or several, (K,); in segmentation a mask (H, W) of class numbers; in detection a dictionary
of `boxes`, (K, 4) as left, top, right, bottom in pixels, and `labels`, (K,) from 1.

All items are read once, at the beginning: transforms that training is to draw anew in each epoch
stand in `training.augment`.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nas_attn.data.cache import Scratch, cache_folder
from nas_attn.data.decoding import PADDING_GREY, Cut, fitted, fitted_bands, framed, to_rgb
from nas_attn.data.image_file import is_deep
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.parts import Labelled, Parts, Place, box_table, detector_side
from nas_attn.data.pixels import Feed, ImagesFile, InMemory, Mapped, Pixels, images_file
from nas_attn.errors import DataError, NasAttnWarning, few, first_line, several, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Kind

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABELS = ("label", "labels", "mask", "annotation", "objects", "target")
# The least label, by the kind of labels
FIRST_CLASS = {"classes": 0, "tags": 0, "numbers": 0, "masks": 0, "boxes": 1}
# At most so many bytes of images are held in memory
MOST_HELD_BYTES = 2**28
# a tensor that is taken for an array has its height there
MOST_CHANNELS = 64
# by which a byte that was divided by 255 may differ from a whole number
BYTE_SLACK = 1e-3
# items that one process converts at once
TOGETHER = 64
# items that are read again; a mirroring by chance leaves all as they were once in 65,536 times
READ_AGAIN = 16


def read(function: Callable[..., Any], kind: Kind, section: DataSection, place: Place) -> Parts:
    """Reads the splits of a user's function. Raises DataError: it fails, has no training images, an
    item is wrong, or images are to be fitted to no size.

    Args:
        function: Takes the name of a split and `data.options`, and returns its data, or None.
        kind: What their labels are.
        section: The recipe's data.
        place: Where the images go.
    """
    name = section.name
    if kind != "boxes" and section.size is None and section.fit != "cut":
        raise DataError(
            f"data.fit = '{section.fit}' does nothing for '{name}' without data.size, since its"
            " images stay as they are: give data.size, too, or leave both out"
        )
    given = {split: _opened(function, split, section) for split in ("train", "validation", "test")}
    learnt = given["train"]
    if learnt is None:
        raise DataError(f"data.name = '{name}' gives no data set for 'train': return one")
    missing = "" if given["test"] is not None else f"'{name}' gives no data set for 'test'"

    def part(split: str) -> Labelled:
        if given[split] is None:
            raise DataError(missing)
        items = Items(given[split], kind, section, f"'{name}', {split}")
        return _read_items(items, section, place)

    train = part("train")
    classes = _classes(learnt, train, kind, section)
    last = FIRST_CLASS[kind] + len(classes) - 1

    def scored(split: str) -> Labelled:
        images = part(split)
        most = _highest_label(images, kind)
        if images.targets is not None and most != last:
            raise DataError(
                f"'{name}', {split} has {most + 1} numbers for the labels of an image, and the"
                f" training split {last + 1}: give both as many"
            )
        if most > last:
            raise DataError(
                f"'{name}', {split} has the label {most}, and the training split has no class above"
                f" {last}: give both the same classes"
            )
        return images

    validation = None if given["validation"] is None else scored("validation")
    return Parts(train, validation, lambda: scored("test"), classes, missing)


def _opened(function: Callable[..., Any], split: str, section: DataSection) -> Any:
    """The data of a split, unread; None if there are none."""
    try:
        given = function(split, **section.options)
    except Exception as error:
        # a user's function
        raise DataError(
            f"data.name = '{section.name}' failed at '{split}': {shorten(first_line(error))}"
        ) from error
    if given is not None and not (hasattr(given, "__getitem__") and hasattr(given, "__len__")):
        raise DataError(
            f"data.name = '{section.name}' gave a {type(given).__name__} for '{split}': return a"
            " torch.utils.data.Dataset, with a length and an item for each number, and its random"
            " transforms in training.augment; batches of your own need an evaluator"
            " (docs/how-to/own-training.md)"
        )
    return given


def _image_and_label(item: Any, where: str) -> tuple[Any, Any]:
    """The fields of an item that are used; `where` says which it is."""
    if isinstance(item, Mapping):
        image = next((name for name in IMAGE_COLUMNS if name in item), None)
        label = next((name for name in LABELS if name in item), None)
        if image is None or label is None:
            fields = few(list(map(str, item)))
            raise DataError(f"{where} has the fields {fields}: it needs image and label")
        return item[image], item[label]
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise DataError(f"{where} is a {type(item).__name__}, not (image, label)")


@dataclass(frozen=True)
class Items:
    """Converts an item of a data set, in the loading processes."""

    dataset: Any
    kind: Kind
    section: DataSection
    # whose items they are
    where: str

    def __call__(self, number: int) -> tuple[NDArray[Any], Any]:
        """Returns an image, uint8 or float32 (C, H, W) with its mask as last channel, and the
        label: a number, or boxes float32 (K, 5). Raises DataError: the item is wrong.
        """
        where = f"item {number} of {self.where}"
        image, label = self.image(number)
        if self.kind == "boxes":
            if not isinstance(image, Image.Image):
                raise DataError(
                    f"{where} has {image.dtype} values and {image.shape[2]} channels: a detector"
                    " takes bytes and three channels"
                )
            side = detector_side(self.section)
            return framed(image, side), _boxes(label, side / max(image.size), where)
        size = self.section.size
        cut = None if size is None else Cut.of(size, self.section.fit)
        pixels = _pixels(image, cut)
        if self.kind == "classes":
            return pixels, _class_number(label, where)
        if self.kind in ("tags", "numbers"):
            return pixels, _targets(label, self.kind, where)
        mask = Image.fromarray(_mask(label, where))
        if cut is not None:
            mask = fitted(mask, replace(cut, interpolation="nearest"), NOT_COUNTED)
        height, width = pixels.shape[1:]
        if mask.size != (width, height):
            raise DataError(f"{where} has an image of {width}x{height} and a mask of {mask.size}")
        return np.concatenate([pixels, np.asarray(mask)[None]]), 0

    def image(self, number: int) -> tuple[Image.Image | NDArray[Any], Any]:
        """Returns the image of an item, of mode L or RGB, or (H, W, C) with other channels or
        values, and the label as it is.
        """
        where = f"item {number} of {self.where}"
        try:
            item = self.dataset[number]
        except Exception as error:
            # a user's data set
            raise DataError(f"{where} cannot be read: {shorten(first_line(error))}") from error
        given, label = _image_and_label(item, where)
        if isinstance(given, Image.Image) and is_deep(given):
            return np.asarray(given, np.float32)[..., None], label
        image = given if isinstance(given, Image.Image) else _image_of_array(given, where)
        if not isinstance(image, Image.Image) or image.mode == "L":
            return image, label
        return to_rgb(image), label

    def each(self, convert: Callable[[int], Any], processes: int) -> Iterator[Any]:
        """Yields what a function makes of all items, in order."""
        numbers = range(len(self.dataset))
        batches = [list(numbers[start : start + TOGETHER]) for start in numbers[::TOGETHER]]
        return itertools.chain.from_iterable(Feed(convert, processes, stacked=False)(batches))


def _read_items(items: Items, section: DataSection, place: Place) -> Labelled:
    """Reads all items once; many images go into a file, which is mapped into memory."""
    first, _ = items(0)
    if items.where.endswith("train"):
        _say_fields(items)
    count = len(items.dataset)
    again = np.unique(np.linspace(0, count - 1, READ_AGAIN).round().astype(int)).tolist()
    labels: list[Any] = []
    identity = np.zeros(count, np.int64)

    def read_all(write: Callable[[NDArray[Any]], object]) -> None:
        converted = items.each(items, section.workers or place.processes)
        for number, (pixels, label) in enumerate(converted):
            if pixels.shape != first.shape:
                raise DataError(
                    f"item {number} of {items.where} is {pixels.shape}, item 0 {first.shape}: set"
                    " data.size"
                )
            labels.append(label)
            identity[number] = _checksum(pixels)
            write(pixels)

    kept: Pixels
    if count * first.size <= MOST_HELD_BYTES:
        images: list[NDArray[Any]] = []
        read_all(images.append)
        kept = InMemory(torch.from_numpy(np.stack(images)))
    else:
        folder = cache_folder()
        try:
            scratch = Scratch(folder)
            deep = any(items(number)[0].dtype != np.uint8 for number in again)
            dtype = np.float32 if deep else np.uint8
            with images_file(scratch.path, count, first.shape, dtype) as write:
                read_all(lambda pixels: write(_as_type(pixels, dtype, items.where)))
            kept = Mapped(ImagesFile(scratch.path, scratch=scratch))
        except OSError as error:
            raise DataError(
                f"the images of {items.where} cannot be kept in '{folder}': {error}"
            ) from None
    # not changed by chance
    fixed = all(_checksum(items(number)[0]) == identity[number] for number in again)
    boxes = None
    targets = None
    if items.kind == "boxes":
        boxes = box_table(labels)
        labels = [0] * count
    if items.kind in ("tags", "numbers"):
        targets = _stacked(labels, items.where)
        labels = [0] * count
    numbers = np.array(labels, np.int64)
    return Labelled(kept, numbers, identity, boxes=boxes, targets=targets, fixed=fixed)


def _stacked(labels: Sequence[NDArray[np.float32]], where: str) -> NDArray[np.float32]:
    """(N, K) labels of all items. Raises DataError: they are not equally many."""
    for number, label in enumerate(labels):
        if len(label) != len(labels[0]):
            raise DataError(
                f"item {number} of {where} has {several(len(label), 'number')} for its labels, and"
                f" item 0 {len(labels[0])}: give one for each label or column"
            )
    return np.stack(labels)


def _as_type(pixels: NDArray[Any], dtype: type[Any], where: str) -> NDArray[Any]:
    """Raises DataError: values are not of this type, unlike those of the images looked at first."""
    if pixels.dtype == np.float32 and dtype == np.uint8:
        raise DataError(
            f"{where} has images of bytes, and one with values between them: give all as bytes, or"
            " all as floats that are no bytes divided by 255"
        )
    return pixels.astype(dtype, copy=False)


def _checksum(pixels: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)


def _say_fields(items: Items) -> None:
    """Warns which fields of an item are used, if it has more than two."""
    item = items.dataset[0]
    if len(item) <= 2:
        return
    usage = "the first two are used"
    if isinstance(item, Mapping):
        names = list(map(str, item))
        taken = [next(n for n in known if n in names) for known in (IMAGE_COLUMNS, LABELS)]
        usage = f"{few(taken)} are used, not {few([name for name in names if name not in taken])}"
    warnings.warn(
        f"an item of {items.where} has {len(item)} fields: {usage}. To choose others, return"
        " (image, label).",
        NasAttnWarning,
        stacklevel=2,
    )


def _classes(dataset: Any, train: Labelled, kind: Kind, section: DataSection) -> tuple[str, ...]:
    """The classes' names in the data set's `classes`, or in `features` as in Hugging Face's; else
    numbers.
    """
    most = _highest_label(train, kind)
    begin = FIRST_CLASS[kind]
    of_image = kind in ("tags", "numbers")
    features = getattr(dataset, "features", None) or {}
    described = next((features[name] for name in LABELS if name in features), None)
    named = getattr(dataset, "classes", None) or getattr(described, "names", None) or ()
    if of_image and len(named) not in (0, most + 1):
        raise DataError(
            f"'{section.name}' names {several(len(named), 'label')} in classes, but an item has"
            f" {most + 1}: name each"
        )
    if named and len(named) <= most - begin:
        raise DataError(f"'{section.name}' names {len(named)} classes, but a label is {most}")
    classes = tuple(map(str, named or range(begin, most + 1)))
    if kind in ("classes", "masks") and len(classes) < 2:
        present = f"only class {most}" if classes else "no class"
        raise DataError(
            f"the training split of '{section.name}' has {present}: give two classes or more,"
            f" numbered from 0; in masks, {NOT_COUNTED} is not counted"
        )
    return classes


def _highest_label(part: Labelled, kind: Kind) -> int:
    """The highest class number, or that of the last label or column; -1 if every pixel of masks is
    without a class.
    """
    if part.targets is not None:
        return int(part.targets.shape[1]) - 1
    if part.boxes is not None:
        return int(np.abs(part.boxes[..., 0]).max())
    if kind == "masks":
        counted = part.pixels.histogram(every=True)[-1][:NOT_COUNTED]
        return int(np.flatnonzero(counted).max(initial=-1))
    return int(part.labels.max())


def _pixels(image: Image.Image | NDArray[Any], cut: Cut | None) -> NDArray[Any]:
    """uint8 or float32 (C, H, W), as large as the network's input."""
    if not isinstance(image, Image.Image):
        if image.dtype == np.float32:
            return image.transpose(2, 0, 1) if cut is None else fitted_bands(image, cut)
        bands = (Image.fromarray(band) for band in image.transpose(2, 0, 1))
        return np.concatenate([_pixels(band, cut) for band in bands])
    if cut is not None:
        image = fitted(image, cut, PADDING_GREY if image.mode == "RGB" else PADDING_GREY[1])
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _image_of_array(image: Any, where: str) -> Image.Image | NDArray[Any]:
    """An image from an array (H, W) or (H, W, C), or a tensor (C, H, W)."""
    array = np.asarray(image)
    if isinstance(image, Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    elif array.ndim == 3 and array.shape[2] > min(array.shape[:2]):
        raise DataError(
            f"{where} has an array of the shape {array.shape}, and arrays are (height, width,"
            f" channels): give a tensor, which is (channels, height, width), or transpose it"
        )
    if array.dtype.kind not in "uifb" or array.ndim < 2:
        described = f"{type(image).__name__} ({shorten(repr(image), 40)})"
        raise DataError(
            f"{where} has for an image a {described}: give a PIL image, an array or a tensor"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{where} has values that are no finite numbers: write one for them")
    array = _bytes_or_floats(array)
    if array.dtype == np.float32 and array.ndim == 2:
        array = array[..., None]
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim > 3 or array.shape[2:] > (MOST_CHANNELS,):
        raise DataError(
            f"{where} has an image of the shape {np.shape(image)}: give (H, W), (H, W, C) or a"
            f" tensor (C, H, W), with {MOST_CHANNELS} channels at most"
        )
    if array.dtype == np.float32 or (array.ndim == 3 and array.shape[2] != 3):
        return array
    return Image.fromarray(array)


def _bytes_or_floats(array: NDArray[Any]) -> NDArray[Any]:
    """Bytes, also where floats are bytes divided by 255; else float32, floats times 255, so that
    both have one scale.
    """
    values = array * 255.0 if array.dtype.kind == "f" else array
    whole = np.round(values)
    if whole.min() >= 0 and whole.max() <= 255 and np.abs(values - whole).max() <= BYTE_SLACK:
        return whole.astype(np.uint8)
    return values.astype(np.float32)


def _class_number(label: Any, where: str) -> int:
    number = np.asarray(label)
    if number.size > 1:
        raise DataError(
            f"{where} has several labels, {shorten(repr(label), 60)}: an image of a class has one"
            " class number; set task.name = 'multi-label' for labels of 0 and 1, 'regression' for"
            " numbers"
        )
    if number.dtype.kind not in "ui" or number.size != 1 or number.item() < 0:
        raise DataError(
            f"{where} has the label {shorten(repr(label))}, not a class number: give whole numbers"
            " from 0"
        )
    return int(number.item())


def _targets(label: Any, kind: Kind, where: str) -> NDArray[np.float32]:
    """(K,): 0 or 1 for each of several labels, or numbers."""
    try:
        values = np.atleast_1d(np.asarray(label).squeeze()).astype(np.float32)
    except (TypeError, ValueError):
        values = np.full(1, np.nan, np.float32)
    if kind == "tags" and not (values.ndim == 1 and np.isin(values, (0, 1)).all()):
        raise DataError(
            f"{where} has the label {shorten(repr(label), 60)}, not 0 or 1 for each of several"
            " labels: give an array (labels,) of them"
        )
    if not (values.ndim == 1 and np.isfinite(values).all()):
        raise DataError(
            f"{where} has the label {shorten(repr(label), 60)}, not a number or an array (columns,)"
            " of numbers: give one"
        )
    return values


def _mask(label: Any, where: str) -> NDArray[np.uint8]:
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
    if not isinstance(label, Mapping) or not {"boxes", "labels"} <= label.keys():
        raise DataError(f"{where} has no dictionary with boxes and labels: give one")
    boxes = np.asarray(label["boxes"], np.float32).reshape(-1, 4) * scale
    names = np.asarray(label["labels"], np.float32).reshape(-1, 1)
    if len(boxes) != len(names) or (names < 1).any() or (boxes[:, :2] > boxes[:, 2:]).any():
        raise DataError(
            f"{where}: boxes must be (K, 4) as left, top, right, bottom, and labels (K,) from 1"
        )
    return np.concatenate([names, boxes], 1)

"""A user's own `torch.utils.data.Dataset`: `data.name = "package.module:function"`, a function of
the split's name.

    def flowers(split: str) -> torch.utils.data.Dataset | None:   # "train", "validation", "test";
    None: there is no such split
        return Flowers("data/flowers", split)

An item is (image, label), or a dictionary with `image` and `label`; further fields are ignored. An
image is a PIL image, an array (H, W) or (H, W, C), or a tensor (C,
H, W), with up to 64 channels. Bytes stay bytes, and so do floats that are bytes divided by 255; all
other values are kept as float32.
A label is a class number; for several labels 0 or 1 for each of them, (K,); in regression a number,
or several, (K,); in segmentation a mask (H, W) of class numbers; in detection a dictionary
of `boxes`, (K, 4) as left, top, right, bottom in pixels, and `labels`, (K,) from 1.

All items are read once, at the beginning: transforms that training is to draw anew in each epoch
stand in `training.augment`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from nas_attn.data.cache import Scratch, cache_folder
from nas_attn.data.decoding import PADDING_GREY, Cut, fitted, fitted_bands, to_rgb
from nas_attn.data.image_file import is_deep
from nas_attn.data.inventory import NOT_COUNTED, WHOLE
from nas_attn.data.pixels import Feed, Images, images_file
from nas_attn.data.samples import Parts, Samples, box_table, checksums, detector_side
from nas_attn.data.table import NOT_KNOWN, is_number, number, of_known
from nas_attn.errors import DataError, NasAttnWarning, few, first_line, several, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Kind

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
# what a label must be
NEEDED: Mapping[Kind, str] = {
    "classes": "a class number: give whole numbers from 0; an image of several labels needs"
    " task.name = 'multi-label', one of numbers 'regression'",
    "tags": "0 or 1 for each of several labels: give an array (labels,) of them",
    "numbers": "a number or an array (columns,) of numbers: give one",
    "masks": f"a mask (H, W) of class numbers, 0 to {NOT_COUNTED - 1}: give one; {NOT_COUNTED} is"
    " not counted",
}


def read(function: Callable[..., Any], kind: Kind, section: DataSection) -> Parts:
    """Reads the splits of a user's function. Raises DataError: it fails, has no training images, an
    item is wrong, or images are to be fitted to no size.

    Args:
        function: Takes the name of a split and `data.options`, and returns its data, or None.
        kind: What their labels are.
        section: The recipe's data.
    """
    name = section.name
    size = detector_side(section) if kind == "boxes" else section.size
    if size is None and section.fit != "cut":
        raise DataError(
            f"data.fit = '{section.fit}' does nothing for '{name}' without data.size, since its"
            " images stay as they are: give data.size, too, or leave both out"
        )
    cut = None if size is None else Cut.of(size, "letterbox" if kind == "boxes" else section.fit)
    given = {split: _opened(function, split, section) for split in ("train", "validation", "test")}
    if given["train"] is None:
        raise DataError(f"data.name = '{name}' gives no data set for 'train': return one")

    def items(split: str) -> tuple[Samples, int]:
        return _read_items(Items(given[split], kind, section, cut, f"'{name}', {split}"))

    train, most = items("train")
    classes = _classes(given["train"], kind, most, name)
    last = len(classes) - (kind != "boxes")

    def scored(split: str) -> Samples:
        part, most = items(split)
        if most > last or (part.targets is not None and most < last):
            raise DataError(
                f"'{name}', {split} has labels up to number {most}, and the training split up to"
                f" {last}: give both the same"
            )
        return part

    return Parts(
        replace(train, classes=classes),
        None if given["validation"] is None else scored("validation"),
        lambda: scored("test"),
        "" if given["test"] is not None else f"'{name}' gives no data set for 'test'",
    )


def _opened(function: Callable[..., Any], split: str, section: DataSection) -> Any:
    """The data of a split, unread; None if there are none."""
    try:
        given = function(split, **section.options)
    except Exception as error:
        # a user's function
        raise DataError(
            f"data.name = '{section.name}' failed at '{split}': {shorten(first_line(error))}"
        ) from error
    # torch's own has both methods even where it is a stream
    has_items = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    if given is not None and (not has_items or isinstance(given, IterableDataset)):
        raise DataError(
            f"data.name = '{section.name}' gave a {type(given).__name__} for '{split}': return a"
            " torch.utils.data.Dataset, with a length and an item for each number, and its random"
            " transforms in training.augment; batches of your own need an evaluator"
            " (docs/how-to/own-training.md)"
        )
    return given


@dataclass(frozen=True)
class Items:
    """Converts an item of a data set, in the loading processes."""

    dataset: Any
    kind: Kind
    section: DataSection
    # None: images stay as large as they are
    cut: Cut | None
    # whose items they are
    where: str

    def __getitem__(self, at: int) -> tuple[NDArray[Any], Any]:
        """Returns an image, uint8 or float32 (C, H, W) with its mask as last channel, and the
        label: a number (of a mask, its highest class; -1: none), or numbers (K,), or boxes float32
        (K, 5). Raises DataError: the item is wrong.
        """
        try:
            return self._converted(*_fields(self.dataset[at]))
        except Exception as error:
            # a user's data set
            raise DataError(f"item {at} of {self.where}: {shorten(first_line(error))}") from error

    def _converted(self, given: Any, label: Any) -> tuple[NDArray[Any], Any]:
        """An image and its label. Raises ValueError: they are not as needed."""
        image = _image(given)
        channels = image.shape[2]
        if self.kind == "boxes":
            if image.dtype != np.uint8 or channels not in (1, 3):
                raise ValueError(
                    f"{image.dtype} values and {channels} channels: a detector takes bytes and"
                    " three channels"
                )
            image = image.repeat(3 // channels, axis=2)
        pixels = _pixels(image, self.cut)
        if self.kind == "boxes":
            return pixels, _boxes(label, pixels.shape[1] / max(image.shape[:2]))
        values = _values(label, self.kind, self.section.unknown)
        if self.kind == "classes":
            return pixels, int(values)
        if self.kind != "masks":
            return pixels, np.atleast_1d(values).astype(np.float32)
        mask = Image.fromarray(values.astype(np.uint8))
        if self.cut is not None:
            mask = fitted(mask, replace(self.cut, interpolation="nearest"), NOT_COUNTED)
        height, width = pixels.shape[1:]
        if mask.size != (width, height):
            raise ValueError(f"an image of {width}x{height} and a mask of {mask.size}")
        drawn = np.asarray(mask)
        highest = drawn.astype(int).max(initial=-1, where=drawn != NOT_COUNTED)
        return np.concatenate([pixels, drawn[None]]), highest


def _fields(item: Any) -> tuple[Any, Any]:
    """The image and the label of an item. Raises ValueError: it has none."""
    if isinstance(item, Mapping):
        if not {"image", "label"} <= item.keys():
            raise ValueError(f"the fields {few(list(map(str, item)))}: it needs image and label")
        return item["image"], item["label"]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ValueError(f"a {type(item).__name__}, not (image, label)")
    return item[0], item[1]


def _read_items(items: Items) -> tuple[Samples, int]:
    """Reads all items once; many images go into a file, which is mapped into memory. Also returns
    the highest class number, or that of the last label or column.
    """
    count = len(items.dataset)
    again = np.unique(np.linspace(0, count - 1, READ_AGAIN).round().astype(int)).tolist()
    looked = {at: items[at] for at in again}
    first, label_0 = looked[0]
    of_columns = items.kind in ("tags", "numbers")
    labels: list[Any] = []
    identity: list[int] = []

    def images() -> Iterator[NDArray[Any]]:
        feed = Feed(items, items.section.workers or 0, joined=list)
        parts = (part.tolist() for part in torch.split(torch.arange(count), TOGETHER))
        for at, (pixels, label) in enumerate(itertools.chain.from_iterable(feed(parts))):
            if pixels.shape != first.shape:
                raise DataError(
                    f"item {at} of {items.where} is {pixels.shape}, item 0 {first.shape}: set"
                    " data.size"
                )
            if of_columns and len(label) != len(label_0):
                raise DataError(
                    f"item {at} of {items.where} has {several(len(label), 'number')} for its"
                    f" labels, and item 0 {len(label_0)}: give one for each label or column"
                )
            labels.append(label)
            identity.extend(checksums([pixels]))
            yield pixels

    if count * first.size <= MOST_HELD_BYTES:
        kept = Images.of(torch.from_numpy(np.stack(list(images()))))
    else:
        deep = any(pixels.dtype != np.uint8 for pixels, _ in looked.values())
        kept = _in_file(images(), count, first.shape, np.float32 if deep else np.uint8, items.where)
    targets = np.stack(labels) if of_columns else None
    boxes = box_table(labels) if items.kind == "boxes" else None
    numbers = np.array(labels if items.kind in ("classes", "masks") else [0] * count)
    samples = Samples(
        numbers if items.kind == "classes" else np.zeros_like(numbers),
        (),
        np.full(count, WHOLE),
        targets=targets,
        boxes=boxes,
        identity=np.array(identity, np.int64),
        pixels=kept,
        # not changed by chance
        fixed=all(checksums([looked[at][0]])[0] == identity[at] for at in again),
    )
    most = int((numbers if boxes is None else boxes[..., 0]).max())
    if targets is not None:
        most = targets.shape[1] - 1
    known = of_known(samples.labels if targets is None else targets)
    if known.all():
        return samples, most
    warnings.warn(
        f"{several(int((~known).sum()), 'item')} of {items.where} left out: nothing is known of"
        " them, as data.unknown says",
        NasAttnWarning,
        stacklevel=2,
    )
    return samples.subset(np.flatnonzero(known)), most


def _in_file(
    images: Iterator[NDArray[Any]],
    count: int,
    shape: tuple[int, ...],
    dtype: type[np.uint8 | np.float32],
    where: str,
) -> Images:
    """Writes images into a file of this process's own. Raises DataError: it cannot be written, or
    values are of another type than those of the images looked at first.
    """
    channels, height, width = shape
    try:
        scratch = Scratch(cache_folder())
        with images_file(scratch.path, count, (channels, height, width), dtype) as write:
            for pixels in images:
                # bytes in a file of floats, but never the other way round
                write(pixels.astype(dtype, casting="safe", copy=False))
        return Images.mapped(scratch.path, scratch=scratch)
    except (OSError, TypeError) as error:
        raise DataError(
            f"the images of {where} cannot be kept in '{cache_folder()}': {error}"
        ) from None


def _classes(dataset: Any, kind: Kind, most: int, name: str) -> tuple[str, ...]:
    """The classes' names in the data set's `classes`, or in `features` as in Hugging Face's; else
    numbers, up to the highest of the training items.
    """
    begin = int(kind == "boxes")
    features = getattr(dataset, "features", None) or {}
    named = getattr(dataset, "classes", None) or getattr(features.get("label"), "names", None)
    classes = tuple(map(str, named or range(begin, most + 1)))
    needed = most + 1 - begin
    if len(classes) < needed or (kind in ("tags", "numbers") and len(classes) > needed):
        raise DataError(
            f"'{name}' names {several(len(classes), 'label')} in classes, but its items have"
            f" {needed}: name each"
        )
    if kind in ("classes", "masks") and len(classes) < 2:
        present = f"only class {most}" if classes else "no class"
        raise DataError(
            f"the training split of '{name}' has {present}: give two classes or more,"
            f" numbered from 0; in masks, {NOT_COUNTED} is not counted"
        )
    return classes


def _image(given: Any) -> NDArray[Any]:
    """uint8 or float32 (H, W, C) from an image of Pillow, an array (H, W) or (H, W, C), or a tensor
    (C, H, W). Raises ValueError: it is none of these.
    """
    if isinstance(given, Image.Image):
        if is_deep(given):
            return np.atleast_3d(np.asarray(given, np.float32))
        return np.atleast_3d(np.asarray(given if given.mode == "L" else to_rgb(given)))
    array = np.asarray(given)
    if isinstance(given, Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if (
        array.dtype.kind not in "uifb"
        or array.ndim not in (2, 3)
        or np.atleast_3d(array).shape[2] > min(MOST_CHANNELS, *array.shape[:2])
    ):
        raise ValueError(
            f"for an image a {type(given).__name__} ({shorten(repr(given), 40)}) of the shape"
            f" {tuple(np.shape(given))}: give a PIL image, an array (H, W) or (H, W, C), or a"
            f" tensor (C, H, W), with {MOST_CHANNELS} channels at most"
        )
    if not np.isfinite(array).all():
        raise ValueError("image values that are no finite numbers: write one for them")
    # floats and bytes have one scale
    values = np.atleast_3d(array * 255.0 if array.dtype.kind == "f" else array)
    whole = np.round(values)
    if whole.min() >= 0 and whole.max() <= 255 and np.abs(values - whole).max() <= BYTE_SLACK:
        return whole.astype(np.uint8)
    return values.astype(np.float32)


def _pixels(image: NDArray[Any], cut: Cut | None) -> NDArray[Any]:
    """(C, H, W), as large as the network's input."""
    if cut is None:
        return image.transpose(2, 0, 1)
    grey = PADDING_GREY if image.shape[2] == 3 else PADDING_GREY[1:2] * image.shape[2]
    return fitted_bands(image, cut, grey if image.dtype == np.uint8 else None)


def _values(label: Any, kind: Kind, unknown: list[str]) -> NDArray[np.float64]:
    """(): a class, or NOT_KNOWN; () or (K,): labels or numbers, NaN for unknown ones; (H, W): a
    mask, NOT_COUNTED for unknown pixels. Raises ValueError: it is none of these.
    """
    try:
        values = np.asarray(label, np.float64).squeeze()
    except (TypeError, ValueError):
        # of three dimensions, which no label has
        values = np.zeros((0, 0, 0))
    listed = np.isin(values, [number(cell) for cell in unknown if is_number(cell)])
    listed |= np.isnan(values) & ("" in unknown)
    whole = (values >= 0) & (values == np.floor(values))
    right = {
        "classes": whole,
        "tags": np.isin(values, (0, 1)),
        "numbers": np.isfinite(values),
        "masks": whole & (values <= NOT_COUNTED),
    }[kind]
    right |= listed
    dimensions = {"classes": (0,), "masks": (2,)}.get(kind, (0, 1))
    if values.ndim not in dimensions or not right.all():
        said = shorten(repr(label), 60)
        if kind == "masks" and values.ndim == 2:
            said = f"{values[~right][0]:.4g} in a mask"
        raise ValueError(f"the label {said}, not {NEEDED[kind]}")
    return np.where(listed, {"classes": NOT_KNOWN, "masks": NOT_COUNTED}.get(kind, np.nan), values)


def _boxes(label: Any, scale: float) -> NDArray[np.float32]:
    """(K, 5): class, left, top, right, bottom in pixels of the scaled image."""
    if not isinstance(label, Mapping) or not {"boxes", "labels"} <= label.keys():
        raise ValueError("no dictionary with boxes and labels: give one")
    boxes = np.asarray(label["boxes"], np.float32).reshape(-1, 4) * scale
    names = np.asarray(label["labels"], np.float32).reshape(-1, 1)
    if len(boxes) != len(names) or (names < 1).any() or (boxes[:, :2] > boxes[:, 2:]).any():
        raise ValueError(
            "boxes that are not (K, 4) as left, top, right, bottom, with labels (K,) from 1"
        )
    return np.concatenate([names, boxes], 1)

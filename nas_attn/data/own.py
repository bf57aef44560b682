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
shares of classes, or masks. They are read once, for labels, statistics and validation; training
takes new ones in each epoch.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot

from nas_attn.data.augment import seeded
from nas_attn.data.cache import Scratch, cache_folder
from nas_attn.data.dataset import Split
from nas_attn.data.decoding import Cut, framed, square, to_rgb
from nas_attn.data.depth import BYTE, is_deep
from nas_attn.data.inventory import FULL_BITS, NOT_COUNTED
from nas_attn.data.parts import DETECTOR_SIDE, Labelled, Parts, Place, box_table
from nas_attn.data.pixels import Feed, ImagesFile, InMemory, Mapped, Pixels, images_file
from nas_attn.errors import DataError, NasAttnWarning, few, first_line, shorten
from nas_attn.recipe.recipe import Augment, DataSection
from nas_attn.recipe.tables import Kind

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABELS = ("label", "labels", "mask", "annotation", "objects", "target")
# The least label, by the kind of labels
FIRST_CLASS = {"classes": 0, "masks": 0, "boxes": 1}
# At most so many bytes of images are held in memory
MOST_HELD_BYTES = 2**28
# items that one process converts at once
TOGETHER = 64
# items that are read again; a mirroring by chance leaves all as they were once in 65,536 times
READ_AGAIN = 16
# rounding error by which a DataLoader's values may leave 0 to 1
VALUE_SLACK = 0.01
# training images of a DataLoader that are kept for statistics
KEPT_IMAGES = 1000


def read(function: Callable[..., Any], kind: Kind, section: DataSection, place: Place) -> Parts:
    """Reads the splits of a user's function. Raises DataError: it fails, has no training images, or
    an item is wrong.

    Args:
        function: Takes the name of a split and `data.options`, and returns its data, or None.
        kind: What their labels are.
        section: The recipe's data.
        place: Where the images go.
    """
    name = section.name
    given = {split: _opened(function, split, section) for split in ("train", "validation", "test")}
    learnt = given["train"]
    if learnt is None:
        raise DataError(f"data.name = '{name}' gives no data set for 'train': return one")
    missing = "" if given["test"] is not None else f"'{name}' gives no data set for 'test'"
    bits = None if _is_loader(learnt) else _bits(learnt, kind, section, place)

    def part(split: str) -> Labelled:
        if given[split] is None:
            raise DataError(missing)
        where = f"'{name}', {split}"
        if _is_loader(given[split]):
            return _read_loader(given[split], kind, where, section)
        images = _read_items(Items(given[split], kind, section.size, where, bits), section, place)
        return replace(images, bits=bits or FULL_BITS)

    train = part("train")
    classes = _classes(learnt, train, kind, section)
    last = FIRST_CLASS[kind] + len(classes) - 1

    def scored(split: str) -> Labelled:
        images = part(split)
        most = _highest_label(images, kind)
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
    is_dataset = hasattr(given, "__getitem__") and hasattr(given, "__len__")
    if given is not None and not is_dataset and not _is_loader(given):
        raise DataError(
            f"data.name = '{section.name}' gave a {type(given).__name__} for '{split}': it must"
            " return a torch.utils.data.Dataset or a DataLoader, with a length"
        )
    return given


def _is_loader(given: Any) -> bool:
    """Whether an object gives batches: a DataLoader, or something like it."""
    iterates = hasattr(given, "__iter__") and hasattr(given, "__len__")
    return iterates and not hasattr(given, "__getitem__")


def _image_and_label(item: Any, where: str) -> tuple[Any, Any]:
    """The fields of an item or a batch that are used; `where` says whose it is."""
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
    size: int | None
    # whose items they are
    where: str
    # used of images with 16; None: they are not expected to have 16
    bits: int | None = None

    def __call__(self, number: int) -> tuple[NDArray[np.uint8], Any]:
        """Returns an image, uint8 (C, H, W) with its mask as last channel, and the label: a number,
        or boxes float32 (K, 5). Raises DataError: the item is wrong.
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
            side = self.size or DETECTOR_SIDE
            return framed(image, side), _boxes(label, side / max(image.size), where)
        pixels = np.asarray(image if self.size is None else square(Cut(self.size))(image))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self.kind == "classes":
            return pixels, _class_number(label, where)
        mask = Image.fromarray(_mask(label, where))
        if self.size is not None:
            mask = square(Cut(self.size, interpolation="nearest"))(mask)
        height, width = pixels.shape[1:]
        if mask.size != (width, height):
            raise DataError(f"{where} has an image of {width}x{height} and a mask of {mask.size}")
        return np.concatenate([pixels, np.asarray(mask)[None]]), 0

    def image(self, number: int) -> tuple[Image.Image, Any]:
        """Returns the image of an item, of mode L or RGB or with 16 bits, and the label as it
        is.
        """
        where = f"item {number} of {self.where}"
        try:
            item = self.dataset[number]
        except Exception as error:
            # a user's data set
            raise DataError(f"{where} cannot be read: {shorten(first_line(error))}") from error
        given, label = _image_and_label(item, where)
        image = given if isinstance(given, Image.Image) else _image_of_array(given, where)
        if image.mode == "L" or is_deep(image):
            return image, label
        try:
            return to_rgb(image), label
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None

    def largest(self, number: int) -> int:
        """Returns the largest value of an image with 16 bits; 0 if it has 8."""
        image, _ = self.image(number)
        return int(np.asarray(image).max()) if is_deep(image) else 0

    def each(self, convert: Callable[[int], Any], processes: int) -> Iterator[Any]:
        """Yields what a function makes of all items, in order."""
        numbers = range(len(self.dataset))
        batches = [list(numbers[start : start + TOGETHER]) for start in numbers[::TOGETHER]]
        return itertools.chain.from_iterable(Feed(convert, processes, stacked=False)(batches))


def _bits(dataset: Any, kind: Kind, section: DataSection, place: Place) -> int | None:
    """The bits that the training images use, if their first one has 16; else None."""
    if section.bits != "auto":
        return section.bits
    items = Items(dataset, kind, section.size, f"'{section.name}', train")
    if not is_deep(items.image(0)[0]):
        return None
    largest: int = max(items.each(items.largest, section.workers or place.processes))
    return max(BYTE, largest.bit_length())


def _read_items(items: Items, section: DataSection, place: Place) -> Labelled:
    """Reads all items once; many images go into a file, which is mapped into memory."""
    first, _ = items(0)
    if items.where.endswith("train"):
        _say_fields(items)
    count = len(items.dataset)
    labels: list[Any] = []
    identity = np.zeros(count, np.int64)

    def read_all(write: Callable[[NDArray[np.uint8]], object]) -> None:
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
    again = np.unique(np.linspace(0, count - 1, READ_AGAIN).round().astype(int)).tolist()
    # not changed by chance
    fixed = all(_checksum(items(number)[0]) == identity[number] for number in again)
    boxes = None
    if items.kind == "boxes":
        boxes = box_table(labels)
        labels = [0] * count
    return Labelled(kept, np.array(labels, np.int64), identity, boxes=boxes, fixed=fixed)


def _checksum(pixels: NDArray[np.uint8]) -> int:
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
    features = getattr(dataset, "features", None) or {}
    described = next((features[name] for name in LABELS if name in features), None)
    named = getattr(dataset, "classes", None) or getattr(described, "names", None) or ()
    if named and len(named) <= most - begin:
        raise DataError(f"'{section.name}' names {len(named)} classes, but a label is {most}")
    classes = tuple(map(str, named or range(begin, most + 1)))
    if kind != "boxes" and len(classes) < 2:
        present = f"only class {most}" if classes else "no class"
        raise DataError(
            f"the training split of '{section.name}' has {present}: give two classes or more,"
            f" numbered from 0; in masks, {NOT_COUNTED} is not counted"
        )
    return classes


def _highest_label(part: Labelled, kind: Kind) -> int:
    """The highest class number; -1 if every pixel of masks is without a class."""
    if part.boxes is not None:
        return int(np.abs(part.boxes[..., 0]).max())
    if kind == "masks":
        counted = part.pixels.histogram(every=True)[-1][:NOT_COUNTED]
        return int(np.flatnonzero(counted).max(initial=-1))
    return int(part.labels.max())


def _image_of_array(image: Any, where: str) -> Image.Image:
    """An image from bytes or 0 to 1: (H, W), (H, W, 1) or (H, W, 3); of a tensor (C, H, W)."""
    array = np.asarray(image)
    if isinstance(image, Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)
    if array.dtype.kind not in "uifb" or array.ndim < 2:
        described = f"{type(image).__name__} ({shorten(repr(image), 40)})"
        raise DataError(
            f"{where} has for an image a {described}: give a PIL image, an array or a tensor"
        )
    low = array.min()
    high = array.max()
    if array.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{where} has values from {low:.3g} to {high:.3g}: give bytes or 0 to 1"
            )
        array = np.round(array * 255)
    elif not (low >= 0 and high <= 255):
        raise DataError(
            f"{where} has values from {low} to {high}: give bytes, or a PIL image of mode I;16"
        )
    array = array.astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and array.shape[2:] != (3,):
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


@dataclass(frozen=True)
class LoaderSplit(Split):
    """Training images that a user's DataLoader makes anew in each epoch, in batches of its own, of
    which one or more make a step.

    `pixels` are only the first of them, as they were at the first reading; `labels` are of all.
    """

    loader: Any = field(kw_only=True)
    # what its labels are
    kind: Kind = field(kw_only=True)
    # batches that make one step, at most
    joined: int = field(default=1, kw_only=True)
    own_batches = True

    def first(self, count: int) -> Tensor:
        """Returns the first images at the first reading: uint8 (count, C, H, W) on the device."""
        index = torch.arange(min(count, len(self.pixels)), device=self.device)
        (images,) = self.pixels.fetch([index])
        # without masks
        return images[:, : len(self.mean)]

    def epoch(
        self,
        batch_size: int,  # noqa: ARG002 - as of `Split`
        *,
        seed: int,
        epoch: int,
        augment: Sequence[Augment],  # noqa: ARG002 - as of `Split`
        first_batch: int = 0,
        filled: bool = True,  # noqa: ARG002 - as of `Split`
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields one epoch of the DataLoader. Raises DataError: it ends too early.

        Args:
            batch_size: Does not count, nor do `augment` and `filled`.
            seed: Decides its random numbers, with `epoch`.
            epoch: Its number.
            augment: Empty.
            first_batch: The step to go on with.
            filled: Does not count.
        """
        batches = enumerate(seeded_batches(self.loader, (seed, epoch)))
        count = len(self.loader)
        steps = self.steps(0)
        for step in range(steps):
            # nearly as many for all steps, so that none is very small
            size = (step + 1) * count // steps - step * count // steps
            taken = list(itertools.islice(batches, size))
            if step >= first_batch:
                yield self._joined([self._ready(number, batch) for number, batch in taken])

    def _ready(self, number: int, batch: Any) -> tuple[Tensor, Tensor]:
        """A batch on the device."""
        images, y = _tensors_of(batch, self.kind, f"batch {number} of your DataLoader")
        images = images.to(self.device, non_blocking=True)
        x = self._normalised(images) if images.dtype == torch.uint8 else images.float()
        x = x.contiguous(memory_format=torch.channels_last)
        return x, y.to(self.device, non_blocking=True)

    def _joined(self, batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The images and labels of one step."""
        if len(batches) == 1:
            return batches[0]
        sizes = sorted({tuple(x.shape[1:]) for x, _ in batches})
        if len(sizes) > 1:
            raise DataError(
                f"training.accumulate joins batches of your DataLoader, which have images of"
                f" {sizes[0]} and {sizes[-1]}: give all one size, or leave it out"
            )
        labels = [y for _, y in batches]
        if any(y.is_floating_point() for y in labels):
            # some batches were mixed, by chance
            labels = [
                y if y.is_floating_point() else one_hot(y, self.classes).float() for y in labels
            ]
        return torch.cat([x for x, _ in batches]), torch.cat(labels)

    def check(self, augment: Sequence[Augment]) -> None:
        """Raises DataError: there are transforms."""
        if augment:
            raise DataError(
                "training.augment is not for a DataLoader of your own, which augments itself:"
                " remove it"
            )

    def in_steps_of(self, batches: int) -> LoaderSplit:
        """Returns the split for steps of so many of its batches."""
        return replace(self, joined=batches)

    def steps(self, batch_size: int) -> int:  # noqa: ARG002 - as of `Split`
        """Returns the number of steps in one epoch."""
        return -(-len(self.loader) // self.joined)

    def trained(
        self,
        batch_size: int,  # noqa: ARG002 - as of `Split`
        *,
        filled: bool = True,  # noqa: ARG002 - as of `Split`
    ) -> int:
        """Returns the number of images in one epoch."""
        return len(self)


def _read_loader(loader: Any, kind: Kind, where: str, section: DataSection) -> Labelled:
    """Reads all batches once, with images as bytes."""
    if kind == "boxes":
        raise DataError(
            f"{where} is a DataLoader, which cannot be used for detection: return a"
            " torch.utils.data.Dataset"
        )
    training = where.endswith(", train")
    labels: list[Tensor] = []
    images: list[Tensor] = []
    for number, batch in enumerate(seeded_batches(loader, (section.seed,))):
        described = f"batch {number} of {where}"
        x, y = _tensors_of(batch, kind, described)
        # shares of classes
        y = y.argmax(1) if y.is_floating_point() else y
        wrong = (y < 0) | (y > NOT_COUNTED) if kind == "masks" else y < 0
        if wrong.any():
            raise DataError(
                f"{described} has the label {y[wrong][0]}: give class numbers from 0; in masks,"
                f" {NOT_COUNTED} is not counted"
            )
        x = _as_bytes(x, section, "" if training else described)
        x = torch.cat([x, y[:, None].to(torch.uint8)], 1) if kind == "masks" else x
        if images and x.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{described} has images of {tuple(x.shape[1:])}, the first batch of"
                f" {tuple(images[0].shape[1:])}: give all one size"
            )
        if not training or sum(map(len, images)) < KEPT_IMAGES:
            images.append(x)
        labels.append(y.new_zeros(len(y)) if kind == "masks" else y)
    if not labels:
        raise DataError(f"{where} is a DataLoader without a batch: give it images")
    all_labels = torch.cat(labels).numpy()
    kept = torch.cat(images)
    if not training:
        return Labelled.of(kept.numpy(), all_labels)
    # augmented images do not identify the data
    return Labelled(InMemory(kept), all_labels, np.zeros_like(all_labels), loader=loader)


def _tensors_of(batch: Any, kind: Kind, where: str) -> tuple[Tensor, Tensor]:
    """A batch as it is read and trained on: images (B, C, H, W), and their labels: int64 class
    numbers (B,) or masks (B, H, W), or float32 shares of classes (B, classes).

    Raises DataError: it is something else. `where`: whose batch it is.
    """
    x, y = _image_and_label(batch, where)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.ndim != 4 or len(x) != len(y):
        raise DataError(f"{where} must be tensors: images (B, C, H, W) and B labels")
    if kind == "classes" and y.is_floating_point() and y.ndim == 2:
        return x, y.float()
    expected = (len(x), *x.shape[2:]) if kind == "masks" else (len(x),)
    if y.is_floating_point() or y.shape != expected:
        dtype = str(y.dtype).removeprefix("torch.")
        raise DataError(
            f"{where} has labels of {dtype} {tuple(y.shape)}, which are not {kind}: give whole"
            f" numbers {tuple(expected)}"
        )
    return x, y.long()


def seeded_batches(loader: Any, seed: tuple[int, ...]) -> Iterator[Any]:
    """Yields the batches of a user's DataLoader. Its random numbers depend only on the seed, and it
    does not change other generators. Raises DataError: it fails, or has fewer batches than its
    length.
    """
    iterator = None
    count = len(loader)
    for number in range(count):
        with seeded((*seed, number)):
            try:
                if iterator is None:
                    for owner in (loader, getattr(loader, "sampler", None)):
                        if generator := getattr(owner, "generator", None):
                            generator.manual_seed(torch.initial_seed())
                    iterator = iter(loader)
                batch = next(iterator, None)
            except Exception as error:
                # a user's data set
                raise DataError(
                    f"batch {number} of your DataLoader cannot be read:"
                    f" {shorten(first_line(error))}"
                ) from error
        if batch is None:
            raise DataError(
                f"your DataLoader has a length of {count} batches, but gives {number}: correct its"
                " length"
            )
        yield batch


def _as_bytes(x: Tensor, section: DataSection, where: str) -> Tensor:
    """Bytes from a DataLoader's normalised images (`data.mean`, `data.std`). `where`: for errors
    about wrong values; empty: clips.
    """
    if x.dtype == torch.uint8:
        return x
    mean = torch.tensor(section.mean or [0.0])[:, None, None]
    x = x.float() * torch.tensor(section.std or [1.0])[:, None, None] + mean
    low = x.min().item()
    high = x.max().item()
    if where and not (low >= -VALUE_SLACK and high <= 1 + VALUE_SLACK):
        raise DataError(
            f"{where} has values from {low:.3g} to {high:.3g}: set data.mean and data.std to what"
            " it normalises with"
        )
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)

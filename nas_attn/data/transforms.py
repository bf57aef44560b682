"""Augmentation by name: torchvision's v2 transforms and a user's own, applied to each image and what belongs to it.

A transform gets a `tv_tensors.Image`, uint8 (C, H, W); with it a `tv_tensors.Mask` in a segmentation, and a dictionary of `boxes`
(`tv_tensors.BoundingBoxes`) and `labels` in a detection. It returns as many. What mixes images (MixUp, CutMix) gets a normalised
batch and its labels instead.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.data.pixels import Pixels
from nas_attn.errors import DataError, did_you_mean, first_line, shorten
from nas_attn.importing import load_object
from nas_attn.recipe import BATCHED, Augment

Named = tuple[str, Callable[..., Any]]
"""A transform and its name in a recipe."""
CONVERTING = ("Normalize", "ToDtype", "ConvertImageDtype", "ToTensor")
"""What torchvision's recipes end with, and is done here after all augmentation."""
MIXES = "num_classes"
"""Argument of the transforms that mix the images of a batch."""


@dataclass(frozen=True)
class Made:
    """What transforms are made for."""

    classes: int
    size: tuple[int, int]
    """(height, width) of the images: a transform's own `size` where a recipe gives none."""
    masked: bool
    """Whether an image's last channel is its mask."""


def per_image(augment: Sequence[Augment], made_for: Made) -> tuple[Named, ...]:
    """The transforms of single images, in order.

    Raises:
        DataError: a name is unknown, or its arguments are wrong.
    """
    others = [one for one in augment if one.name not in BATCHED]
    return tuple((one.name, _made(one, made_for)) for one in others if not _mixes(one))


def per_batch(augment: Sequence[Augment], made_for: Made) -> tuple[Named, ...]:
    """The transforms of whole batches with their labels, in order.

    Raises:
        DataError: a name is unknown, or its arguments are wrong.
    """
    others = [one for one in augment if one.name not in BATCHED]
    return tuple((one.name, _made(one, made_for)) for one in others if _mixes(one))


@dataclass(frozen=True)
class Transformed:
    """Images of a split, each transformed when it is asked for. It goes to the processes that load."""

    pixels: Pixels
    boxes: Tensor | None
    """float32 (N, M, 5), on the CPU, of images with boxes."""
    masked: bool
    """Whether an image's last channel is its mask."""
    steps: tuple[Named, ...]

    def __call__(self, drawn: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The image of an index, uint8 (C, H, W), and its boxes (M, 5), by an index and the seed of its random decisions.

        Raises:
            DataError: a transform fails, or gives something else than such an image.
        """
        index, seed = drawn
        _seed(seed)
        stored = self.pixels.item(index)
        boxes = torch.zeros(0, 5) if self.boxes is None else self.boxes[index]
        parts = self._parts(stored, boxes)
        for name, step in self.steps:
            try:
                found = step(*parts)
            except Exception as error:  # a transform may be anybody's
                raise DataError(f"training.augment: '{name}' failed: {shorten(first_line(error))}") from error
            parts = list(found) if isinstance(found, tuple | list) else [found]
        return self._image(parts, stored), self._boxes(parts, boxes, stored.shape[-2:])

    def _parts(self, stored: Tensor, boxes: Tensor) -> list[Any]:
        from torchvision import tv_tensors

        if self.masked:
            return [tv_tensors.Image(stored[:-1]), tv_tensors.Mask(stored[-1:])]
        image = tv_tensors.Image(stored)
        if self.boxes is None:
            return [image]
        there = boxes[boxes[:, 0] != 0]
        size: Any = tuple(stored.shape[-2:])
        inside = tv_tensors.BoundingBoxes(there[:, 1:], format="XYXY", canvas_size=size)
        return [image, {"boxes": inside, "labels": there[:, 0].long()}]

    def _image(self, parts: Sequence[Any], stored: Tensor) -> Tensor:
        image, named = parts[0], " then ".join(name for name, _ in self.steps)
        if not isinstance(image, Tensor) or image.dtype != torch.uint8:
            kind = str(image.dtype).removeprefix("torch.") if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"training.augment: '{named}' gives images of {kind}, not uint8 tensors: leave out ToDtype and Normalize, images are "
                "normalised afterwards (data.mean, data.std)"
            )
        whole = torch.cat([image, parts[1].to(torch.uint8).view(1, *image.shape[-2:])]) if self.masked else image
        if len(whole) != len(stored) or (self.boxes is not None and whole.shape != stored.shape):
            now, before = ("x".join(map(str, one.shape)) for one in (whole, stored))
            raise DataError(
                f"training.augment: '{named}' makes images of {now}, but the network is fed {before}: choose a transform that keeps that"
            )
        return whole.as_subclass(Tensor).contiguous()

    def _boxes(self, parts: Sequence[Any], before: Tensor, size: Sequence[int]) -> Tensor:
        """What is left of the boxes, in a table as large as before; one without a surface is none."""
        table = torch.zeros_like(before)
        if self.boxes is None:
            return table
        found, labels = parts[1]["boxes"].as_subclass(Tensor).float(), parts[1]["labels"]
        found[:, 0::2] = found[:, 0::2].clamp(0, size[1])
        found[:, 1::2] = found[:, 1::2].clamp(0, size[0])
        there = (found[:, 0] < found[:, 2]) & (found[:, 1] < found[:, 3])
        rows = torch.cat([labels[:, None].float(), found], 1)[there]
        table[: len(rows)] = rows
        return table


def mixed(steps: Sequence[Named], x: Tensor, y: Tensor, seed: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A batch, x float32 (B, C, H, W) and y int64 (B,), mixed: y becomes float32 (B, classes) shares.

    Raises:
        DataError: it cannot be done.
    """
    with seeded(seed):
        for name, step in steps:
            try:
                x, y = step(x, y)
            except Exception as error:
                raise DataError(f"training.augment: '{name}' failed: {shorten(first_line(error))}") from error
    return x, y


@contextmanager
def seeded(seed: tuple[int, ...]) -> Iterator[None]:
    """The generators of torch, NumPy and Python begin with a seed, and are as before afterwards."""
    before, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        _seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        try:
            yield
        finally:
            np.random.set_state(before)
            random.setstate(python)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _mixes(one: Augment) -> bool:
    """Whether a transform takes a batch with its labels, or chooses among such."""
    inner = one.arguments.get("transforms")
    if isinstance(inner, list) and inner:
        return any(_mixes(_inner(entry)) for entry in inner if isinstance(entry, dict))
    return ":" not in one.name and MIXES in inspect.signature(_find(one.name)).parameters


def _find(name: str) -> type[Any]:
    from torchvision.transforms import v2  # an import of a second, for recipes that name one

    known = {key: cls for key, cls in vars(v2).items() if isinstance(cls, type) and issubclass(cls, v2.Transform)}
    if name in CONVERTING:
        raise DataError(f"training.augment: leave out '{name}': images are normalised afterwards (data.mean, data.std)")
    if name not in known:
        raise DataError(
            f"training.augment: torchvision has no transform '{name}': {did_you_mean(name, [*BATCHED, *known])}"
        )
    return known[name]


def _made(one: Augment, made_for: Made) -> Callable[..., Any]:
    """The transform of an entry; entries within its arguments (`transforms` of RandomApply) are made, too."""
    arguments = {key: _argument(value, made_for) for key, value in one.arguments.items()}
    if ":" in one.name:
        make = load_object(one.name, what="training.augment", error=DataError)
    else:
        make = _find(one.name)
        parameters = inspect.signature(make).parameters
        for key in arguments.keys() - parameters.keys():
            known = did_you_mean(key, parameters)
            raise DataError(f"training.augment: '{one.name}' has no argument '{key}': {known}")
        if MIXES in parameters:
            arguments.setdefault(MIXES, made_for.classes)
        if "size" in parameters and parameters["size"].default is inspect.Parameter.empty:
            arguments.setdefault("size", list(made_for.size))
        if made_for.masked and "fill" in parameters:  # what comes in from beside the image does not count
            from torchvision import tv_tensors

            arguments["fill"] = {tv_tensors.Mask: NOT_COUNTED, "others": arguments.get("fill") or 0}
    try:
        transform = make(**arguments)
    except Exception as error:
        raise DataError(f"training.augment: '{one.name}' cannot be made: {shorten(first_line(error))}") from error
    if not callable(transform):
        raise DataError(
            f"training.augment: '{one.name}' returned a {type(transform).__name__}, not a transform: return something that can be "
            "called with an image"
        )
    return transform  # type: ignore[no-any-return]


def _inner(entry: Mapping[str, Any]) -> Augment:
    """An entry within another one's arguments."""
    try:
        return Augment.model_validate(entry)
    except ValidationError as error:
        raise DataError(f"training.augment: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def _argument(value: Any, made_for: Made) -> Any:
    if isinstance(value, Mapping) and "name" in value:
        return _made(_inner(value), made_for)
    return [_argument(one, made_for) for one in value] if isinstance(value, list) else value

"""Batched augmentation, decided for a whole epoch at once and applied to normalised batches on the
device.

An epoch's random decisions are a function of (seed, epoch): the same for every candidate and
device, from any batch on. Pixels outside the image have the mean colour: 0 after normalisation.

Transforms by name, torchvision's v2 and a user's own, get one `tv_tensors.Image`, uint8 (C, H, W);
in segmentation also its `Mask`, in detection a dictionary of `boxes` and `labels`. They return the
same number of values. Transforms that mix images get a batch.
"""

from __future__ import annotations

import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import one_hot, pad

from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.pixels import Images
from nas_attn.errors import DataError, did_you_mean, first_line, shorten
from nas_attn.recipe.protocol import BATCHED_TRANSFORMS
from nas_attn.recipe.recipe import Augment
from nas_attn.system.importing import load_object


@dataclass(frozen=True)
class EpochPlan:
    """One epoch's order and random decisions, of batches of B images each."""

    # int64 (batches, B): the images' indices
    batches: Tensor
    # bool (batches, B)
    mirrored: Tensor | None
    # int64 (batches, B, 2): row and column at which the crop starts in the padded image, mirrored
    # or not
    corner: Tensor | None
    padding: int
    # of the epoch, for transforms of single images
    seed: tuple[int, int]
    # for each batch, the image's own share in mixup (Zhang et al., 1710.09412)
    blend: list[float] | None

    @classmethod
    def draw(
        cls,
        count: int,
        batch_size: int,
        augment: Sequence[Augment],
        *,
        seed: tuple[int, int],
        device: torch.device,
    ) -> EpochPlan:
        """Decides one epoch. Every batch has `batch_size` images, the last one filled from the
        epoch's beginning, over and over where the images are fewer: a batch of another size would
        be recorded, compiled and tuned for a second time.

        Args:
            count: How many images there are.
            batch_size: Of how many images a batch is made.
            augment: The recipe's transforms.
            seed: The training's, and the epoch.
            device: Where the batches are.
        """
        asked: dict[str, dict[str, Any]] = {
            step.name: step.arguments for step in augment if step.name in BATCHED_TRANSFORMS
        }
        random = np.random.default_rng(seed)
        # Repeated augmentation (Hoffer et al., 1901.09335), as in timm: an epoch has as many
        # images, but fewer different ones.
        times = int(asked.get("repeat", {}).get("times", 1))
        drawn = random.permutation(count).repeat(times)[:count]
        batches = np.resize(drawn, (-(-count // batch_size), batch_size))
        # copies are not neighbours in their batch, since neighbours are mixed
        batches = batches[:, np.argsort(np.arange(batch_size) % times, kind="stable")]

        mirrored = random.random(batches.shape) < 0.5 if "flip" in asked else None
        padding = int(asked.get("crop", {}).get("padding", 0))
        corner = None
        if padding:
            corner = random.integers(0, (2 * padding + 1,) * 2, (*batches.shape, 2))
            if mirrored is not None:
                # drawn for the unmirrored image
                corner[mirrored, 1] = 2 * padding - corner[mirrored, 1]
        alpha = asked.get("mixup", {}).get("alpha", 0.0)
        blend = random.beta(alpha, alpha, len(batches)).tolist() if alpha else None
        order, flips, corners = (
            None if one is None else torch.from_numpy(one).to(device)
            for one in (batches, mirrored, corner)
        )
        assert order is not None
        return cls(order, flips, corners, padding, seed, blend)

    def drawn(self, first: int) -> list[list[tuple[int, int]]]:
        """Returns, for each batch from `first` on, each image's index and the seed of its own
        random decisions.
        """
        seeds = np.random.default_rng((*self.seed, 1)).integers(0, 2**62, self.batches.shape)
        rows = zip(self.batches[first:].tolist(), seeds[first:].tolist(), strict=True)
        return [list(zip(index, own, strict=True)) for index, own in rows]

    def mirror(self, number: int, images: Tensor) -> Tensor:
        """Mirrors the chosen images of batch `number`, uint8 (B, C, H, W): cheaper than after
        normalisation.
        """
        if self.mirrored is None:
            return images
        rows = images.permute(0, 2, 3, 1)
        each = torch.arange(len(rows), device=rows.device)
        both = torch.stack([rows, rows.flip(2)])
        return both[self.mirrored[number].long(), each].permute(0, 3, 1, 2)

    def apply(self, number: int, x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Crops and mixes a batch that is mirrored already.

        Args:
            number: Of the batch.
            x: float32 (B, C, H, W).
            y: int64 (B,).
            classes: How many there are.

        Returns:
            x, and y as int64 (B,) or float32 (B, classes).
        """
        x = self._cropped(number, x)
        if self.blend is None:
            return x, y
        share = self.blend[number]
        shares = one_hot(y, classes).to(x.dtype)
        return torch.lerp(x.roll(1, 0), x, share), torch.lerp(shares.roll(1, 0), shares, share)

    def apply_mask(self, number: int, mask: Tensor) -> Tensor:
        """Crops mirrored masks of batch `number`, uint8 (B, 1, H, W), to int64 (B, H, W); outside
        the image they are NOT_COUNTED.
        """
        return self._cropped(number, mask, NOT_COUNTED)[:, 0].long()

    def _cropped(self, number: int, x: Tensor, beside: int = 0) -> Tensor:
        """Crops each image of a batch (B, C, H, W) from its padded one; the result lies in
        channels-last order.
        """
        if self.corner is None:
            return x
        batch, channels, height, width = x.shape
        padded = pad(x, (self.padding,) * 4, value=beside).permute(0, 2, 3, 1)
        # a view of all runs of pixels as long as a row
        runs = padded.flatten(2).unfold(2, width * channels, channels)
        top, left = self.corner[number][..., None].unbind(1)
        images = torch.arange(batch, device=x.device)[:, None]
        rows = runs[images, top + torch.arange(height, device=x.device), left]
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def apply_boxes(self, number: int, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Mirrors and crops the boxes of batch `number` as their images of `size` (H, W): float32
        (B, M, 5), class 0: none.
        """
        height, width = size
        table = boxes.clone()
        # left and right, top and bottom: views
        across = table[..., 1::2]
        down = table[..., 2::2]
        if self.mirrored is not None:
            turned = self.mirrored[number][:, None, None]
            across.copy_(torch.where(turned, width - across.flip(2), across))
        if self.corner is not None:
            shift = (self.padding - self.corner[number])[:, None]
            down.add_(shift[..., :1]).clamp_(0, height)
            across.add_(shift[..., 1:]).clamp_(0, width)
        return table * _have_area(table)[..., None]


def _have_area(boxes: Tensor) -> Tensor:
    """Whether the right and bottom of boxes (..., 5) are beyond left and top."""
    return (boxes[..., 1:3] < boxes[..., 3:]).all(-1)


Named = tuple[str, Callable[..., Any]]
# Done by nas_attn after all augmentation
CONVERTING = (
    "Normalize",
    "ToDtype",
    "ConvertImageDtype",
    "ToTensor",
)
# argument of the transforms that mix the images of a batch
MIXES = "num_classes"


@dataclass(frozen=True)
class TransformedImages:
    """The images for which transforms are made."""

    classes: int
    # (height, width) of the images: default `size` of transforms
    size: tuple[int, int]
    masked: bool
    # colour of the images: 0 to 255, or of float32 from 0 to 1
    mean: tuple[float, ...]


def named_steps(
    augment: Sequence[Augment], made_for: TransformedImages
) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
    """Makes the transforms of single images, and those of whole batches, in order. Raises
    DataError: a name or an argument is wrong.
    """
    single: list[Named] = []
    mixing: list[Named] = []
    for step in augment:
        if step.name not in BATCHED_TRANSFORMS:
            steps = mixing if _mixes(step) else single
            steps.append((step.name, _made(step, made_for)))
    return tuple(single), tuple(mixing)


@dataclass(frozen=True)
class Transformed:
    """Images of a split, each transformed on access. It is sent to the loading processes."""

    pixels: Images
    # float32 (N, M, 5), on the CPU, of images with boxes
    boxes: Tensor | None
    masked: bool
    steps: tuple[Named, ...]

    def __getitem__(self, drawn: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """An image, uint8 (C, H, W), and its boxes (M, 5), by (index, seed); DataError: a transform
        failed.
        """
        index, seed = drawn
        stored = self.pixels.item(index)
        boxes = torch.zeros(0, 5) if self.boxes is None else self.boxes[index]
        parts = self._parts(stored, boxes)
        # without loading processes, dropout draws from the same generators
        with seeded(seed):
            for name, step in self.steps:
                with _named(f"'{name}' failed"):
                    transformed = step(*parts)
                parts = [*transformed] if isinstance(transformed, tuple | list) else [transformed]
        return self._image(parts, stored), self._boxes(parts, boxes, stored.shape[-2:])

    def _parts(self, stored: Tensor, boxes: Tensor) -> list[Any]:
        from torchvision import tv_tensors

        seen = stored[:-1] if self.masked else stored
        # torchvision's floats are from 0 to 1
        image = tv_tensors.Image(seen / 255 if seen.is_floating_point() else seen)
        if self.masked:
            return [image, tv_tensors.Mask(stored[-1:])]
        if self.boxes is None:
            return [image]
        there = boxes[boxes[:, 0] != 0]
        size: Any = tuple(stored.shape[-2:])
        inside = tv_tensors.BoundingBoxes(there[:, 1:], format="XYXY", canvas_size=size)
        return [image, {"boxes": inside, "labels": there[:, 0].long()}]

    def _image(self, parts: Sequence[Any], stored: Tensor) -> Tensor:
        image = parts[0]
        said = type(image).__name__
        if isinstance(image, Tensor):
            whole = image * 255 if image.is_floating_point() else image
            if self.masked:
                mask = parts[1].to(image.dtype).view(1, *image.shape[-2:])
                whole = torch.cat([whole, mask])
            keeps_size = self.boxes is None or whole.shape == stored.shape
            if whole.dtype == stored.dtype and len(whole) == len(stored) and keeps_size:
                return whole.as_subclass(Tensor).contiguous()
            said = _described(whole)
        raise DataError(
            f"training.augment: '{' then '.join(name for name, _ in self.steps)}' makes {said} of"
            f" {_described(stored)}: choose one that keeps type and channels, and for boxes the"
            " size; images are normalised afterwards (data.mean, data.std)"
        )

    def _boxes(self, parts: Sequence[Any], before: Tensor, size: Sequence[int]) -> Tensor:
        """The transformed boxes in a table of the same size; a box without area is dropped."""
        table = torch.zeros_like(before)
        if self.boxes is None:
            return table
        labels = parts[1]["labels"][:, None]
        rows = torch.cat([labels.float(), parts[1]["boxes"].as_subclass(Tensor).float()], 1)
        rows[:, 1::2].clamp_(0, size[1])
        rows[:, 2::2].clamp_(0, size[0])
        rows = rows[_have_area(rows)]
        table[: len(rows)] = rows
        return table


def _described(image: Tensor) -> str:
    """`uint8 3x32x32`."""
    return f"{str(image.dtype).removeprefix('torch.')} {'x'.join(map(str, image.shape))}"


def mixed(
    steps: Sequence[Named], x: Tensor, y: Tensor, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mixes a batch. Raises DataError: a transform failed.

    Args:
        steps: The transforms, in order.
        x: float32 (B, C, H, W).
        y: int64 (B,).
        seed: Of their random decisions.

    Returns:
        x, and y as float32 (B, classes).
    """
    with seeded(int(np.random.SeedSequence(seed).generate_state(1)[0])):
        for name, step in steps:
            with _named(f"'{name}' failed"):
                x, y = step(x, y)
    return x, y


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Any error inside, of a transform that may be a user's, becomes a DataError."""
    try:
        yield
    except Exception as error:
        raise DataError(f"training.augment: {what}: {shorten(first_line(error))}") from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the generators of torch, NumPy and Python start from a seed; afterwards they are as
    before. Those of GPUs are among torch's, in a process that uses one.
    """
    uses_gpus: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if uses_gpus else ()
    before = np.random.get_state()
    python = random.getstate()
    with torch.random.fork_rng(devices=gpus, device_type="cuda"):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
            random.setstate(python)


def _mixes(step: Augment) -> bool:
    """Whether a transform mixes a batch with its labels, or chooses among such transforms."""
    inner = step.arguments.get("transforms")
    if isinstance(inner, list) and inner:
        return any(_mixes(_inner(entry)) for entry in inner if isinstance(entry, dict | str))
    return ":" not in step.name and MIXES in inspect.signature(_find(step.name)).parameters


def _find(name: str) -> type[Any]:
    # an import of a second, for recipes that name one
    from torchvision.transforms import v2

    transforms_by_name = {
        key: cls
        for key, cls in vars(v2).items()
        if isinstance(cls, type) and issubclass(cls, v2.Transform)
    }
    if name in CONVERTING:
        raise DataError(
            f"training.augment: leave out '{name}': images are normalised afterwards (data.mean,"
            " data.std)"
        )
    if name not in transforms_by_name:
        raise DataError(
            f"training.augment: torchvision has no '{name}':"
            f" {did_you_mean(name, [*BATCHED_TRANSFORMS, *transforms_by_name])}"
        )
    return transforms_by_name[name]


def _made(step: Augment, made_for: TransformedImages) -> Callable[..., Any]:
    """The transform of an entry; entries within its arguments (`transforms` of RandomApply) are
    made, too.
    """
    arguments = {key: _argument(value, made_for) for key, value in step.arguments.items()}
    if isinstance(named := arguments.get("transforms"), tuple):
        arguments["transforms"] = [
            _made(_inner(each), made_for) if isinstance(each, str) else each for each in named
        ]
    if ":" in step.name:
        make = load_object(step.name, what="training.augment", error=DataError)
    else:
        make = _find(step.name)
        _complete(arguments, inspect.signature(make).parameters, step.name, made_for)
    with _named(f"'{step.name}' cannot be made"):
        transform = make(**arguments)
    if type(transform).__module__.partition(".")[0] == "albumentations":
        raise DataError(
            f"training.augment: '{step.name}' gives a transform of albumentations, which takes"
            " arrays by name: name one of torchvision's (transforms.v2), or return a function of an"
            " image, a tensor (C, H, W)"
        )
    return transform  # type: ignore[no-any-return]


def _complete(
    arguments: dict[str, Any],
    parameters: Mapping[str, inspect.Parameter],
    name: str,
    made_for: TransformedImages,
) -> None:
    """Adds to a transform's arguments, in place, what the data set decides: classes, size, mean.

    Raises DataError: the transform has no such argument.
    """
    from torchvision.transforms import InterpolationMode

    for key in arguments.keys() - parameters.keys():
        near_names = did_you_mean(key, parameters)
        raise DataError(f"training.augment: '{name}' has no argument '{key}': {near_names}")
    if MIXES in parameters:
        arguments.setdefault(MIXES, made_for.classes)
    if "size" in parameters and parameters["size"].default is inspect.Parameter.empty:
        arguments.setdefault("size", list(made_for.size))
    if (way := arguments.get("interpolation")) in [mode.value for mode in InterpolationMode]:
        # torchvision 0.26 takes no text
        arguments["interpolation"] = InterpolationMode(way)
    # 0 after normalisation, as in published recipes
    if name == "RandomErasing":
        arguments.setdefault("value", list(made_for.mean))
        # masks and boxes stay
        warnings.filterwarnings("ignore", r"RandomErasing\(\) is currently passing through")
    # pixels from outside the image do not count
    if made_for.masked and "fill" in parameters:
        from torchvision import tv_tensors

        arguments["fill"] = {tv_tensors.Mask: NOT_COUNTED, "others": arguments.get("fill") or 0}


def _inner(entry: Mapping[str, Any] | str) -> Augment:
    """An entry within another one's arguments."""
    try:
        return Augment.model_validate(entry)
    except ValidationError as error:
        raise DataError(
            f"training.augment: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None


def _argument(value: Any, made_for: TransformedImages) -> Any:
    """An argument for a library: named entries are made, and a list becomes a tuple (as Pillow's
    colours must be).
    """
    if isinstance(value, Mapping):
        if "name" in value:
            return _made(_inner(value), made_for)
        return {k: _argument(v, made_for) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(_argument(element, made_for) for element in value)
    return value

"""A user's DataLoader, or what is like it: its batches are read once, for labels, statistics and
validation, and training takes new ones from it in each epoch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from nas_attn.data.augment import seeded
from nas_attn.data.dataset import Split
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.own_fields import image_and_label
from nas_attn.data.parts import Labelled
from nas_attn.errors import DataError, first_line, shorten
from nas_attn.recipe.recipe import Augment, DataSection
from nas_attn.recipe.tables import Kind

# rounding error by which a DataLoader's values may leave 0 to 1
VALUE_SLACK = 0.01
# training images of a DataLoader that are kept for statistics
KEPT_IMAGES = 1000


def is_loader(given: Any) -> bool:
    """Whether an object gives batches: a DataLoader, or something like it."""
    return (
        hasattr(given, "__iter__")
        and hasattr(given, "__len__")
        and not hasattr(given, "__getitem__")
    )


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
        """The first images at the first reading: uint8 (count, C, H, W) on the device."""
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
        """One epoch of the DataLoader, its random numbers by `seed` and `epoch`. Raises DataError:
        it ends too early.
        """
        batches = enumerate(seeded_batches(self.loader, (seed, epoch)))
        for step, count in enumerate(self._batches_of_steps()):
            taken = list(itertools.islice(batches, count))
            if step >= first_batch:
                yield self._joined([self._ready(number, batch) for number, batch in taken])

    def _batches_of_steps(self) -> list[int]:
        """How many batches make each step: nearly as many for all, so that none is very small."""
        batches = len(self.loader)
        steps = self.steps(0)
        return [(step + 1) * batches // steps - step * batches // steps for step in range(steps)]

    def _ready(self, number: int, batch: Any) -> tuple[Tensor, Tensor]:
        """A batch on the device."""
        images, y = tensors_of(batch, self.kind, f"batch {number} of your DataLoader")
        images = images.to(self.device, non_blocking=True)
        x = self._normalised(images) if images.dtype == torch.uint8 else images.float()
        return (
            x.contiguous(memory_format=torch.channels_last),
            y.to(self.device, non_blocking=True),
        )

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
        """The split for steps of so many of its batches."""
        return replace(self, joined=batches)

    def steps(self, batch_size: int) -> int:  # noqa: ARG002 - as of `Split`
        """Steps in one epoch."""
        return -(-len(self.loader) // self.joined)

    def trained(
        self,
        batch_size: int,  # noqa: ARG002 - as of `Split`
        *,
        filled: bool = True,  # noqa: ARG002 - as of `Split`
    ) -> int:
        """Images in one epoch."""
        return len(self)


def read_loader(loader: Any, kind: Kind, where: str, section: DataSection) -> Labelled:
    """Reads all batches once, with images as bytes; in training, the loader gives new batches in
    each epoch.
    """
    if kind == "boxes":
        raise DataError(
            f"{where} is a DataLoader, which cannot be used for detection: return a"
            " torch.utils.data.Dataset"
        )
    training = where.endswith(", train")
    labels = []
    images: list[Tensor] = []
    shape: torch.Size | None = None
    for number, batch in enumerate(seeded_batches(loader, (section.seed,))):
        described = f"batch {number} of {where}"
        x, y = tensors_of(batch, kind, described)
        # shares of classes
        y = y.argmax(1) if y.is_floating_point() else y
        _check_labels(y, kind, described)
        pixels = x
        if x.dtype != torch.uint8:
            pixels = _as_bytes(x, section, "" if training else described)
        shape = shape or pixels.shape[1:]
        if pixels.shape[1:] != shape:
            raise DataError(
                f"{described} has images of {tuple(pixels.shape[1:])}, the first batch of"
                f" {tuple(shape)}: give all one size"
            )
        if not training or sum(len(one) for one in images) < KEPT_IMAGES:
            images.append(
                torch.cat([pixels, y[:, None].to(torch.uint8)], 1) if y.ndim == 3 else pixels
            )
        labels.append(y if y.ndim == 1 else y.new_zeros(len(y)))
    if not labels:
        raise DataError(f"{where} is a DataLoader without a batch: give it images")
    all_labels = torch.cat(labels).numpy()
    whole = Labelled.of(torch.cat(images).numpy(), all_labels)
    # augmented images do not identify the data
    if training:
        return Labelled(
            whole.pixels, all_labels, np.zeros(len(all_labels), np.int64), loader=loader
        )
    return whole


def tensors_of(batch: Any, kind: Kind, where: str) -> tuple[Tensor, Tensor]:
    """A batch as it is read and trained on: images (B, C, H, W), and their labels: int64 class
    numbers (B,) or masks (B, H, W), or float32 shares of classes (B, classes).

    Raises DataError: it is something else. `where`: whose batch it is.
    """
    x, y = image_and_label(batch, where)
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


def _check_labels(y: Tensor, kind: Kind, where: str) -> None:
    """Raises DataError: a label is no class number."""
    wrong = y < 0
    if kind == "masks":
        wrong |= y > NOT_COUNTED
    if wrong.any():
        raise DataError(
            f"{where} has the label {y[wrong][0]}: give class numbers from 0; in masks,"
            f" {NOT_COUNTED} is not counted"
        )


def seeded_batches(loader: Any, seed: tuple[int, ...]) -> Iterator[Any]:
    """The batches of a user's DataLoader. Its random numbers depend only on the seed, and it does
    not change other generators. Raises DataError: it fails, or has fewer batches than its length.
    """
    iterator = None
    count = len(loader)
    for number in range(count):
        with seeded((*seed, number)):
            try:
                if iterator is None:
                    generators = (
                        getattr(loader, "generator", None),
                        getattr(getattr(loader, "sampler", None), "generator", None),
                    )
                    for generator in filter(None, generators):
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
    mean, std = (
        torch.tensor(one or [default])[:, None, None]
        for one, default in ((section.mean, 0.0), (section.std, 1.0))
    )
    x = x.float() * std + mean
    low = x.min().item()
    high = x.max().item()
    if where and not (low >= -VALUE_SLACK and high <= 1 + VALUE_SLACK):
        raise DataError(
            f"{where} has values from {low:.3g} to {high:.3g}: set data.mean and data.std to what"
            " it normalises with"
        )
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)

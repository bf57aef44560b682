"""A data set: splits that yield batches, and guarded access to the test split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas_attn.data.augment import (
    EpochPlan,
    Named,
    Transformed,
    TransformedImages,
    mixed,
    named_steps,
    seeded,
)
from nas_attn.data.manifest import Listing, Manifest
from nas_attn.data.pixels import Feed, Images
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import Augment
from nas_attn.recipe.tasks import TASKS, Task

log = logging.getLogger("nas_attn.data")

# from which a box is shown
SHOWN_SCORE = 0.3
# mean and standard deviation of the training images' labels or numbers, (K,) each
Moments = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images of one split, on one device."""

    pixels: Images
    # int64 (N,), on the device; zeros for other labels
    labels: Tensor
    # how many classes, labels or columns there are
    classes: int
    mean: tuple[float, ...]
    # per channel, on the scale 0 to 1; batches are normalised with them
    std: tuple[float, ...]
    _: KW_ONLY
    # float32 (N, K), on the device: 0 or 1, or numbers in the user's units
    targets: Tensor | None = None
    # float32 (N, M, 5), on the device: `samples.BoxTable`, filled with zeros; a detector takes
    # images from 0 to 1
    boxes: Tensor | None = None
    # whether an image's last channel, as stored, is its mask
    masked: bool = False
    # processes that transform images, if there are such transforms
    workers: int = 1
    # what its images are
    listing: Listing | None = None
    _feeds: dict[str, Feed] = field(default_factory=dict, init=False)
    _scales: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def of_images(self, numbers: Sequence[int]) -> Split:
        """Returns a split of a few of its images."""
        index = torch.tensor(numbers, dtype=torch.int64)
        chosen = index.to(self.device)
        return replace(
            self,
            pixels=self.pixels.subset(index.numpy()),
            labels=self.labels[chosen],
            targets=None if self.targets is None else self.targets[chosen],
            boxes=None if self.boxes is None else self.boxes[chosen],
        )

    def first(self, count: int) -> Tensor:
        """Returns the first images as stored: uint8 or float32 (count, C, H, W) on the device."""
        images, _ = next(self.stored(min(count, len(self))))
        return images

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order: x float32 (B, C, H, W), normalised and in channels-last
        order, y int64 (B,), masks int64 (B, H, W), targets or boxes.
        """
        for images, y in self.stored(batch_size):
            yield self._fed(self._normalised(images)), y

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order, as stored: uint8 or float32 (B, C, H, W), and their y
        as in `batches`.
        """
        index = torch.split(torch.arange(len(self), device=self.device), batch_size)
        for number, images in enumerate(self.pixels.fetch(index)):
            if self.masked:
                yield images[:, :-1], images[:, -1].long()
            else:
                yield images, self._y[index[number]]

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        augment: Sequence[Augment],
        first_batch: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields one epoch of training: every image, in batches as `EpochPlan.draw` makes them.

        Args:
            batch_size: Images of a batch.
            seed: Decides order and augmentation, with `epoch`.
            epoch: Its number.
            augment: The recipe's transforms.
            first_batch: Where to go on.

        Returns:
            x and y as in `batches`; y float32 (B, classes) with mixup.
        """
        plan = EpochPlan.draw(
            len(self),
            batch_size,
            augment,
            seed=(seed, epoch),
            device=self.device,
        )
        steps, mixing = self._named_steps(augment)
        drawn = self._drawn(plan, steps, repr(augment), first_batch)
        for number, (stored, known) in enumerate(drawn, first_batch):
            images = plan.mirror(number, stored)
            seen = images[:, :-1] if self.masked else images
            x, y = plan.apply(number, self._normalised(seen), known, self.classes)
            if self.masked:
                y = plan.apply_mask(number, images[:, -1:])
            if self.boxes is not None:
                y = plan.apply_boxes(number, known, self.pixels.shape[1:])
            x = self._fed(x)
            yield mixed(mixing, x, y, (seed, epoch, number)) if mixing else (x, y)

    def check(self, augment: Sequence[Augment]) -> None:
        """Tries transforms on some images before anything is trained; DataError: unknown, failing,
        or not for these images.
        """
        steps, mixing = self._named_steps(augment)
        with seeded(0):
            if steps:
                transformed = self._transformed(steps)
                few = range(min(4, len(self)))
                sizes = {tuple(transformed[number, number][0].shape[1:]) for number in few}
                if len(sizes) > 1:
                    raise DataError(
                        f"training.augment makes images of different sizes, {min(sizes)} and"
                        f" {max(sizes)}: end it with a transform that gives one size, like"
                        " RandomCrop"
                    )
            if mixing:
                x, y = next(self.batches(2))
                mixed(mixing, x, y, (0,))

    def _named_steps(
        self, augment: Sequence[Augment]
    ) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
        height, width = self.pixels.shape[1:]
        mean = self.mean
        if not self.pixels.deep:
            mean = tuple(round(255 * value) for value in mean)
        return named_steps(
            augment, TransformedImages(self.classes, (height, width), self.masked, mean)
        )

    def _drawn(
        self, plan: EpochPlan, steps: tuple[Named, ...], key: str, first: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches as stored with their labels, masks or boxes; each image is transformed by
        itself.
        """
        batches = plan.batches[first:].unbind()
        if not steps:
            for index, stored in zip(batches, self.pixels.fetch(batches), strict=True):
                yield stored, self._y[index]
            return
        if key not in self._feeds:
            pinned = self.device.type == "cuda"
            self._feeds[key] = Feed(self._transformed(steps), self.workers, pinned=pinned)
        for index, (stored, y) in zip(batches, self._feeds[key](plan.drawn(first)), strict=True):
            yield (
                stored.to(self.device, non_blocking=True),
                (y.to(self.device) if y.shape[1] else self._y[index]),
            )

    def _transformed(self, steps: tuple[Named, ...]) -> Transformed:
        boxes = None if self.boxes is None else self.boxes.cpu()
        return Transformed(self.pixels.to(torch.device("cpu")), boxes, self.masked, steps)

    @property
    def _y(self) -> Tensor:
        """Labels, targets or boxes."""
        known = (self.targets, self.boxes)
        return next((one for one in known if one is not None), self.labels)

    def steps(self, batch_size: int) -> int:
        """Returns the number of batches in one epoch of training."""
        return -(-len(self) // batch_size)

    def trained(self, batch_size: int) -> int:
        """Returns the number of images in the batches of one epoch of training."""
        return self.steps(batch_size) * batch_size

    def _normalised(self, images: Tensor) -> Tensor:
        scale, shift = self._scale_and_shift(images.shape[3])
        x = images.to(torch.float32, memory_format=torch.channels_last, copy=True)
        # a view
        x.permute(0, 2, 3, 1).view(-1, len(scale)).mul_(scale).sub_(shift)
        # pixels without data
        return x.nan_to_num_(nan=0.0) if self.pixels.deep else x

    def _scale_and_shift(self, width: int) -> tuple[Tensor, Tensor]:
        """float32 (W * C,) each, put on the device once: x = pixel * scale - shift, for a row of
        pixels at a time.
        """
        if width not in self._scales:
            scale = [1 / (255 * deviation) for deviation in self.std]
            shift = [mean / deviation for mean, deviation in zip(self.mean, self.std, strict=True)]
            scales, shifts = (torch.tensor(one * width).to(self.device) for one in (scale, shift))
            self._scales[width] = scales, shifts
        return self._scales[width]

    def _fed(self, x: Tensor) -> Tensor:
        """What a network takes of normalised images: a detector those from 0 to 1."""
        if self.boxes is None:
            return x
        # put on the device once: a copy in each batch would wait for it
        return x + self._scale_and_shift(1)[1][:, None, None]


@dataclass(frozen=True, eq=False)
class Redivision:
    """Which images a seed's division took for validation."""

    # (N,), ascending: their numbers among all images that are divided
    numbers: NDArray[np.int64]
    # images that are divided
    divided: int


@dataclass(frozen=True)
class Dataset:
    """A data set ready for training. The test split is behind `read_test`."""

    name: str
    train: Split
    validation: Split
    classes: tuple[str, ...]
    # (C, H, W)
    input_shape: tuple[int, int, int]
    # text that changes when an image, a label or the split of train and validation changes
    digest: str
    # do not call it directly: use `read_test`
    open_test: Callable[[], Split]
    # Why there is no test split, with the way out; else empty
    missing_test: str = ""
    task: Task = TASKS["classification"]
    # of several labels or numbers; None: of classes, masks or boxes
    moments: Moments | None = None
    # its images before `data.train_subset`, to be compared with those of later
    manifest: Manifest | None = None
    # the same data with a seed's own division into training and validation images: use `of_seed`;
    # None: there is one division
    divide: Callable[[int], Dataset] | None = None
    # of a seed's own division, which images are for validation
    drawn: Redivision | None = None
    # all images that are divided, in order, where each seed divides them anew
    whole: Callable[[], Split] | None = None

    def of_seed(self, seed: int) -> Dataset:
        """Returns the data as runs of this seed train and are scored on them: where each seed
        divides the images anew, with its own division. Equal seeds have equal divisions.
        """
        return self if self.divide is None else self.divide(seed)

    def read_test(self, reason: str) -> Split:
        """Opens the test split, for a stated reason, which the caller records. Raises DataError:
        there is none.
        """
        if not reason.strip():
            raise DataError(f"the test split of '{self.name}' can be read only for a stated reason")
        if self.missing_test:
            raise DataError(self.missing_test)
        log.info("test split of '%s' read: %s", self.name, reason)
        return self.open_test()

"""A data set: splits that yield batches, guarded access to the test split, and `load`, which makes
both from `[data]`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

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
from nas_attn.data.decoding import PADDING_GREY
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.manifest import Listing, Manifest
from nas_attn.data.parts import Labelled, Moments
from nas_attn.data.pixels import Feed, Pixels, bands_moments, moments
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import Augment, DataSection
from nas_attn.recipe.tasks import TASKS, Task

log = logging.getLogger("nas_attn.data")


# from which a box is shown
SHOWN_SCORE = 0.3
# grey is 0 in augmentation; a detector takes 0 to 1
BOXES_MEAN = tuple(value / 255 for value in PADDING_GREY)
BOXES_STD = (1.0, 1.0, 1.0)
# mean and standard deviation per channel, on the scale 0 to 1
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Split:
    """Labelled images of one split, on one device."""

    pixels: Pixels
    # int64 (N,), on the device
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    # per channel, on the scale 0 to 1; batches are normalised with them
    std: tuple[float, ...]
    # processes that transform images, if there are such transforms
    workers: int = field(default=1, kw_only=True)
    # what its images are
    listing: Listing | None = field(default=None, kw_only=True)
    # whether an image's last channel, as stored, is its mask
    masked: ClassVar[bool] = False
    _feeds: dict[str, Feed] = field(default_factory=dict, init=False, repr=False, compare=False)
    _scales: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def made(
        cls, part: Labelled, device: torch.device, classes: int, statistics: Statistics
    ) -> Split:
        """Puts images on a device.

        Args:
            part: The images and their labels.
            device: Where batches go.
            classes: How many there are.
            statistics: What batches are normalised with.
        """
        labels = torch.from_numpy(part.labels).to(device)
        return cls(part.pixels.to(device), labels, classes, *statistics)

    @classmethod
    def check_labels(cls, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Raises DataError: a class is missing from this split (`what`)."""
        present = np.bincount(part.labels, minlength=len(classes))
        missing = [name for name, count in zip(classes, present, strict=True) if not count]
        if missing:
            raise DataError(
                f"{what} has no image of class '{missing[0]}' ({len(missing)} of {len(classes)}"
                " missing)"
            )

    @classmethod
    def input_shape(cls, part: Labelled) -> tuple[int, int, int]:
        """Returns (C, H, W) of a network's input."""
        return part.pixels.shape

    @classmethod
    def statistics(cls, train: Labelled, section: DataSection) -> Statistics:
        """Returns what batches are normalised with: of the training split, or the recipe's."""
        channels = cls.input_shape(train)[0]
        if section.mean is None or section.std is None:
            if train.pixels.deep:
                return bands_moments(train.pixels, channels)
            return moments(train.pixels.histogram()[:channels])
        if len(section.mean) != channels or len(section.std) != channels:
            raise DataError(
                f"data.mean and data.std have {len(section.mean)} and {len(section.std)} values, "
                f"but '{section.name}' has {channels} channels: give one of each for a channel"
            )
        return tuple(section.mean), tuple(section.std)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def first(self, count: int) -> Tensor:
        """Returns the first images as stored: uint8 or float32 (count, C, H, W) on the device."""
        (images,) = self.pixels.fetch([torch.arange(min(count, len(self)), device=self.device)])
        return images

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order: x float32 (B, C, H, W), normalised and in channels-last
        order, y int64 (B,).
        """
        for images, y in self.stored(batch_size):
            yield self._normalised(images), y

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order, as stored: uint8 or float32 (B, C, H, W), and their y
        as in `batches`.
        """
        index = torch.split(torch.arange(len(self), device=self.device), batch_size)
        for number, images in enumerate(self.pixels.fetch(index)):
            yield images, self._y[index[number]]

    def epoch(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        augment: Sequence[Augment],
        first_batch: int = 0,
        filled: bool = True,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields one epoch of training: every image, in batches as `EpochPlan.draw` makes them.

        Args:
            batch_size: Images of a batch.
            seed: Decides order and augmentation, with `epoch`.
            epoch: Its number.
            augment: The recipe's transforms.
            first_batch: Where to go on.
            filled: As in `EpochPlan.draw`.

        Returns:
            x as in `batches`; y int64 (B,), or float32 (B, classes) with mixup.
        """
        plan = EpochPlan.draw(
            len(self),
            batch_size,
            augment,
            seed=(seed, epoch),
            device=self.device,
            filled=filled,
        )
        steps, mixing = self._named_steps(augment)
        for number, (stored, y) in enumerate(
            self._drawn(plan, steps, repr(augment), first_batch), first_batch
        ):
            batch = self._augmented(plan, number, plan.mirror(number, stored), y)
            yield mixed(mixing, *batch, (seed, epoch, number)) if mixing else batch

    def check(self, augment: Sequence[Augment]) -> None:
        """Tries transforms on some images before anything is trained; DataError: unknown, failing,
        or not for these images.
        """
        steps, mixing = self._named_steps(augment)
        with seeded((0,)):
            if steps:
                transformed = self._transformed(steps)
                few = range(min(4, len(self)))
                sizes = sorted(
                    {tuple(transformed((number, number))[0].shape[1:]) for number in few}
                )
                if len(sizes) > 1:
                    raise DataError(
                        f"training.augment makes images of different sizes, {sizes[0]} and"
                        f" {sizes[-1]}: end it with a transform that gives one size, like"
                        " RandomCrop"
                    )
            if mixing:
                x, y = next(self.batches(2))
                mixed(mixing, x, y, (0,))

    def _named_steps(
        self, augment: Sequence[Augment]
    ) -> tuple[tuple[Named, ...], tuple[Named, ...]]:
        height, width = self.pixels.shape[1:]
        return named_steps(
            augment,
            TransformedImages(
                self.classes,
                (height, width),
                self.masked,
                self.mean if self.pixels.deep else tuple(round(255 * mean) for mean in self.mean),
            ),
        )

    def _drawn(
        self, plan: EpochPlan, steps: tuple[Named, ...], key: str, first: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches as stored with their labels, masks or boxes; each image is transformed by
        itself.
        """
        if not steps:
            for index, stored in zip(
                plan.batches[first:], self.pixels.fetch(plan.batches[first:]), strict=True
            ):
                yield stored, self._y[index]
            return
        if key not in self._feeds:
            self._feeds[key] = Feed(
                self._transformed(steps), self.workers, pinned=self.device.type == "cuda"
            )
        for index, (stored, y) in zip(
            plan.batches[first:], self._feeds[key](plan.drawn(first)), strict=True
        ):
            yield (
                stored.to(self.device, non_blocking=True),
                (y.to(self.device) if y.shape[1] else self._y[index]),
            )

    def _transformed(self, steps: tuple[Named, ...]) -> Transformed:
        return Transformed(self.pixels.to(torch.device("cpu")), None, self.masked, steps)

    @property
    def _y(self) -> Tensor:
        """Labels, masks or boxes of the images as stored."""
        return self.labels

    def _augmented(
        self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A training batch (x, y) from mirrored images as stored, and their labels, masks or
        boxes.
        """
        return plan.apply(number, self._normalised(mirrored), y, self.classes)

    def steps(self, batch_size: int) -> int:
        """Returns the number of batches in one epoch of training."""
        return -(-len(self) // batch_size)

    def trained(self, batch_size: int, *, filled: bool = True) -> int:
        """Returns the number of images in the batches of one epoch of training."""
        if not filled:
            return len(self)
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


@dataclass(frozen=True)
class TargetSplit(Split):
    """Images with several labels or numbers; `labels` are unused zeros, y of a batch is float32 (B,
    K): 0 or 1, or numbers in the user's units.
    """

    # float32 (N, K), on the device
    targets: Tensor

    @classmethod
    def made(
        cls, part: Labelled, device: torch.device, classes: int, statistics: Statistics
    ) -> Split:
        # readers of such labels set them
        assert part.targets is not None
        labels = torch.from_numpy(part.labels).to(device)
        targets = torch.from_numpy(part.targets).to(device)
        return cls(part.pixels.to(device), labels, classes, *statistics, targets)

    @classmethod
    def check_labels(cls, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Raises DataError: a label or a column is the same for all images. Only in the training
        split: elsewhere it does not count.
        """
        if not what.startswith("training"):
            return
        assert part.targets is not None
        for name, values in zip(classes, part.targets.T, strict=True):
            if values.min() == values.max():
                raise DataError(
                    f"{what} has the value {values[0]:g} of '{name}' for all of its images, so"
                    " there is nothing to learn: leave it out, or add images with another one"
                )

    @property
    def _y(self) -> Tensor:
        return self.targets


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
    # (N,); for a folder, checksums of the images' names and sizes
    validation_identity: NDArray[np.int64] | None = None
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
        log.info("test split of '%s' read: %s", self.name, reason)
        return self.open_test()


class MaskedSplit(Split):
    """Images with masks; `labels` are unused zeros, y of a batch is int64 (B, H, W)."""

    masked = True

    @classmethod
    def check_labels(cls, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Raises DataError: a class is missing in the training split, or all of them in another."""
        some = len(classes) if what.startswith("training") else 1
        for every in (False, True):
            pixels = part.pixels.histogram(every=every)[-1]
            missing = [name for number, name in enumerate(classes) if not pixels[number]]
            if len(classes) - len(missing) >= some:
                return
        raise DataError(
            f"{what} has no pixel of class '{missing[0]}' ({len(missing)} of {len(classes)} classes"
            f" are missing): a mask's values are class numbers, 0 to {len(classes) - 1}, and"
            f" {NOT_COUNTED} is not counted"
        )

    @classmethod
    def input_shape(cls, part: Labelled) -> tuple[int, int, int]:
        channels, height, width = part.pixels.shape
        return channels - 1, height, width

    def first(self, count: int) -> Tensor:
        """Returns the first images as stored: uint8 or float32 (count, C, H, W) on the device."""
        return super().first(count)[:, :-1]

    def stored(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order, as stored: uint8 or float32 (B, C, H, W), and their
        masks int64 (B, H, W).
        """
        for both in self.pixels.fetch(
            torch.split(torch.arange(len(self), device=self.device), batch_size)
        ):
            yield both[:, :-1], both[:, -1].long()

    def _augmented(
        self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A mask is mirrored and cropped along with its image."""
        x, _ = super()._augmented(plan, number, mirrored[:, :-1], y)
        return x, plan.apply_mask(number, mirrored[:, -1:])


@dataclass(frozen=True)
class BoxedSplit(Split):
    """Images with boxes; `labels` is not used. y of a batch is float32 (B, M, 5): `BoxTable`,
    filled with zeros.
    """

    # float32 (N, M, 5), on the device
    boxes: Tensor

    @classmethod
    def made(
        cls, part: Labelled, device: torch.device, classes: int, statistics: Statistics
    ) -> Split:
        assert part.boxes is not None
        labels = torch.from_numpy(part.labels).to(device)
        boxes = torch.from_numpy(part.boxes).to(device)
        return cls(part.pixels.to(device), labels, classes, *statistics, boxes)

    @classmethod
    def check_labels(
        cls,
        part: Labelled,
        classes: tuple[str, ...],  # noqa: ARG003 - as of `Split`
        what: str,
    ) -> None:
        """Raises DataError: no image has a box."""
        # readers of boxes set them
        assert part.boxes is not None
        if not (part.boxes[..., 0] > 0).any():
            raise DataError(f"{what} has no image with a box: add some")

    @classmethod
    def statistics(
        cls,
        train: Labelled,  # noqa: ARG003 - as of `Split`
        section: DataSection,  # noqa: ARG003 - as of `Split`
    ) -> Statistics:
        return BOXES_MEAN, BOXES_STD

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields all images once, in order: x float32 (B, 3, H, W), 0 to 1, and their boxes."""
        for images, y in self.stored(batch_size):
            yield self._fed(self._normalised(images)), y

    @property
    def _y(self) -> Tensor:
        return self.boxes

    def _augmented(
        self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes are mirrored and cropped along with their image; x 0 to 1."""
        x, _ = super()._augmented(plan, number, mirrored, y)
        return self._fed(x), plan.apply_boxes(number, y, self.pixels.shape[1:])

    def _transformed(self, steps: tuple[Named, ...]) -> Transformed:
        return replace(super()._transformed(steps), boxes=self.boxes.cpu())

    def _fed(self, x: Tensor) -> Tensor:
        return x + self._mean_colour

    @cached_property
    def _mean_colour(self) -> Tensor:
        """float32 (3, 1, 1). Put on the device once: a copy in each batch would wait for it."""
        return torch.tensor(self.mean, device=self.device)[:, None, None]

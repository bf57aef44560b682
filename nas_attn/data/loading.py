"""A data set as a recipe describes it: read, split, and put on the device."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from nas_attn.data import own
from nas_attn.data.dataset import Dataset, Moments, Redivision, Split
from nas_attn.data.decoding import PADDING_GREY
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.manifest import Manifest
from nas_attn.data.prepared import parts_of
from nas_attn.data.samples import Parts, Samples
from nas_attn.data.splitting import Seed, amount, stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.tables import DATA_SETS, Kind, Load, data_sets_with, find_data_set
from nas_attn.recipe.tasks import TASKS, Task
from nas_attn.system.processes import cores

# mean and standard deviation per channel, on the scale 0 to 1
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    workers: int = 1,
    task: Task = TASKS["classification"],
) -> Dataset:
    """Reads images, splits them, and puts them on the device. Raises DataError: unknown name,
    missing or broken files, too few images.

    Args:
        section: The recipe's data.
        device: Where batches go.
        workers: That share this machine.
        task: What is learnt from the images.
    """
    device = torch.device(device)
    # images of one size that can all be read
    fixed = ":" not in section.name and task.labels != "boxes"
    for name in ("size", "fit", "broken_images") if fixed else ():
        if getattr(section, name) != DataSection.model_fields[name].default:
            raise DataError(f"data.{name} does not apply to '{section.name}': leave it out")
    if section.workers is None:
        # by default, processes that load or transform images for one worker
        section = section.model_copy(update={"workers": max(1, cores() // workers)})
    parts = reader(section.name, task.labels)(section)
    if isinstance(parts, Samples):
        parts = parts_of(parts, task.labels, section, device, workers)
    if not isinstance(parts, Parts):
        raise DataError(
            f"data.name '{section.name}' returned {type(parts).__name__}: return"
            " nas_attn.data.samples.Parts"
        )
    return _Source(parts, section, device, task).load()


@dataclass(frozen=True)
class _Halves:
    """Images divided into training and validation."""

    train: Samples
    validation: Samples
    seed: Seed
    # of a seed's own division
    drawn: Redivision | None = None


@dataclass(frozen=True)
class _Source:
    """Images that were read, which are divided and put on the device."""

    parts: Parts
    section: DataSection
    device: torch.device
    task: Task

    def load(self) -> Dataset:
        """The data set of the recipe's own division. Raises DataError: too few images, or nothing
        to learn.
        """
        home = self.halves(self.section.seed)
        listings = {"train": home.train.listing, "validation": home.validation.listing}
        manifest = Manifest(self.parts.train.classes, listings, self.parts.unread)
        used = self.used(home)
        self.check(used.train, "training")
        self.check(used.validation, "validation")
        # of the first division, for all: a network is normalised alike whichever seed it was
        # trained with
        statistics = self.statistics(used.train)
        moments = _moments(used.train, self.device)
        dataset = self.dataset(used, statistics, moments, manifest)
        if not self.is_redivided(home):
            return dataset

        @lru_cache(maxsize=1)
        def divide(seed: int) -> Dataset:
            halves = self.used(self.halves((self.section.seed, seed)))
            return self.dataset(halves, statistics, moments, manifest)

        return replace(
            dataset, divide=divide, whole=lambda: self.split(self.parts.train, statistics)
        )

    def halves(self, seed: Seed) -> _Halves:
        """Training and validation images: the source's own, or a division by the recipe's seed, or
        by that and a run's.
        """
        train = self.parts.train
        if self.parts.validation is not None:
            return _Halves(train, self.parts.validation, seed)
        count = amount(self.section.validation, train.labels, "data.validation")
        taken, left = train.divided(count, seed, self.task.labels)
        drawn = Redivision(taken, len(train)) if isinstance(seed, tuple) else None
        return _Halves(train.subset(left), train.subset(taken), seed, drawn)

    def used(self, halves: _Halves) -> _Halves:
        """The same without the training images that `data.train_subset` leaves out."""
        train = halves.train
        count = self.section.train_subset
        if count is None or count >= len(train):
            return halves
        taken, _ = stratified(train.labels, count, halves.seed, train.classes)
        return replace(halves, train=train.subset(taken))

    def is_redivided(self, home: _Halves) -> bool:
        """Whether each seed divides the images anew. Raises DataError: it should, and there is
        nothing to divide.
        """
        resplit = self.section.resplit
        if self.parts.validation is None:
            return len(home.validation) < FEW_VALIDATED if resplit == "auto" else resplit
        if resplit is True:
            raise DataError(
                "data.resplit = true divides the images anew for each seed, but"
                f" '{self.section.name}' has validation images of its own: leave data.resplit out"
            )
        return False

    def check(self, part: Samples, name: str) -> None:
        """Raises DataError: a split, of this name, lacks a class, or has nothing to learn."""
        part = replace(part, classes=self.parts.train.classes)
        what = f"{name} split of '{self.section.name}'"
        kind = self.task.labels
        if kind == "classes":
            part.check_classes(what)
        elif kind == "masks":
            _check_masks(part, what, every=name == "training")
        elif part.boxes is not None and not (part.boxes[..., 0] > 0).any():
            raise DataError(f"{what} has no image with a box: add some")
        elif part.targets is not None and name == "training":
            for column, values in zip(part.classes, part.targets.T, strict=True):
                if values.min() == values.max():
                    raise DataError(
                        f"{what} has the value {values[0]:g} of '{column}' for all of its images,"
                        " so there is nothing to learn: leave it out, or add images with another"
                        " one"
                    )

    def statistics(self, train: Samples) -> Statistics:
        """What batches are normalised with: of the training split, or the recipe's."""
        assert train.pixels is not None
        if self.task.labels == "boxes":
            # grey is 0 in augmentation
            return tuple(value / 255 for value in PADDING_GREY), (1.0, 1.0, 1.0)
        channels = train.pixels.shape[0] - (self.task.labels == "masks")
        mean = self.section.mean
        std = self.section.std
        if mean is None or std is None:
            return train.pixels.moments(channels)
        if len(mean) != channels or len(std) != channels:
            raise DataError(
                f"data.mean and data.std have {len(mean)} and {len(std)} values, but"
                f" '{self.section.name}' has {channels} channels: give one of each for a channel"
            )
        return tuple(mean), tuple(std)

    def split(self, part: Samples, statistics: Statistics) -> Split:
        """Images on the device."""
        assert part.pixels is not None
        known = {
            name: torch.from_numpy(table).to(self.device)
            for name, table in (("targets", part.targets), ("boxes", part.boxes))
            if table is not None
        }
        return Split(
            part.pixels.to(self.device),
            torch.from_numpy(part.labels).to(self.device),
            len(self.parts.train.classes),
            *statistics,
            targets=known.get("targets"),
            boxes=known.get("boxes"),
            masked=self.task.labels == "masks",
            workers=self.section.workers or 1,
            listing=part.listing,
        )

    def dataset(
        self,
        halves: _Halves,
        statistics: Statistics,
        moments: Moments | None,
        manifest: Manifest,
    ) -> Dataset:
        """Images as a run trains and is scored on them.

        Args:
            halves: Those to train on and for validation.
            statistics: What batches are normalised with.
            moments: Mean and standard deviation of labels or numbers, (K,) each.
            manifest: What the images are.
        """

        def open_test() -> Split:
            test = self.parts.test()
            self.check(test, "test")
            return self.split(test, statistics)

        train = self.split(halves.train, statistics)
        _, height, width = train.pixels.shape
        return Dataset(
            name=self.section.name,
            train=train,
            validation=self.split(halves.validation, statistics),
            classes=self.parts.train.classes,
            input_shape=(len(statistics[0]), height, width),
            digest=_digest(halves),
            open_test=open_test,
            missing_test=self.parts.missing_test,
            task=self.task,
            moments=moments,
            manifest=manifest,
            drawn=halves.drawn,
        )


def _check_masks(part: Samples, what: str, *, every: bool) -> None:
    """Raises DataError: a class is missing in the training split, or all of them in another."""
    assert part.pixels is not None
    some = len(part.classes) if every else 1
    for whole in (False, True):
        pixels = part.pixels.histogram(every=whole)[-1]
        missing = [name for number, name in enumerate(part.classes) if not pixels[number]]
        if len(part.classes) - len(missing) >= some:
            return
    raise DataError(
        f"{what} has no pixel of class '{missing[0]}' ({len(missing)} of {len(part.classes)}"
        f" classes are missing): a mask's values are class numbers, 0 to {len(part.classes) - 1},"
        f" and {NOT_COUNTED} is not counted"
    )


def _moments(train: Samples, device: torch.device) -> Moments | None:
    """Mean and standard deviation of each label or column; None for other labels."""
    if train.targets is None:
        return None
    targets = torch.from_numpy(train.targets).double()
    mean = targets.mean(0).float()
    return mean.to(device), targets.std(0, correction=0).float().to(device)


def _digest(halves: _Halves) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in (halves.train, halves.validation):
        for array in (part.identity, part.labels, part.boxes, part.targets):
            digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


def reader(name: str, kind: Kind) -> Callable[[DataSection], Any]:
    """Returns the function that reads a data set with such labels, ours or a user's own: it gives
    `Parts`, or `Samples` of files that are not read yet. Raises DataError: there is none.
    """
    known = data_sets_with(kind)
    row = find_data_set(name)
    if row is None:
        way_out = did_you_mean(name, known)
        if Path(name).is_dir() and "folder:PATH" in known:
            way_out = f"for the images in this folder write folder:{name}"
        raise DataError(f"unknown data set '{name}': {way_out}")
    source, _, place = name.partition(":")
    if row.name not in DATA_SETS and not place.replace(".", "_").isidentifier():
        # a path, which no function of the user's is called
        prefixes = [each.partition(":")[0] for each in known if ":" in each]
        raise DataError(
            f"data.name = '{name}': '{source}:' is not known before a path:"
            f" {did_you_mean(source, prefixes)}"
        )
    load_function: Load | None = getattr(row, kind)
    if load_function is None:
        raise DataError(f"'{name}' has no {kind}: give {', '.join(known)}")
    function = load_function()
    if "split" in inspect.signature(function).parameters:
        return partial(own.read, function, kind)
    return function

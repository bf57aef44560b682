"""`load`: from the recipe's `[data]` section to a data set on the training device; what it knows of images with classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from nas_attn import tables
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.pixels import moments
from nas_attn.data.splitting import amount, divided, stratified
from nas_attn.errors import DataError
from nas_attn.processes import cores
from nas_attn.recipe import DataSection
from nas_attn.records import ALONE, Share
from nas_attn.tasks import TASKS, Task

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, on the scale 0 to 1."""


class Classes:
    """Images with a class each."""

    name: ClassVar[tables.Kind] = "classes"

    def strata(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Names of what a split keeps the shares of."""
        return classes

    def check(self, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        """Raises:
        DataError: a class is missing from this split (`what`).
        """
        present = np.bincount(part.labels, minlength=len(classes))
        missing = [name for name, count in zip(classes, present, strict=True) if not count]
        if missing:
            raise DataError(
                f"{what} has no image of class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing)"
            )

    def input_shape(self, part: Labelled) -> tuple[int, int, int]:
        """(C, H, W) of what a network is fed."""
        return part.pixels.shape

    def statistics(self, train: Labelled, section: DataSection) -> Statistics:
        """What images are normalised with: of the training split, or as the recipe says."""
        channels = self.input_shape(train)[0]
        if section.mean is None or section.std is None:
            return moments(train.pixels.histogram()[:channels])
        if len(section.mean) != channels or len(section.std) != channels:
            raise DataError(
                f"data.mean and data.std have {len(section.mean)} and {len(section.std)} values, "
                f"but '{section.name}' has {channels} channels"
            )
        return tuple(section.mean), tuple(section.std)

    def split(self, part: Labelled, place: torch.device, classes: int, statistics: Statistics) -> Split:
        """The images on a device."""
        return Split(part.pixels.to(place), torch.from_numpy(part.labels).to(place), classes, *statistics)


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    share: Share = ALONE,
    task: Task = TASKS["classification"],
) -> Dataset:
    """Reads a data set, splits it and puts it on the device.

    Args:
        task: what its labels are for.
        share: with how many others the memory is shared, which decides whether a folder's images are held in it.

    Raises:
        DataError: unknown name, missing or broken files, or too few images for the split.
    """
    place, kind = Place(torch.device(device), share), task.kind()
    parts: Parts = tables.data_reader(section.name, kind.name)(section, place)
    train, validation = _split(parts, section, kind)
    for part, split in ((train, "training"), (validation, "validation")):
        kind.check(part, parts.classes, f"{split} split of '{section.name}'")
    statistics = kind.statistics(train, section)

    def on_device(part: Labelled) -> Split:
        split = kind.split(part, place.device, len(parts.classes), statistics)
        return replace(split, workers=section.workers or cores())

    def open_test() -> Split:
        test = parts.test()
        kind.check(test, parts.classes, f"test split of '{section.name}'")
        return on_device(test)

    return Dataset(
        name=section.name,
        train=on_device(train),
        validation=on_device(validation),
        classes=parts.classes,
        input_shape=kind.input_shape(train),
        digest=_digest(train, validation),
        open_test=open_test,
        missing_test=parts.missing_test,
        validation_identity=validation.identity,
        task=task,
    )


def _split(parts: Parts, section: DataSection, kind: Classes) -> tuple[Labelled, Labelled]:
    """Train and validation: the source's own, or a stratified split; then the subset of the training images."""
    train, validation, strata = parts.train, parts.validation, kind.strata(parts.classes)
    if validation is None:
        count = amount(section.validation, train.labels, "data.validation")
        taken, left = divided(train.labels, count, section.seed, strata, train.groups)
        train, validation = train.subset(left), train.subset(taken)
    if section.train_subset is not None and section.train_subset < len(train.labels):
        taken, _ = stratified(train.labels, section.train_subset, section.seed, strata)
        train = train.subset(taken)
    return train, validation


def _digest(train: Labelled, validation: Labelled) -> str:
    content = hashlib.blake2b(digest_size=8)
    for part in (train, validation):
        content.update(part.identity.tobytes())
        content.update(part.labels.tobytes())
        if part.boxes is not None:
            content.update(part.boxes.tobytes())
    return content.hexdigest()

"""`load`: from the recipe's `[data]` section to a data set on the training device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from nas_attn.data import cued, digits, folder, published
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.parts import Labelled, Parts
from nas_attn.data.pixels import moments
from nas_attn.data.splitting import amount, divided, stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe import DataSection
from nas_attn.records import ALONE, Share

Source = Callable[[DataSection], Parts]

SOURCES: dict[str, Source] = {
    "digits": digits.cluttered,
    "digits-8x8": digits.plain,
    "cued-digits": cued.cued,
    **{name: published.source(name) for name in published.NAMES},
}
"""Name in a recipe -> what reads it. `folder:PATH` comes beside them."""


def load(section: DataSection, *, device: torch.device | str, share: Share = ALONE) -> Dataset:
    """Reads a data set, splits it and puts it on the device.

    Args:
        share: with how many others the memory is shared, which decides whether a folder's images are held in it.

    Raises:
        DataError: unknown name, missing or broken files, or too few images for the split.
    """
    place = torch.device(device)
    if section.name.startswith("folder:"):
        parts = folder.read(section, place, share)
    elif section.name in SOURCES:
        parts = SOURCES[section.name](section)
    else:
        known = [*SOURCES, "folder:PATH"]
        raise DataError(f"unknown data set '{section.name}': {did_you_mean(section.name, known)}")
    train, validation = _split(parts, section)
    for part, split in ((train, "training"), (validation, "validation")):
        _check(part, parts.classes, f"{split} split of '{section.name}'")
    mean, std = _normalisation(train, section)

    def on_device(part: Labelled) -> Split:
        return Split(part.pixels.to(place), torch.from_numpy(part.labels).to(place), len(parts.classes), mean, std)

    def open_test() -> Split:
        test = parts.test()
        _check(test, parts.classes, f"test split of '{section.name}'")
        return on_device(test)

    return Dataset(
        name=section.name,
        train=on_device(train),
        validation=on_device(validation),
        classes=parts.classes,
        input_shape=train.pixels.shape,
        digest=_digest(train, validation),
        open_test=open_test,
        missing_test=parts.missing_test,
        validation_identity=validation.identity,
    )


def _split(parts: Parts, section: DataSection) -> tuple[Labelled, Labelled]:
    """Train and validation: the source's own, or a stratified split; then the subset of the training images."""
    train, validation = parts.train, parts.validation
    if validation is None:
        count = amount(section.validation, train.labels, "data.validation")
        taken, left = divided(train.labels, count, section.seed, parts.classes, train.groups)
        train, validation = train.subset(left), train.subset(taken)
    if section.train_subset is not None and section.train_subset < len(train.labels):
        taken, _ = stratified(train.labels, section.train_subset, section.seed, parts.classes)
        train = train.subset(taken)
    return train, validation


def _check(part: Labelled, classes: tuple[str, ...], what: str) -> None:
    present = np.bincount(part.labels, minlength=len(classes))
    missing = [name for name, count in zip(classes, present, strict=True) if not count]
    if missing:
        raise DataError(
            f"{what} has no image of class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing)"
        )


def _normalisation(train: Labelled, section: DataSection) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if section.mean is None or section.std is None:
        return moments(train.pixels.histogram())
    channels = train.pixels.shape[0]
    if len(section.mean) != channels or len(section.std) != channels:
        raise DataError(
            f"data.mean and data.std have {len(section.mean)} and {len(section.std)} values, "
            f"but '{section.name}' has {channels} channels"
        )
    return tuple(section.mean), tuple(section.std)


def _digest(train: Labelled, validation: Labelled) -> str:
    content = hashlib.blake2b(digest_size=8)
    for part in (train, validation):
        content.update(part.identity.tobytes())
        content.update(part.labels.tobytes())
    return content.hexdigest()

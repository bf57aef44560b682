"""`load`: from the recipe's `[data]` section to a data set on the training device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch

from nas_attn.data import boxed, cued, digits, folder, mask_folder, published
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.data.masks import MaskedSplit
from nas_attn.data.parts import Labelled, Parts
from nas_attn.data.pixels import moments
from nas_attn.data.splitting import amount, divided, stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe import DataSection
from nas_attn.records import ALONE, Share
from nas_attn.tasks import TaskName

Source = Callable[[DataSection], Parts]

SOURCES: dict[str, Source] = {
    "digits": digits.cluttered,
    "digits-8x8": digits.plain,
    "cued-digits": cued.cued,
    **{name: published.source(name) for name in published.NAMES},
}
"""Name in a recipe -> what reads it. `folder:PATH` comes beside them."""
MASKED: dict[str, Source] = {"digits": digits.masked}
"""The same of images with masks."""


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    share: Share = ALONE,
    task: TaskName = "classification",
) -> Dataset:
    """Reads a data set, splits it and puts it on the device.

    Args:
        task: what its labels are to be for.
        share: with how many others the memory is shared, which decides whether a folder's images are held in it.

    Raises:
        DataError: unknown name, missing or broken files, or too few images for the split.
    """
    place, masks = torch.device(device), task == "segmentation"
    if task == "detection":
        return boxed.load(section, device=place, share=share)
    parts = _parts(section, place, share, masks=masks)
    train, validation = _split(parts, section, masks=masks)
    check = _check_masks if masks else _check
    for part, split in ((train, "training"), (validation, "validation")):
        check(part, parts.classes, f"{split} split of '{section.name}'")
    channels, height, width = train.pixels.shape
    shape = (channels - 1 if masks else channels, height, width)
    mean, std = _normalisation(train, section, shape[0])

    def on_device(part: Labelled) -> Split:
        kind = MaskedSplit if masks else Split
        return kind(part.pixels.to(place), torch.from_numpy(part.labels).to(place), len(parts.classes), mean, std)

    def open_test() -> Split:
        test = parts.test()
        check(test, parts.classes, f"test split of '{section.name}'")
        return on_device(test)

    return Dataset(
        name=section.name,
        train=on_device(train),
        validation=on_device(validation),
        classes=parts.classes,
        input_shape=shape,
        digest=_digest(train, validation),
        open_test=open_test,
        missing_test=parts.missing_test,
        validation_identity=validation.identity,
        task=task,
    )


def _parts(section: DataSection, place: torch.device, share: Share, *, masks: bool) -> Parts:
    sources = MASKED if masks else SOURCES
    if section.name.startswith("folder:"):
        return mask_folder.read(section, place, share) if masks else folder.read(section, place, share)
    if section.name in sources:
        return sources[section.name](section)
    if section.name in SOURCES:
        raise DataError(
            f"'{section.name}' has no masks, which a segmentation needs: give {', '.join(MASKED)} or folder:PATH"
        )
    raise DataError(f"unknown data set '{section.name}': {did_you_mean(section.name, [*sources, 'folder:PATH'])}")


def _split(parts: Parts, section: DataSection, *, masks: bool) -> tuple[Labelled, Labelled]:
    """Train and validation: the source's own, or a stratified split; then the subset of the training images."""
    train, validation = parts.train, parts.validation
    if validation is None:
        count = amount(section.validation, train.labels, "data.validation")
        taken, left = divided(train.labels, count, section.seed, ("image",) if masks else parts.classes, train.groups)
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


def _check_masks(part: Labelled, classes: tuple[str, ...], what: str) -> None:
    """Validation and test may lack a class, which then does not count; training may not."""
    if not what.startswith("training"):
        return
    pixels = part.pixels.histogram()[-1]
    missing = [name for number, name in enumerate(classes) if not pixels[number]]
    if missing:
        raise DataError(
            f"{what} has no pixel of class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing): a mask's values "
            f"are class numbers, 0 to {len(classes) - 1}, and {NOT_COUNTED} is not counted"
        )


def _normalisation(train: Labelled, section: DataSection, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel of the images, their masks left out."""
    if section.mean is None or section.std is None:
        return moments(train.pixels.histogram()[:channels])
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

"""A data set as a recipe describes it: read, split, and put on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from nas_attn.data import sources
from nas_attn.data.boxes import Boxes
from nas_attn.data.dataset import Classes, Dataset, Masks, Split
from nas_attn.data.depth import FULL_BITS
from nas_attn.data.manifest import Manifest
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.splitting import amount, divided, stratified
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection
from nas_attn.records import ALONE, Share
from nas_attn.tables import Kind
from nas_attn.tasks import TASKS, Task

KINDS: Mapping[Kind, Classes] = {"classes": Classes(), "masks": Masks(), "boxes": Boxes()}
"""The labels of images -> what is known of such images."""


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    share: Share = ALONE,
    task: Task = TASKS["classification"],
) -> Dataset:
    """Reads, splits, puts on the device; DataError: unknown name, missing or broken files, too few
    images.
    """
    place = Place(torch.device(device), share)
    kind = KINDS[task.labels]
    # images of one size that can all be read
    fixed = ":" not in section.name and task.labels != "boxes"
    for name in ("size", "broken_images") if fixed else ():
        if getattr(section, name) != DataSection.model_fields[name].default:
            raise DataError(f"data.{name} does not apply to '{section.name}': leave it out")
    parts = sources.reader(section.name, task.labels)(section, place)
    if not isinstance(parts, Parts):
        raise DataError(
            f"data.name '{section.name}' returned {type(parts).__name__}: return"
            " nas_attn.data.parts.Parts"
        )
    train, validation = _split(parts, section, kind)
    manifest = Manifest(
        parts.classes, {"train": train.listing, "validation": validation.listing}, parts.unread
    )
    train = _subset(train, section, kind.strata(parts.classes))
    for part, split in ((train, "training"), (validation, "validation")):
        kind.check(part, parts.classes, f"{split} split of '{section.name}'")
    statistics = kind.statistics(train, section)

    digest = hashlib.blake2b(digest_size=8)
    for part in (train, validation):
        for array in (part.identity, part.labels, part.boxes):
            digest.update(b"" if array is None else array.tobytes())
    if train.bits != FULL_BITS:
        digest.update(f"{train.bits} bits".encode())

    def on_device(part: Labelled) -> Split:
        split = kind.split(part, place.device, len(parts.classes), statistics)
        return replace(
            split,
            workers=section.workers or place.processes,
            loader=part.loader,
            listing=part.listing,
        )

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
        digest=digest.hexdigest(),
        open_test=open_test,
        missing_test=parts.missing_test,
        validation_identity=validation.identity,
        task=task,
        bits=train.bits,
        manifest=manifest,
    )


def _split(parts: Parts, section: DataSection, kind: Classes) -> tuple[Labelled, Labelled]:
    """Train and validation: the source's own, or a stratified split."""
    train = parts.train
    validation = parts.validation
    strata = kind.strata(parts.classes)
    if train.loader is not None and (validation is None or section.train_subset is not None):
        lacking = "there are no images for 'validation' next to"
        if validation:
            lacking = "data.train_subset is not for"
        raise DataError(
            f"{lacking} the DataLoader of '{section.name}': its batches are taken as they are"
        )
    if validation is None:
        count = amount(section.validation, train.labels, "data.validation")
        taken, left = divided(train.labels, count, section.seed, strata, train.groups)
        train, validation = train.subset(left), train.subset(taken)
    return train, validation


def _subset(train: Labelled, section: DataSection, strata: Sequence[str]) -> Labelled:
    """The training images that are used, `data.train_subset` of them."""
    if section.train_subset is None or section.train_subset >= len(train.labels):
        return train
    taken, _ = stratified(train.labels, section.train_subset, section.seed, strata)
    return train.subset(taken)

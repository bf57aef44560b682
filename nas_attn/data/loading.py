"""A data set as a recipe describes it: read, split, and put on the device."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch

from nas_attn.data import own
from nas_attn.data.dataset import Boxes, Classes, Dataset, Masks, Redivision, Split, Statistics
from nas_attn.data.inventory import FULL_BITS
from nas_attn.data.manifest import Manifest
from nas_attn.data.own import LoaderSplit
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.splitting import Seed, amount, divided, redivided, stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.tables import Kind, data_sets_with, find_data_set
from nas_attn.recipe.tasks import TASKS, Task
from nas_attn.system.importing import load_object
from nas_attn.system.memory import SOLE_WORKER, Share

LABEL_KINDS: Mapping[Kind, Classes] = {"classes": Classes(), "masks": Masks(), "boxes": Boxes()}
"""The labels of images -> what is known of such images."""


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    share: Share = SOLE_WORKER,
    task: Task = TASKS["classification"],
) -> Dataset:
    """Reads, splits, puts on the device; DataError: unknown name, missing or broken files, too few
    images.
    """
    place = Place(torch.device(device), share)
    kind = LABEL_KINDS[task.labels]
    # images of one size that can all be read
    fixed = ":" not in section.name and task.labels != "boxes"
    for name in ("size", "broken_images") if fixed else ():
        if getattr(section, name) != DataSection.model_fields[name].default:
            raise DataError(f"data.{name} does not apply to '{section.name}': leave it out")
    parts = reader(section.name, task.labels)(section, place)
    if not isinstance(parts, Parts):
        raise DataError(
            f"data.name '{section.name}' returned {type(parts).__name__}: return"
            " nas_attn.data.parts.Parts"
        )
    home = _split(parts, section, kind)
    manifest = Manifest(
        parts.classes,
        {"train": home.train.listing, "validation": home.validation.listing},
        parts.unread,
    )
    maker = _Maker(parts, section, kind, place, task)
    own = maker.used(home)
    for part, split in ((own.train, "training"), (own.validation, "validation")):
        kind.check(part, parts.classes, f"{split} split of '{section.name}'")
    statistics = kind.statistics(own.train, section)
    dataset = maker.dataset(own, statistics, manifest)
    if not _is_redivided(parts, section, home):
        return dataset

    @lru_cache(maxsize=1)
    def divide(seed: int) -> Dataset:
        return maker.dataset(
            maker.used(_redivided(parts, section, kind, seed)), statistics, manifest
        )

    return replace(dataset, divide=divide, whole=lambda: maker.split(parts.train, statistics))


@dataclass(frozen=True)
class _Halves:
    """Images divided into training and validation."""

    train: Labelled
    validation: Labelled
    # of a seed's own division
    drawn: Redivision | None = None
    # of `data.train_subset`
    seed: Seed = 0


@dataclass(frozen=True)
class _Maker:
    """Puts images on the device, for each division of them."""

    parts: Parts
    section: DataSection
    kind: Classes
    place: Place
    task: Task

    def used(self, halves: _Halves) -> _Halves:
        """Without the training images that `data.train_subset` leaves out."""
        strata = self.kind.strata(self.parts.classes)
        train = _subset(halves.train, self.section, strata, halves.seed)
        return replace(halves, train=train)

    def split(self, part: Labelled, statistics: Statistics) -> Split:
        device = self.place.device
        classes = len(self.parts.classes)
        if part.loader is not None:
            return LoaderSplit(
                part.pixels.to(device),
                torch.from_numpy(part.labels).to(device),
                classes,
                *statistics,
                loader=part.loader,
                kind=self.task.labels,
                listing=part.listing,
            )
        return replace(
            self.kind.split(part, device, classes, statistics),
            workers=self.section.workers or self.place.processes,
            listing=part.listing,
        )

    def dataset(self, halves: _Halves, statistics: Statistics, manifest: Manifest) -> Dataset:
        """`statistics`: of the first division, for all: a network is normalised alike whichever
        seed it was trained with.
        """
        parts = self.parts

        def open_test() -> Split:
            test = parts.test()
            self.kind.check(test, parts.classes, f"test split of '{self.section.name}'")
            return self.split(test, statistics)

        return Dataset(
            name=self.section.name,
            train=self.split(halves.train, statistics),
            validation=self.split(halves.validation, statistics),
            classes=parts.classes,
            input_shape=self.kind.input_shape(halves.train),
            digest=_digest(halves),
            open_test=open_test,
            missing_test=parts.missing_test,
            validation_identity=halves.validation.identity,
            task=self.task,
            bits=halves.train.bits,
            manifest=manifest,
            drawn=halves.drawn,
            contradiction=parts.contradiction,
        )


def _digest(halves: _Halves) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in (halves.train, halves.validation):
        for array in (part.identity, part.labels, part.boxes):
            digest.update(b"" if array is None else array.tobytes())
    if halves.train.bits != FULL_BITS:
        digest.update(f"{halves.train.bits} bits".encode())
    return digest.hexdigest()


def _is_redivided(parts: Parts, section: DataSection, home: _Halves) -> bool:
    """Whether each seed divides the images anew. Raises DataError: it should, and there is nothing
    to divide.
    """
    if parts.validation is not None:
        if section.resplit is True:
            raise DataError(
                f"data.resplit = true divides the images anew for each seed, but '{section.name}'"
                " has validation images of its own: leave data.resplit out"
            )
        return False
    few = len(home.validation.labels) < FEW_VALIDATED
    return few if section.resplit == "auto" else section.resplit


def _redivided(parts: Parts, section: DataSection, kind: Classes, seed: int) -> _Halves:
    """A seed's own division."""
    train = parts.train
    count = amount(section.validation, train.labels, "data.validation")
    strata = kind.strata(parts.classes)
    both = (section.seed, seed)
    taken, left = redivided(train.labels, count, both, strata, train.groups)
    drawn = Redivision(taken, len(train.labels))
    return _Halves(train.subset(left), train.subset(taken), drawn, both)


def _split(parts: Parts, section: DataSection, kind: Classes) -> _Halves:
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
        return _Halves(train.subset(left), train.subset(taken), seed=section.seed)
    return _Halves(train, validation, seed=section.seed)


def _subset(train: Labelled, section: DataSection, strata: Sequence[str], seed: Seed) -> Labelled:
    """The training images that are used, `data.train_subset` of them."""
    if section.train_subset is None or section.train_subset >= len(train.labels):
        return train
    taken, _ = stratified(train.labels, section.train_subset, seed, strata)
    return train.subset(taken)


def reader(name: str, kind: Kind) -> Callable[..., Any]:
    """The function that reads a data set with such labels; DataError if there is none."""
    row = find_data_set(name)
    if row is None:
        raise DataError(f"unknown data set '{name}': {did_you_mean(name, data_sets_with(kind))}")
    path = getattr(row, kind)
    source, _, place = name.partition(":")
    if path == name and not place.replace(".", "_").isidentifier():
        # a path, which no function of the user's is called
        prefixes = [
            data_set.partition(":")[0] for data_set in data_sets_with(kind) if ":" in data_set
        ]
        raise DataError(
            f"data.name = '{name}': '{source}:' is not known before a path:"
            f" {did_you_mean(source, prefixes)}"
        )
    if not path:
        raise DataError(f"'{name}' has no {kind}: give {', '.join(data_sets_with(kind))}")
    function: Callable[..., Any] = load_object(path, what="data set", error=DataError)
    if "split" in inspect.signature(function).parameters:
        # A user's own torch.utils.data.Dataset.
        return partial(own.read, function, kind)
    return function

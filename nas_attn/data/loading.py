"""A data set as a recipe describes it: read, split, and put on the device."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from nas_attn.data import own
from nas_attn.data.dataset import (
    BoxedSplit,
    Dataset,
    MaskedSplit,
    Redivision,
    Split,
    Statistics,
    TargetSplit,
)
from nas_attn.data.manifest import Manifest
from nas_attn.data.parts import Labelled, Moments, Parts, Place
from nas_attn.data.splitting import Seed, amount, divided, stratified
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.tables import DATA_SETS, Kind, Load, data_sets_with, find_data_set
from nas_attn.recipe.tasks import TASKS, Task
from nas_attn.system.memory import SOLE_WORKER, Share

SPLITS: Mapping[Kind, type[Split]] = {
    "classes": Split,
    "tags": TargetSplit,
    "numbers": TargetSplit,
    "masks": MaskedSplit,
    "boxes": BoxedSplit,
}


def load(
    section: DataSection,
    *,
    device: torch.device | str,
    share: Share = SOLE_WORKER,
    task: Task = TASKS["classification"],
) -> Dataset:
    """Reads images, splits them, and puts them on the device. Raises DataError: unknown name,
    missing or broken files, too few images.

    Args:
        section: The recipe's data.
        device: Where batches go.
        share: How many workers share the device and this machine.
        task: What is learnt from the images.
    """
    place = Place(torch.device(device), share)
    # images of one size that can all be read
    fixed = ":" not in section.name and task.labels != "boxes"
    for name in ("size", "fit", "broken_images") if fixed else ():
        if getattr(section, name) != DataSection.model_fields[name].default:
            raise DataError(f"data.{name} does not apply to '{section.name}': leave it out")
    parts = reader(section.name, task.labels)(section, place)
    if not isinstance(parts, Parts):
        raise DataError(
            f"data.name '{section.name}' returned {type(parts).__name__}: return"
            " nas_attn.data.parts.Parts"
        )
    source = _Source(parts, section, place, task)
    home = source.halves(section.seed)
    listings = {"train": home.train.listing, "validation": home.validation.listing}
    manifest = Manifest(parts.classes, listings, parts.unread)
    used = source.used(home)
    for part, split in ((used.train, "training"), (used.validation, "validation")):
        source.kind.check_labels(part, parts.classes, f"{split} split of '{section.name}'")
    # of the first division, for all: a network is normalised alike whichever seed it was trained
    # with
    statistics = source.kind.statistics(used.train, section)
    moments = _moments(used.train, place)
    dataset = source.dataset(used, statistics, moments, manifest)
    if not source.is_redivided(home):
        return dataset

    @lru_cache(maxsize=1)
    def divide(seed: int) -> Dataset:
        halves = source.used(source.halves((section.seed, seed)))
        return source.dataset(halves, statistics, moments, manifest)

    return replace(dataset, divide=divide, whole=lambda: source.split(parts.train, statistics))


@dataclass(frozen=True)
class _Halves:
    """Images divided into training and validation."""

    train: Labelled
    validation: Labelled
    seed: Seed
    # of a seed's own division
    drawn: Redivision | None = None


@dataclass(frozen=True)
class _Source:
    """Images that were read, which are divided and put on the device."""

    parts: Parts
    section: DataSection
    place: Place
    task: Task

    @property
    def kind(self) -> type[Split]:
        """What is known of such images."""
        return SPLITS[self.task.labels]

    @property
    def strata(self) -> tuple[str, ...]:
        """Names of the classes whose shares a split keeps."""
        return self.parts.classes if self.task.labels == "classes" else ("image",)

    def halves(self, seed: Seed) -> _Halves:
        """Training and validation images: the source's own, or a division by the recipe's seed, or
        by that and a run's.
        """
        train = self.parts.train
        validation = self.parts.validation
        if validation is not None:
            return _Halves(train, validation, seed)
        count = amount(self.section.validation, train.labels, "data.validation")
        tags = train.targets if self.task.labels == "tags" else None
        taken, left = divided(train.labels, count, seed, self.strata, train.groups, tags)
        drawn = Redivision(taken, len(train.labels)) if isinstance(seed, tuple) else None
        return _Halves(train.subset(left), train.subset(taken), seed, drawn)

    def used(self, halves: _Halves) -> _Halves:
        """The same without the training images that `data.train_subset` leaves out."""
        train = halves.train
        count = self.section.train_subset
        if count is None or count >= len(train.labels):
            return halves
        taken, _ = stratified(train.labels, count, halves.seed, self.strata)
        return replace(halves, train=train.subset(taken))

    def is_redivided(self, home: _Halves) -> bool:
        """Whether each seed divides the images anew. Raises DataError: it should, and there is
        nothing to divide.
        """
        resplit = self.section.resplit
        if self.parts.validation is None:
            few = len(home.validation.labels) < FEW_VALIDATED
            return few if resplit == "auto" else resplit
        if resplit is True:
            raise DataError(
                "data.resplit = true divides the images anew for each seed, but"
                f" '{self.section.name}' has validation images of its own: leave data.resplit out"
            )
        return False

    def split(self, part: Labelled, statistics: Statistics) -> Split:
        """Images on the device."""
        split = self.kind.made(part, self.place.device, len(self.parts.classes), statistics)
        workers = self.section.workers or self.place.processes
        return replace(split, workers=workers, listing=part.listing)

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
        parts = self.parts

        def open_test() -> Split:
            test = parts.test()
            self.kind.check_labels(test, parts.classes, f"test split of '{self.section.name}'")
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
            moments=moments,
            manifest=manifest,
            drawn=halves.drawn,
        )


def _moments(train: Labelled, place: Place) -> Moments | None:
    """Mean and standard deviation of each label or column; None for other labels."""
    if train.targets is None:
        return None
    targets = torch.from_numpy(train.targets).double()
    mean = targets.mean(0).float()
    return mean.to(place.device), targets.std(0, correction=0).float().to(place.device)


def _digest(halves: _Halves) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in (halves.train, halves.validation):
        for array in (part.identity, part.labels, part.boxes, part.targets):
            digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


def reader(name: str, kind: Kind) -> Callable[[DataSection, Place], Any]:
    """Returns the function that reads a data set with such labels, ours or a user's own. Raises
    DataError: there is none.
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

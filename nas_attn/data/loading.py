"""A data set as a recipe describes it: read, split, and put on the device."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
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
    _check_unknown(section, task.labels)
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
    return _dataset(parts, section, device, task)


def _check_unknown(section: DataSection, kind: Kind) -> None:
    """Raises DataError: `data.unknown` is given, and no cells or labels are there for it."""
    source, colon, _ = section.name.partition(":")
    of_table = kind in ("tags", "numbers") or (kind == "classes" and section.table is not None)
    of_own = kind != "boxes" and source not in ("folder", "coco", "yolo")
    if section.unknown and not (colon and (of_own or (source == "folder" and of_table))):
        raise DataError(
            "data.unknown is for the cells of a folder's table (data.table, where it has classes)"
            f" and for labels of your own data: leave it out; in masks, {NOT_COUNTED} stands for"
            " pixels of which nobody knows the class"
        )


@dataclass(frozen=True)
class _Halves:
    """Images divided into training and validation."""

    train: Samples
    validation: Samples
    # of a seed's own division
    drawn: Redivision | None = None


def _dataset(parts: Parts, section: DataSection, device: torch.device, task: Task) -> Dataset:
    """The data set of the recipe's own division. Raises DataError: too few images, or nothing to
    learn.
    """
    classes = parts.train.classes
    parts, home = _first(parts, section, task)
    listings = {"train": home.train.listing, "validation": home.validation.listing}
    manifest = Manifest(classes, listings, parts.unread)
    redivided = _is_redivided(parts, section, home)
    home = _used(home, section, section.seed, task.labels)
    for part, name in ((home.train, "training"), (home.validation, "validation")):
        _checked(part, classes, task.labels, name, section)
    # of the first division, for all: a network is normalised alike whichever seed it was trained
    # with
    statistics = _statistics(home.train, section, task.labels)

    def split(part: Samples) -> Split:
        assert part.pixels is not None
        tables = (part.targets, part.boxes)
        targets, boxes = (t if t is None else torch.from_numpy(t).to(device) for t in tables)
        return Split(
            part.pixels.to(device),
            torch.from_numpy(part.labels).to(device),
            len(classes),
            *statistics,
            targets=targets,
            boxes=boxes,
            masked=task.labels == "masks",
            workers=section.workers or 1,
            listing=part.listing,
        )

    def divided(halves: _Halves) -> dict[str, Any]:
        return {
            "train": split(halves.train),
            "validation": split(halves.validation),
            "digest": _digest(halves),
            "drawn": halves.drawn,
        }

    assert home.train.pixels is not None
    dataset = Dataset(
        name=section.name,
        classes=classes,
        input_shape=(len(statistics[0]), *home.train.pixels.shape[1:]),
        open_test=lambda: split(_checked(parts.test(), classes, task.labels, "test", section)),
        missing_test=parts.missing_test,
        task=task,
        moments=_moments(home.train, device),
        manifest=manifest,
        **divided(home),
    )
    if not redivided:
        return dataset

    @lru_cache(maxsize=1)
    def divide(seed: int) -> Dataset:
        own = (section.seed, seed)
        halves = _used(_halves(parts, section, task, own), section, own, task.labels)
        return replace(dataset, **divided(halves))

    return replace(dataset, divide=divide, whole=lambda: split(parts.train))


def _first(parts: Parts, section: DataSection, task: Task) -> tuple[Parts, _Halves]:
    """The recipe's own division, and what is divided: with the classes that each mask shows, if a
    plain division would leave one out of training.
    """
    home = _halves(parts, section, task, section.seed)
    if parts.validation is None and task.labels == "masks" and home.train.undrawn():
        parts = replace(parts, train=parts.train.with_shown())
        home = _halves(parts, section, task, section.seed)
    return parts, home


def _halves(parts: Parts, section: DataSection, task: Task, seed: Seed) -> _Halves:
    """Training and validation images: the source's own, or a division by the recipe's seed, or by
    that and a run's.
    """
    train = parts.train
    if parts.validation is not None:
        return _Halves(train, parts.validation)
    count = amount(section.validation, train.labels, "data.validation")
    taken, left = train.divided(count, seed, task.labels)
    drawn = Redivision(taken, len(train)) if isinstance(seed, tuple) else None
    return _Halves(train.subset(left), train.subset(taken), drawn)


def _used(halves: _Halves, section: DataSection, seed: Seed, kind: Kind) -> _Halves:
    """The same without the training images that `data.train_subset` leaves out."""
    train = halves.train
    count = section.train_subset
    if count is None or count >= len(train):
        return halves
    if kind == "tags":
        taken, _ = train.divided(count, seed, kind)
    else:
        taken, _ = stratified(train.labels, count, seed, train.classes)
    return replace(halves, train=train.subset(taken))


def _is_redivided(parts: Parts, section: DataSection, home: _Halves) -> bool:
    """Whether each seed divides the images anew. Raises DataError: it should, and there is nothing
    to divide.
    """
    if parts.validation is None:
        few = len(home.validation) < FEW_VALIDATED
        return few if section.resplit == "auto" else section.resplit
    if section.resplit is True:
        raise DataError(
            "data.resplit = true divides the images anew for each seed, but"
            f" '{section.name}' has validation images of its own: leave data.resplit out"
        )
    return False


def _checked(
    part: Samples, classes: tuple[str, ...], kind: Kind, name: str, section: DataSection
) -> Samples:
    """A split, of this name. Raises DataError: it lacks a class, or has nothing to learn."""
    part = replace(part, classes=classes)
    what = f"{name} split of '{section.name}'"
    if kind == "classes":
        part.check_classes(what)
    elif kind == "masks":
        _check_masks(part, what, every=name == "training")
    elif part.boxes is not None and not (part.boxes[..., 0] > 0).any():
        raise DataError(f"{what} has no image with a box: add some")
    elif part.targets is not None and name == "training":
        for column, values in zip(part.classes, part.targets.T, strict=True):
            known = values[~np.isnan(values)]
            if len(known) == 0 or known.min() == known.max():
                said = f"the value {known[0]:g}" if len(known) else "no known value"
                raise DataError(
                    f"{what} has {said} of '{column}' for all of its images, so"
                    " there is nothing to learn: leave it out, or add images with another one"
                )
    return part


def _statistics(train: Samples, section: DataSection, kind: Kind) -> Statistics:
    """What batches are normalised with: of the training split, or the recipe's."""
    assert train.pixels is not None
    if kind == "boxes":
        # grey is 0 in augmentation
        return tuple(value / 255 for value in PADDING_GREY), (1.0, 1.0, 1.0)
    channels = train.pixels.shape[0] - (kind == "masks")
    mean = section.mean
    std = section.std
    if mean is None or std is None:
        return train.pixels.moments(channels)
    if len(mean) != channels or len(std) != channels:
        raise DataError(
            f"data.mean and data.std have {len(mean)} and {len(std)} values, but"
            f" '{section.name}' has {channels} channels: give one of each for a channel"
        )
    return tuple(mean), tuple(std)


def _check_masks(part: Samples, what: str, *, every: bool) -> None:
    """Raises DataError: a class is missing in the training split, or all of them in another."""
    missing = part.undrawn()
    if len(missing) < (1 if every else len(part.classes)):
        return
    raise DataError(
        f"{what} has no pixel of class '{missing[0]}' ({len(missing)} of {len(part.classes)}"
        f" classes are missing): a mask's values are class numbers, 0 to {len(part.classes) - 1},"
        f" and {NOT_COUNTED} is not counted"
    )


def _moments(train: Samples, device: torch.device) -> Moments | None:
    """Mean and standard deviation of what is known of each label or column; None for other
    labels.
    """
    if train.targets is None:
        return None
    of_known = (np.nanmean(train.targets, 0, np.float64), np.nanstd(train.targets, 0, np.float64))
    mean, deviation = (torch.from_numpy(one).float().to(device) for one in of_known)
    return mean, deviation


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

"""A user's folder of images: one sub-folder per class as torchvision has it. `masks` reads those
with masks, for segmentation.

Either in `PATH/train` beside `PATH/val` (or `valid`, `validation`) and `PATH/test`, or in the
folders that `data.splits` names, or in `PATH` itself, of which a fifth is kept for the test.
Images become RGB, turned by their EXIF data, with white for transparent parts, and as large as
`size`, as `fit` says.
The result is kept in the user's cache folder until a file's name, size or time changes.
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.bands import missing_reader, read_bands
from nas_attn.data.cache import (
    State,
    cache_file,
    cache_folder,
    cache_mark,
    exclusive,
    remove_unused,
    states,
)
from nas_attn.data.decoding import (
    Cut,
    Framed,
    Masked,
    Source,
    decode_all,
    files_of,
)
from nas_attn.data.inventory import NOT_COUNTED, WHOLE
from nas_attn.data.manifest import Listing
from nas_attn.data.parts import Labelled, Parts, Place, checksums
from nas_attn.data.pixels import ImagesFile, InMemory, Mapped, Pixels, images_file
from nas_attn.data.splitting import GroupsOf, amount, divided, find_groups
from nas_attn.data.walking import (
    Layout,
    class_names,
    layout,
    plain,
    subfolders,
    walk,
)
from nas_attn.errors import DataError, NasAttnWarning, did_you_mean, few, printable, several
from nas_attn.recipe.recipe import DataSection, SplitsSection
from nas_attn.recipe.sections import LARGEST_SIDE
from nas_attn.recipe.tables import Kind
from nas_attn.system.paths import user_path, whole_file

# side of an image in pixels, where the recipe does not say it
FOLDER_SIZE = 64
# torchvision's names of them
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
# of the images of a folder that is not divided
TEST_SHARE = 0.2
# of the prepared images: a change of how they are made needs another number
CACHE_FORMAT = 7
# largest share of a GPU's free memory for the images of a split
MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class Files:
    """Images of a folder: plain files, or with masks, or with the image size of their
    annotations.
    """

    root: Path
    sources: Sequence[Source]
    # (N,)
    labels: NDArray[np.int64]
    # (N,)
    groups: NDArray[np.str_] | None = None
    # (N, K), as of `Labelled`
    targets: NDArray[np.float32] | None = None

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [files_of(source)[0] for source in self.sources]

    @property
    def names(self) -> NDArray[np.str_]:
        """(N,): the image files' paths below the folder, as on every system."""
        return np.array([_below(path, self.root).as_posix() for path in self.paths])

    def subset(self, index: NDArray[np.int64]) -> Files:
        groups = None if self.groups is None else self.groups[index]
        targets = None if self.targets is None else self.targets[index]
        sources = tuple(self.sources[i] for i in index)
        return Files(self.root, sources, self.labels[index], groups, targets)


# (the groups of images, a split or WHOLE) -> its files
Lister = Callable[[GroupsOf | None, str], Files]


def read(section: DataSection, place: Place) -> Parts:
    """Reads `folder:PATH` with a folder for each class. Raises DataError: no folder or classes, a
    broken image to be refused, or a class is missing from a split.
    """
    root = image_folder(section)
    folders = layout(root, section.splits)
    classes = class_names(folders.train)
    lister = partial(_list, folders, classes)
    return split_folder(folders, section, place, lister, classes, "classes")


def image_folder(section: DataSection) -> Path:
    """Returns the folder of `folder:PATH`. Raises DataError: it does not exist."""
    root = user_path(section.name.removeprefix("folder:"), what="image folder", error=DataError)
    if not root.is_dir():
        raise DataError(f"image folder '{root}' does not exist (looked in {Path.cwd()})")
    return root


def split_folder(
    folders: Layout,
    section: DataSection,
    place: Place,
    lister: Lister,
    classes: tuple[str, ...],
    kind: Kind,
) -> Parts:
    """Prepares the splits of a folder: its own; without these, a fifth of all images is for the
    test. Raises DataError: an image or a class is missing, or a group is divided.

    Args:
        folders: Where its splits are.
        section: The recipe's data.
        place: Where the images go.
        lister: Lists the images of a split.
        classes: Their names.
        kind: What is known of an image: a split keeps the shares of classes and labels.
    """
    root = folders.root
    groups_of = None
    # a table's lister knows its column
    if section.groups is not None and section.groups.column is None:
        groups_of = find_groups(section.groups, root)
    if not folders.splits:
        everything = lister(groups_of, WHOLE)
        count = amount(TEST_SHARE, everything.labels, "the test split")
        tags = everything.targets if kind == "tags" else None
        strata = classes if kind == "classes" else ("image",)
        test, rest = divided(
            everything.labels, count, section.seed, strata, everything.groups, tags
        )
        kept = everything.subset(test)
        learnt = everything.subset(rest)
        ready = preparer(learnt, section, place)
        return Parts(ready(learnt), None, lambda: ready(kept), classes, unread=_unread(kept))

    validation = folders.splits.get("validation")
    if validation is not None and section.validation is not None:
        raise DataError(
            f"data.validation does not apply, since {few([str(split) for split in validation])}"
            " has the validation images: remove it"
        )
    learnt_on = ("train", "validation") if validation else ("train",)
    splits = [lister(groups_of, split) for split in learnt_on]
    missing = f"image folder '{root}' has no test split: {folders.way_to_test}"
    if not folders.way_to_test:
        missing = _no_test(root, section)
    last: list[Files] = []
    if "test" in folders.splits:
        try:
            # names of files; no image is read
            last = [lister(groups_of, "test")]
            missing = ""
        except DataError as error:
            missing = str(error)
    _check_apart([*splits, *last])
    ready = preparer(splits[0], section, place)

    def test_part() -> Labelled:
        if missing:
            raise DataError(missing)
        return ready(last[0])

    return Parts(
        ready(splits[0]),
        ready(splits[1]) if validation else None,
        test_part,
        classes,
        missing,
        _unread(last[0]) if last else None,
    )


def _no_test(root: Path, section: DataSection) -> str:
    """What is said where a folder has no test split."""
    if section.splits is not None:
        return (
            f"image folder '{root}' has no test split, since data.splits names no folder for it:"
            " begin a new study whose data.splits.test does"
        )
    return (
        f"image folder '{root}' has no test split: add the folder '{root / 'test'}', laid out as"
        " 'train'"
    )


def _unread(files: Files) -> Listing:
    """Names and classes of images that stay closed."""
    if files.targets is not None:
        return Listing(checksums(files.targets), files.names, boxed=True)
    return Listing(files.labels, files.names)


def _check_apart(splits: Sequence[Files]) -> None:
    """Raises DataError: a group has images in two of the splits."""
    # group -> the split of its first image, and that image
    first_of_group: dict[str, tuple[int, str]] = {}
    for number, files in enumerate(splits):
        groups = () if files.groups is None else files.groups
        for group, name in zip(groups, files.names, strict=False):
            other, first = first_of_group.setdefault(group, (number, name))
            if other != number:
                raise DataError(
                    f"group '{group}' of data.groups is on both sides of a split, in '{first}' and"
                    f" '{name}' of '{files.root}': move its images into one folder"
                )


def count_trained(path: str, splits: SplitsSection | None = None) -> float:
    """Returns the approximate number of a folder's training images, without reading them; 0 without
    such a folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        return 0
    folders = layout(root, splits)
    count = sum(len(walk(folder).images) for folder in folders.train)
    # a fifth is the test split, a fifth of the rest the validation split
    if not folders.splits:
        return 0.64 * count
    return (1 if "validation" in folders.splits else 0.8) * count


def _list(places: Layout, classes: Sequence[str], groups_of: GroupsOf | None, split: str) -> Files:
    """The image files under each class folder of a split's folders, sorted in each. Raises
    DataError: a class has none, or a folder has a class that is not in `classes`.
    """
    paths: list[Path] = []
    labels: list[int] = []
    groups: list[str] = []
    folders = places.of(split)
    for folder in folders:
        _check_known(folder, classes)
        below = [walk(folder / name).images for name in classes]
        inside = list(itertools.chain(*below))
        paths += inside
        labels += np.repeat(np.arange(len(classes)), list(map(len, below))).tolist()
        groups += [] if groups_of is None else groups_of(inside, folder)
    for label in set(range(len(classes))).difference(labels):
        empty = [str(folder / classes[label]) for folder in folders]
        none = f"'{empty[0]}' has no image"
        if len(empty) > 1:
            none = f"none of {few(empty)} has an image"
        raise DataError(f"{none}: every class needs images in every split")
    return Files(places.root, tuple(paths), np.array(labels), np.array(groups) if groups else None)


def _check_known(folder: Path, classes: Sequence[str]) -> None:
    """Raises DataError: a folder has a class that the training images do not have."""
    for strange in sorted(set(subfolders(folder)) - set(classes)):
        way_out = ""
        if plain(strange) in map(plain, classes):
            way_out = ", but one written in another Unicode form or case: rename one of the two"
        raise DataError(
            f"'{folder}' has a class '{strange}' that the training images do not have{way_out}"
        )


def preparer(train: Files, section: DataSection, place: Place) -> Callable[[Files], Labelled]:
    """Returns a function that decodes the images of any split, and maps them into memory. It raises
    DataError: one cannot be read and is to be refused.

    Args:
        train: The training images: all splits have bands of 8 bits, or of more, as these.
        section: The recipe's data.
        place: Where the images go.
    """
    deep = False
    if section.channels is not None:
        deep = section.nodata is not None or _are_deep(train.root, train.paths)
    cut = replace(_cut(section), deep=deep)
    return lambda files: _prepared(files, cut, section, place)


def _are_deep(root: Path, paths: Sequence[Path]) -> bool:
    """Whether the bands of training images have more than 8 bits, by the first that can be read.
    Raises DataError: the package that reads them is missing.
    """
    if lacking := missing_reader(paths):
        raise DataError(f"the images of '{root}': {lacking}")
    for path in paths:
        # readers raise any error for damaged files
        with suppress(Exception):
            return read_bands(path).dtype != np.uint8
    return False


def _prepared(files: Files, cut: Cut, section: DataSection, place: Place) -> Labelled:
    size = len(files.labels) * math.prod(cut.shape(files.sources)) * np.dtype(cut.dtype).itemsize
    all_states = [states(files_of(source)) for source in files.sources]
    free = 0
    if place.device.type == "cuda":
        # for one worker's images
        free = torch.cuda.mem_get_info(place.device)[0] // place.share.device
    made, images = _cached(files, all_states, cut, held=size <= MEMORY_SHARE * free)
    identity = [
        _identity(source, files.root, [size for size, _, _ in own_states])
        for source, own_states in zip(files.sources, all_states, strict=True)
    ]
    prepared = Labelled(
        images,
        files.labels,
        np.array(identity, np.int64),
        files.groups,
        names=files.names,
        content=made.content,
        targets=files.targets,
    )
    if not made.broken.any():
        return prepared
    _report(files, made, section)
    return prepared.subset(np.flatnonzero(~made.broken))


def _cut(section: DataSection) -> Cut:
    """How images are made alike. Raises DataError: `data.options` has a wrong key or value."""
    cut = Cut.of(section.size or FOLDER_SIZE, section.fit)
    options = section.options
    for key in options.keys() - {"resize", "interpolation"}:
        raise DataError(
            f"unknown option data.options.{key} of a folder: give resize or interpolation"
        )
    resize = options.get("resize", cut.height)
    if "resize" in options and (section.fit != "cut" or cut.height != cut.width):
        raise DataError(
            "data.options.resize is for a square that is cut out: remove it, or data.fit and a"
            " data.size of two numbers"
        )
    how = options.get("interpolation", "bilinear")
    is_whole = isinstance(resize, int) and not isinstance(resize, bool)
    if not is_whole or not cut.height <= int(resize) <= LARGEST_SIDE:
        raise DataError(
            f"data.options.resize = {resize} must be a number of pixels, data.size ="
            f" {cut.height} or more"
        )
    if how not in INTERPOLATIONS:
        raise DataError(f"data.options.interpolation: {did_you_mean(str(how), INTERPOLATIONS)}")
    return replace(
        cut,
        resize=int(resize),
        interpolation=str(how),
        channels=section.channels,
        nodata=section.nodata,
    )


@dataclass(frozen=True)
class _Made:
    """What is known of prepared images."""

    # (N,): those that cannot be read
    broken: NDArray[np.bool_]
    # (N,): checksums of the files
    content: NDArray[np.int64]
    # of each broken one
    why: tuple[str, ...]


def _report(files: Files, made: _Made, section: DataSection) -> None:
    """Raises DataError for images that cannot be read, or warns of them, as the recipe says."""
    first = files.sources[0]
    names = [printable(name) for name in files.names[made.broken]]
    count = f"{several(len(names), 'image')} of '{files.root}' cannot be read"
    if isinstance(first, Masked):
        masks = "its mask" if len(names) == 1 else "their masks"
        count += (
            f" with {masks} (gray or palette, of the image's size, values 0 to {first.classes - 1},"
            f" or {NOT_COUNTED})"
        )
    if isinstance(first, Framed):
        count += " at the size that its annotations say"
    if made.broken.all():
        raise DataError(f"{count}: all of them; the first, '{names[0]}': {made.why[0]}")
    if section.broken_images == "refuse":
        raise DataError(
            f"{count}, the first is '{names[0]}' ({made.why[0]}): repair or remove it or set"
            ' data.broken_images = "skip"'
        )
    _warn(f"{count}, left out: {few(names)}; the first: {made.why[0]}")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, NasAttnWarning, stacklevel=3)


def _cached(
    files: Files, all_states: Sequence[Sequence[State]], cut: Cut, *, held: bool
) -> tuple[_Made, Pixels]:
    """What is known of the images; the images, (C, height, width) each. `held`: as in
    `ImagesFile`.
    """
    what = (CACHE_FORMAT, cut, str(files.root.resolve()), files.sources, all_states)
    path = cache_file(files.root, what, ".npz")
    mapped = path.with_suffix(".npy")
    count = len(files.sources)
    shape = cut.shape(files.sources)
    try:
        with exclusive(path.with_suffix(".lock"), f"the prepared images of '{files.root}'"):
            made = _read_made(path, count)
            if made is None:
                remove_unused(path.parent)
                with images_file(mapped, count, shape, cut.dtype) as write:
                    made = _decode(files, cut, write)
                with whole_file(path) as file:
                    np.savez(
                        file,
                        allow_pickle=False,
                        broken=made.broken,
                        content=made.content,
                        why=np.array(made.why, np.str_),
                    )
            return made, Mapped(ImagesFile(mapped, held=held))
    except OSError as error:
        _warn(f"prepared images cannot be saved in {path.parent} ({error})")
    images = np.zeros((count, *shape), cut.dtype)
    rows = iter(images)
    made = _decode(files, cut, lambda pixels: np.copyto(next(rows), pixels))
    return made, InMemory(torch.from_numpy(images))


def _decode(files: Files, cut: Cut, write: Callable[[NDArray[Any]], object]) -> _Made:
    """Decodes all images and writes each, black for broken ones."""
    black = np.zeros(cut.shape(files.sources), cut.dtype)
    broken: list[bool] = []
    content: list[int] = []
    why: list[str] = []
    for image in decode_all(files.sources, cut):
        write(black if image.pixels is None else image.pixels)
        broken.append(image.pixels is None)
        content.append(image.content)
        why += [image.why] if image.pixels is None else []
    return _Made(np.array(broken, bool), np.array(content, np.int64), tuple(why))


def _read_made(path: Path, count: int) -> _Made | None:
    """What is known of prepared images; None if nothing was prepared, or it is damaged."""
    mapped = path.with_suffix(".npy")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            made = _Made(arrays["broken"], arrays["content"], tuple(arrays["why"].tolist()))
        whole = len(np.load(mapped, mmap_mode="r")) == len(made.broken) == len(made.content)
        for used in (path, mapped):
            os.utime(used)
        return made if whole and len(made.broken) == count else None
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def prepared_files(section: DataSection) -> list[Path]:
    """Returns all prepared files of `folder:PATH` or `coco:FOLDER`; none for other data."""
    source, _, path = section.name.partition(":")
    folder = cache_folder()
    if source not in ("folder", "coco") or not folder.is_dir():
        return []
    mark = cache_mark(user_path(path, what="image folder", error=DataError))
    return sorted(found for found in folder.iterdir() if found.name.startswith(f"{mark}-"))


def _identity(source: Source, root: Path, sizes: Sequence[int]) -> int:
    files = zip(files_of(source), sizes, strict=True)
    named = "|".join(f"{_below(path, root)}:{size}" for path, size in files)
    return zlib.crc32(named.encode("utf-8", "surrogateescape"))


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path

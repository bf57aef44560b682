"""A user's folder of images: one sub-folder per class as torchvision has it. `masks` reads those
with masks, for segmentation.

Either in `PATH/train` beside `PATH/val` (or `valid`, `validation`) and `PATH/test`, or in the
folders that `data.splits` names, or in `PATH` itself, of which a fifth is kept for the test.
Images become RGB, turned by their EXIF data, with white for transparent parts; their shorter side
is scaled to `size` and the middle square cut out.
The result is kept in the user's cache folder until a file's name, size or time changes.
"""

from __future__ import annotations

import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.cache import (
    State,
    cache_file,
    cache_folder,
    cache_mark,
    exclusive,
    remembered,
    remove_unused,
    states,
)
from nas_attn.data.decoding import (
    Cut,
    Decoded,
    Framed,
    Masked,
    Source,
    channels_of,
    decode_all,
    drawn_alike,
    files_of,
    told,
    turned_images,
)
from nas_attn.data.depth import used_bits
from nas_attn.data.inventory import FULL_BITS, NOT_COUNTED
from nas_attn.data.manifest import Listing
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.pixels import ImagesFile, InMemory, Mapped, Pixels, images_file
from nas_attn.data.splitting import GroupsOf, amount, divided, find_groups
from nas_attn.data.walking import (
    Layout,
    class_names,
    classes_problem,
    layout,
    subfolders,
    walk,
    without_spaces,
)
from nas_attn.errors import (
    DataError,
    NasAttnWarning,
    did_you_mean,
    few,
    printable,
    several,
)
from nas_attn.recipe.recipe import DataSection, SplitsSection
from nas_attn.recipe.sections import LARGEST_SIDE
from nas_attn.system.paths import user_path, whole_file

# side of an image in pixels, where the recipe does not say it
FOLDER_SIZE = 64
# torchvision's names of them
INTERPOLATIONS = (
    "nearest",
    "nearest-exact",
    "bilinear",
    "bicubic",
    "box",
    "hamming",
    "lanczos",
)
# of the images of a folder that is not divided
TEST_SHARE = 0.2
# of the prepared images: a change of how they are made needs another number
CACHE_FORMAT = 7
# of what is kept of the bits that images use
DEPTH_FORMAT = 2
# largest share of a GPU's free memory for the images of a split
MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class Files:
    """Images of a folder: plain files, or with masks, or with the image size of their
    annotations.
    """

    root: Path
    sources: Sequence[Source]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_] | None = None

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [files_of(source)[0] for source in self.sources]

    def subset(self, index: NDArray[np.int64]) -> Files:
        groups = None if self.groups is None else self.groups[index]
        return Files(self.root, tuple(self.sources[i] for i in index), self.labels[index], groups)


def read(section: DataSection, place: Place) -> Parts:
    """`folder:PATH`; DataError: no folder or classes, a broken image to be refused, or a class is
    missing from a split.
    """
    root = image_folder(section)
    folder_layout = layout(root, section.splits)
    classes = class_names(folder_layout.train)
    parts = split_folder(
        folder_layout, section, place, partial(_list, root, classes), classes, classes
    )
    return replace(parts, contradiction=classes_problem(folder_layout.train, classes))


def image_folder(section: DataSection) -> Path:
    """The folder of `folder:PATH`. Raises DataError: it does not exist."""
    root = user_path(section.name.removeprefix("folder:"), what="image folder", error=DataError)
    if not root.is_dir():
        raise DataError(f"image folder '{root}' does not exist (looked in {Path.cwd()})")
    return root


def split_folder(
    folder_layout: Layout,
    section: DataSection,
    place: Place,
    list_: Callable[[GroupsOf | None, Sequence[Path]], Files],
    classes: tuple[str, ...],
    strata: tuple[str, ...],
) -> Parts:
    """The splits of a folder: its own; without these, a fifth of all images for the test."""
    root = folder_layout.root
    groups_of = None
    if section.groups is not None:
        groups_of = find_groups(section.groups, root)
    listed = partial(list_, groups_of)

    if not folder_layout.splits:
        return _with_test_taken_off(listed((root,)), section, place, classes, strata)
    validation = folder_layout.splits.get("validation")
    if validation is not None and section.validation is not None:
        raise DataError(
            f"data.validation does not apply, since {few([str(split) for split in validation])}"
            " has the validation images: remove it"
        )
    splits = [listed(split) for split in (folder_layout.train, validation) if split is not None]
    missing = _no_test(root, section)
    last: list[Files] = []
    if "test" in folder_layout.splits:
        try:
            # names of files; no image is read
            last = [listed(folder_layout.splits["test"])]
            missing = ""
        except DataError as error:
            missing = str(error)
    _check_apart([*splits, *last])
    ready = _preparing(splits[0], splits, section, place)

    def test_part() -> Labelled:
        if missing:
            raise DataError(missing)
        return ready(last[0])

    return Parts(
        ready(splits[0]),
        ready(splits[1]) if validation is not None else None,
        test_part,
        classes,
        missing,
        _unread(last[0]) if last else None,
    )


def _with_test_taken_off(
    everything: Files,
    section: DataSection,
    place: Place,
    classes: tuple[str, ...],
    strata: tuple[str, ...],
) -> Parts:
    """The parts of a folder that is not divided: a fifth is for the test."""
    count = amount(TEST_SHARE, everything.labels, "the test split")
    test, rest = divided(everything.labels, count, section.seed, strata, everything.groups)
    kept = everything.subset(test)
    learnt = everything.subset(rest)
    ready = _preparing(learnt, [everything], section, place)
    return Parts(
        ready(learnt),
        None,
        lambda: ready(kept),
        classes,
        unread=_unread(kept),
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


def _preparing(
    train: Files, known: Sequence[Files], section: DataSection, place: Place
) -> Callable[[Files], Labelled]:
    """`prepare`, for all splits with the bits that the training images use, and with masks drawn on
    what the known images tell.
    """
    complete = with_used_bits(train, section)
    drawn = drawing(known)
    return lambda files: prepare(drawn(files), complete, place)


def drawing(known: Sequence[Files]) -> Callable[[Files], Files]:
    """A function for all splits of a data set, whose labels are drawn on what the known images
    tell: those as stored, or as shown.
    """
    seen = itertools.chain(*(turned_images(files.root, files.sources) for files in known))
    answer = told(seen)
    return lambda files: replace(files, sources=drawn_alike(files.sources, answer))


def with_used_bits(train: Files, section: DataSection) -> DataSection:
    """The section with the number of bits that its training images use, if it leaves that open."""
    if section.bits != "auto":
        return section
    return section.model_copy(update={"bits": bits_in_use(train.root, train.paths)})


def bits_in_use(root: Path, paths: Sequence[Path]) -> int:
    """As `used_bits`, kept until a file changes."""
    question = ("bits that are used", DEPTH_FORMAT)
    bits: int = remembered(root, question, paths, lambda: used_bits(paths))
    return bits


def _unread(files: Files) -> Listing:
    """Names and classes of images that stay closed."""
    names = [_named(source, files.root) for source in files.sources]
    return Listing(files.labels, np.array(names))


def count_trained(path: str, splits: SplitsSection | None = None) -> float:
    """Approximate number of a folder's training images, without reading them; 0 without such a
    folder.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        return 0
    folder_layout = layout(root, splits)
    count = sum(len(images_below(folder)) for folder in folder_layout.train)
    # a fifth is the test split, a fifth of the rest the validation split
    if not folder_layout.splits:
        return 0.64 * count
    return (1 if "validation" in folder_layout.splits else 0.8) * count


def named_files(section: DataSection, identity: NDArray[np.int64]) -> tuple[Path, list[str]]:
    """(folder, paths in it) of images, from checksums of their names and sizes, in this order."""
    root = user_path(section.name.removeprefix("folder:"), what="image folder", error=DataError)
    paths = {_identity(path, root, [path.stat().st_size]): path for path in images_below(root)}
    return root, [paths[int(number)].relative_to(root).as_posix() for number in identity]


def _check_apart(splits: Sequence[Files]) -> None:
    """Raises DataError: a group has images in two of the splits."""
    # group -> the split of its first image, and that image
    first_of_group: dict[str, tuple[int, Path]] = {}
    for number, files in enumerate(splits):
        if files.groups is None:
            continue
        for group, path in zip(files.groups, files.paths, strict=True):
            other, first = first_of_group.setdefault(group, (number, path))
            if other != number:
                here = path.relative_to(files.root)
                there = first.relative_to(files.root)
                raise DataError(
                    f"group '{group}' of data.groups is on both sides of a split, in '{there}' and"
                    f" '{here}' of '{files.root}': move its images into one folder"
                )


def images_below(folder: Path) -> list[Path]:
    """All image files below a folder, sorted; none if the folder does not exist."""
    return walk(folder).images


def _list(
    root: Path, classes: Sequence[str], groups_of: GroupsOf | None, folders: Sequence[Path]
) -> Files:
    """The image files under each class folder of a split's folders, sorted in each. Raises
    DataError: a class has none, or a folder has a class that is not in `classes`.
    """
    files = joined([_listed(root, classes, groups_of, folder) for folder in folders])
    for label, name in enumerate(classes):
        if not (files.labels == label).any():
            places = [str(folder / name) for folder in folders]
            none = f"'{places[0]}' has no image"
            if len(places) > 1:
                none = f"none of {few(places)} has an image"
            raise DataError(f"{none}: every class needs images in every split")
    return files


def joined(parts: Sequence[Files]) -> Files:
    """The files of several folders, one after another."""
    if len(parts) == 1:
        return parts[0]
    groups = [part.groups for part in parts if part.groups is not None]
    return Files(
        parts[0].root,
        tuple(itertools.chain.from_iterable(part.sources for part in parts)),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(groups) if groups else None,
    )


def _listed(root: Path, classes: Sequence[str], groups_of: GroupsOf | None, folder: Path) -> Files:
    strange = sorted(set(subfolders(folder)) - set(classes))
    class_by_name = {without_spaces(name): name for name in classes}
    if strange and without_spaces(strange[0]) in class_by_name:
        raise DataError(
            f"'{folder}' has the class '{strange[0]}', which is written in another Unicode form,"
            f" case or spaces than '{class_by_name[without_spaces(strange[0])]}' of the training"
            " images: rename one of them"
        )
    if strange:
        raise DataError(
            f"'{folder}' has a class '{strange[0]}' that the training images do not have"
        )
    paths: list[Path] = []
    counts = []
    for name in classes:
        images = images_below(folder / name)
        paths += images
        counts.append(len(images))
    groups = None if groups_of is None else np.array(groups_of(paths, folder))
    return Files(root, tuple(paths), np.repeat(np.arange(len(classes)), counts), groups)


def prepare(files: Files, section: DataSection, place: Place) -> Labelled:
    """Decoded images, mapped into memory. Raises DataError: one cannot be read and is to be
    refused.
    """
    cut = _cut(section)
    size = len(files.labels) * channels_of(files.sources) * cut.size**2
    all_states = [states(files_of(source)) for source in files.sources]
    held = size <= MEMORY_SHARE * _gpu_memory(place)
    made, images = _cached_decode(files, all_states, cut, held=held)
    names = [_named(source, files.root) for source in files.sources]
    identity = []
    for source, own_states in zip(files.sources, all_states, strict=True):
        sizes = [size for size, _, _ in own_states]
        identity.append(_identity(source, files.root, sizes))
    prepared = Labelled(
        images,
        files.labels,
        np.array(identity, np.int64),
        files.groups,
        names=np.array(names),
        content=made.content,
        bits=cut.bits,
    )
    if not made.broken.any():
        return prepared
    _report(files, made, section)
    return prepared.subset(np.flatnonzero(~made.broken))


def _cut(section: DataSection) -> Cut:
    """How images are made alike. Raises DataError: `data.options` has a wrong key or value."""
    size = section.size or FOLDER_SIZE
    options = section.options
    for key in options.keys() - {"resize", "interpolation"}:
        raise DataError(
            f"unknown option data.options.{key} of a folder: give resize or interpolation"
        )
    resize = options.get("resize", size)
    how = options.get("interpolation", "bilinear")
    if (
        not isinstance(resize, int)
        or isinstance(resize, bool)
        or not size <= resize <= LARGEST_SIDE
    ):
        raise DataError(
            f"data.options.resize = {resize} must be a number of pixels, data.size = {size} or more"
        )
    if how not in INTERPOLATIONS:
        raise DataError(f"data.options.interpolation: {did_you_mean(str(how), INTERPOLATIONS)}")
    bits = FULL_BITS if section.bits == "auto" else section.bits
    return Cut(size, resize, str(how), bits)


def _report(files: Files, made: _Made, section: DataSection) -> None:
    """Raises DataError for images that cannot be read, or warns of them, as the recipe says."""
    paths = files.paths
    first = files.sources[0]
    names = [printable(_below(paths[i], files.root)) for i in np.flatnonzero(made.broken)]
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
    warnings.warn(
        f"{count}, left out: {few(names)}; the first: {made.why[0]}", NasAttnWarning, stacklevel=2
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


def _cached_decode(
    files: Files, all_states: Sequence[Sequence[State]], cut: Cut, *, held: bool
) -> tuple[_Made, Pixels]:
    """(what is known of the images; the images, (3 or 4, size, size) each). `held`: as in
    `ImagesFile`.
    """
    what = (CACHE_FORMAT, cut, str(files.root.resolve()), files.sources, all_states)
    path = cache_file(files.root, what, ".npz")
    mapped = path.with_suffix(".npy")
    shape = (channels_of(files.sources), cut.size, cut.size)
    blank = np.zeros(shape, np.uint8)
    try:
        with exclusive(path.with_suffix(".lock"), f"the prepared images of '{files.root}'"):
            made = _read_made(path, len(files.sources))
            if made is None:
                remove_unused(path.parent)
                decoded = []
                with images_file(mapped, len(files.sources), shape) as write:
                    for image_decoded in decode_all(files.sources, cut):
                        if image_decoded.pixels is None:
                            write(blank)
                            decoded.append(image_decoded)
                        else:
                            write(image_decoded.pixels)
                            # the pixels are in the file now
                            decoded.append(replace(image_decoded, pixels=blank))
                made = _made_of(decoded)
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
        warnings.warn(
            f"prepared images cannot be saved in {path.parent} ({error})",
            NasAttnWarning,
            stacklevel=2,
        )
    decoded = list(decode_all(files.sources, cut))
    images = np.zeros((len(decoded), *shape), np.uint8)
    for image, image_decoded in zip(images, decoded, strict=True):
        if image_decoded.pixels is not None:
            image[:] = image_decoded.pixels
    return _made_of(decoded), InMemory(torch.from_numpy(images))


def _made_of(decoded: Sequence[Decoded]) -> _Made:
    return _Made(
        np.array([image.pixels is None for image in decoded], bool),
        np.array([image.content for image in decoded], np.int64),
        tuple(image.why for image in decoded if image.pixels is None),
    )


def _read_made(path: Path, count: int) -> _Made | None:
    """What is known of prepared images; None if nothing was prepared, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            made = _Made(arrays["broken"], arrays["content"], tuple(arrays["why"].tolist()))
        images = np.load(path.with_suffix(".npy"), mmap_mode="r")
        whole = len(images) == len(made.broken) == len(made.content) == count
        for one in (path, path.with_suffix(".npy")):
            os.utime(one)
        return made if whole else None
    except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def prepared_files(section: DataSection) -> list[Path]:
    """All prepared files of `folder:PATH` or `coco:FOLDER`; none for other data."""
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


def _named(source: Source, root: Path) -> str:
    """An image's path below the folder, as on every system."""
    path = files_of(source)[0]
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.as_posix()


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _gpu_memory(place: Place) -> int:
    """Free bytes of a GPU for one worker's images; 0 if images do not go to a GPU."""
    if place.device.type != "cuda":
        return 0
    return torch.cuda.mem_get_info(place.device)[0] // place.share.device

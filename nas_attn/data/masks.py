"""A user's folder of images with masks, for segmentation: `images` beside `masks`, in the folder or
in each of its splits.

A mask is a PNG with its image's name, scaled to the nearest value. Its values are class numbers: 0
is the first in `PATH/classes.txt`, 255 none.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nas_attn.data.cache import remembered_each
from nas_attn.data.decoding import Masked, mask_values
from nas_attn.data.folder import Files, image_folder, split_folder
from nas_attn.data.image_file import why_unreadable
from nas_attn.data.inventory import WHOLE
from nas_attn.data.parts import Parts, Place
from nas_attn.data.splitting import GroupsOf
from nas_attn.data.walking import Layout, layout, subfolders, walk
from nas_attn.errors import DataError, few, shorten
from nas_attn.recipe.recipe import DataSection, SplitsSection

NAMES_FILE = "classes.txt"
MOST_CLASSES = 255
# of what is kept of masks
MASK_FORMAT = 3


def read_masks(section: DataSection, place: Place) -> Parts:
    """Reads `folder:PATH` for segmentation. Raises DataError: no folder, mask or names, or an image
    cannot be read with its mask.
    """
    root = image_folder(section)
    classes = _names(root)
    folders = _masked_layout(root, section.splits)
    return split_folder(
        folders,
        section,
        place,
        partial(_list_masks, folders, len(classes)),
        classes,
        "masks",
    )


def _names(root: Path) -> tuple[str, ...]:
    path = root / NAMES_FILE
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = "is not there"
        if path.exists():
            why = f"cannot be read ({shorten(str(error))})"
        raise DataError(
            f"'{path}' {why}: write the classes' names there, one per line, starting with value 0"
        ) from None
    if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise DataError(
            f"'{path}' must name 2 to {MOST_CLASSES} different classes, one per line; it has"
            f" {len(names)}"
        )
    return tuple(names)


@dataclass(frozen=True)
class MaskedFiles:
    """The files of a folder with masks."""

    classes: tuple[str, ...]
    # split, or `all` -> images with their masks
    pairs: Mapping[str, Sequence[Masked]]
    masks: Sequence[Path]
    # masks without an image
    alone: Sequence[Path]


def look(root: Path, splits: SplitsSection | None = None) -> MaskedFiles:
    """Finds the files of a folder with masks, unopened. Raises DataError: one is missing."""
    classes = _names(root)
    folders = _masked_layout(root, splits)
    masks = _mask_files(folders)
    pairs: dict[str, Sequence[Masked]] = {}
    alone: list[Path] = []
    for split, inside in (folders.splits or {WHOLE: (root,)}).items():
        by_folder = {folder: _pairs(root, folder, len(classes)) for folder in inside}
        pairs[split] = list(itertools.chain(*by_folder.values()))
        for folder, there in by_folder.items():
            alone += _others(folder, [pair.image for pair in there])
    return MaskedFiles(classes, pairs, masks, alone)


# Why a mask cannot be used, else empty; the numbers of the classes that it has, NOT_COUNTED for
# pixels without one.
MaskLook = tuple[str, list[int]]


def look_at_masks(root: Path, pairs: Sequence[Masked]) -> list[MaskLook]:
    """Decodes all masks; what they show is kept until a file changes."""
    files = [path for pair in pairs for path in (pair.image, pair.mask)]
    question = ("masks", MASK_FORMAT, pairs[0].classes if pairs else 0)
    return remembered_each(root, question, files, pairs, _decoded)


def _decoded(pair: Masked) -> MaskLook:
    try:
        return "", np.unique(mask_values(pair)).tolist()
    except Exception as error:
        # decoders raise any error for damaged files
        return why_unreadable([pair.image, pair.mask], error), []


def _masked_layout(root: Path, splits: SplitsSection | None) -> Layout:
    """The splits of a folder with masks: `images` and `masks` are in it, or in each split."""
    inside = any(name.lower() == "images" for name in subfolders(root))
    return Layout(root, {}) if inside and splits is None else layout(root, splits)


def _mask_files(folders: Layout) -> list[Path]:
    """The masks of all splits."""
    files: list[Path] = []
    for folder in folders.folders:
        files += walk(folder / "masks").images
    return files


def _others(folder: Path, images: Sequence[Path]) -> list[Path]:
    """What lies among the masks of a folder and has the name of no image."""
    names = {path.relative_to(folder / "images").with_suffix("") for path in images}
    below = folder / "masks"
    masks = walk(below).images
    return [mask for mask in masks if mask.relative_to(below).with_suffix("") not in names]


def _list_masks(places: Layout, classes: int, groups_of: GroupsOf | None, split: str) -> Files:
    """The images of a split's folders with their masks, sorted by name in each."""
    masked: list[Masked] = []
    groups: list[str] = []
    for folder in places.of(split):
        pairs = _pairs(places.root, folder, classes)
        masked += pairs
        groups += [] if groups_of is None else groups_of([pair.image for pair in pairs], folder)
    labels = np.zeros(len(masked), dtype=np.int64)
    return Files(places.root, tuple(masked), labels, np.array(groups) if groups else None)


def _pairs(root: Path, folder: Path, classes: int) -> list[Masked]:
    """The images of a folder with their masks. Raises DataError: a mask is missing."""
    for inside in ("images", "masks"):
        if not (folder / inside).is_dir():
            raise DataError(
                f"'{folder}' has no folder '{inside}': for segmentation, put the images into"
                " images, and a PNG mask of the same name for each into masks"
            )
    paths = walk(folder / "images").images
    masks = [folder / "masks" / p.relative_to(folder / "images").with_suffix(".png") for p in paths]
    lacking = [str(mask.relative_to(root)) for mask in masks if not mask.is_file()]
    if lacking:
        instead = [path for path in walk(folder / "masks").images if path not in set(masks)]
        what = ""
        if instead:
            what = (
                f"; '{instead[0].name}' is none of them: a mask is a PNG with the name of its"
                " image, in which class numbers are kept exactly, as JPEG does not"
            )
        raise DataError(
            f"{len(lacking)} of {len(paths)} images of '{folder}' have no mask:"
            f" {few(lacking)}{what}"
        )
    if not paths:
        raise DataError(f"'{folder / 'images'}' has no image")
    return [Masked(image, mask, classes) for image, mask in zip(paths, masks, strict=True)]

"""What a folder of images by class has: splits, classes, images, what is left out and why, and what
would make its scores misleading. `init`, `search` and its `--dry-run` show the same one.

All files are opened, those of the test too, but no network sees them here.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from PIL import __version__ as pillow_version

from nas_attn.data.depth import is_deep
from nas_attn.data.folder import image_folder
from nas_attn.data.manifest import checksum
from nas_attn.data.parts import to_rgb
from nas_attn.data.remembered import remembered
from nas_attn.data.walking import class_names, layout, walk
from nas_attn.errors import DataError, few, first_line, several, shorten
from nas_attn.processes import cores
from nas_attn.recipe import DataSection

FORMAT = 2  # of what is kept in the cache
DRAFT = 128  # pixels of the shorter side, to which a JPEG is decoded
FEWEST_TO_SPLIT = 3  # images of a class in a folder without splits
FEW_TO_SCORE = 10  # validation images of a class, below which one image is 10 points of it
UNEQUAL = 20  # times as many images in the largest class as in the smallest
VALIDATION_SHARE = 0.16  # of the images of a folder without splits
LOOSE = "outside the class folders"


@dataclass(frozen=True)
class Inventory:
    """The images of `folder:PATH` for classification. Files are named by their paths in it."""

    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]  # split (or `all`) -> class -> readable images
    unreadable: Mapping[str, str]  # file -> why
    left_out: Mapping[str, Sequence[str]]  # reason -> files
    cautions: tuple[str, ...]  # sentences about what makes scores misleading

    @property
    def images(self) -> int:
        """All image files of the classes, the unreadable ones included."""
        return sum(sum(of.values()) for of in self.counts.values()) + len(self.unreadable)

    def text(self) -> str:
        """One line, and more for what a person should know."""
        unread = len(self.unreadable)
        first = f"{len(self.classes)} classes, {self.images:,} images"
        if len(self.counts) > 1:
            parts = (f"{split}: {sum(of.values()):,}" for split, of in self.counts.items())
            first += f" ({', '.join(parts)})"
        first += f", {unread} unreadable{' (left out)' if unread else ''}"
        lines = [first]
        if unread:
            name, why = next(iter(self.unreadable.items()))
            lines.append(f"unreadable: {few(list(self.unreadable))}; the first: {why} ({name})")
        for reason, files in self.left_out.items():
            lines.append(f"not read: {several(len(files), 'file')} {reason}, {few(files)}")
        return "\n".join([*lines, *(f"note: {caution}" for caution in self.cautions)])


@dataclass(frozen=True)
class _Seen:
    """One image file."""

    split: str
    label: str
    name: str
    pixels: int  # checksum; 0: it cannot be read
    why: str


def take(path: str) -> Inventory:
    """The inventory of `folder:PATH`. Raises DataError: no classes, too few images of one, or a
    layout that can be read in two ways.
    """
    root = image_folder(DataSection(name=f"folder:{path}"))
    found = layout(root)
    classes = class_names(found.train)
    files: list[tuple[str, str, Path]] = []
    for split, folder in (found.splits or {"all": root}).items():
        for name in classes:
            files += [(split, name, image) for image in walk(folder / name).images]
    everything = walk(root)
    left_out = {reason: _below(root, paths) for reason, paths in everything.left_out.items()}
    loose = sorted(set(everything.images) - {image for _, _, image in files})
    if loose:
        left_out[LOOSE] = _below(root, loose)
    states = _opened(root, [image for _, _, image in files])
    seen = [
        _Seen(split, label, name, *state)
        for (split, label, image), name, state in zip(
            files, _below(root, [image for _, _, image in files]), states, strict=True
        )
    ]
    counts = {
        split: {
            name: sum(s.split == split and s.label == name and not s.why for s in seen)
            for name in classes
        }
        for split in (found.splits or {"all": root})
    }
    unreadable = {one.name: one.why for one in seen if one.why}
    _check_counts(root, counts)
    cautions = (*_copies(seen), *_small_classes(counts))
    return Inventory(classes, counts, unreadable, left_out, cautions)


def _below(root: Path, paths: Sequence[Path]) -> list[str]:
    return [_shown(path.relative_to(root).as_posix()) for path in paths]


def _shown(name: str) -> str:
    """A name that can be printed: letters that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _check_counts(root: Path, counts: Mapping[str, Mapping[str, int]]) -> None:
    for name, count in counts.get("all", {}).items():
        if count < FEWEST_TO_SPLIT:
            raise DataError(
                f"class '{name}' of '{root}' has too few images: each class needs"
                f" {FEWEST_TO_SPLIT} for splits"
            )


def _copies(seen: Sequence[_Seen]) -> list[str]:
    """Sentences about equal images in two splits, in two classes, or that a split may part."""
    groups: defaultdict[int, list[_Seen]] = defaultdict(list)
    for one in seen:
        if not one.why:
            groups[one.pixels].append(one)
    across: list[list[_Seen]] = []
    between: list[list[_Seen]] = []
    within: list[list[_Seen]] = []
    for group in groups.values():
        splits = {one.split for one in group}
        labels = {one.label for one in group}
        if len(splits) > 1:
            across.append(group)
        if len(labels) > 1:
            between.append(group)
        if len(group) > 1 and len(splits) == len(labels) == 1:
            within.append(group)
    said = []
    if across:
        pair = _pair(across[0], lambda one: one.split)
        said.append(
            f"{several(len(across), 'image')}: copies with the same pixels are in two splits, such"
            f" as {pair}: scores on them tell nothing about new images; leave them out of one split"
        )
    if between:
        pair = _pair(between[0], lambda one: one.label)
        said.append(
            f"{several(len(between), 'image')}: copies with the same pixels are in two classes,"
            f" such as {pair}: no network can be right about both; leave them out of one class"
        )
    if within and within[0][0].split == "all":
        pair = _pair(within[0], lambda one: one.name)
        said.append(
            f"{several(len(within), 'image')}: there are copies with the same pixels, such as"
            f" {pair}, which may come into two splits: remove them, or keep them together"
            " with data.groups"
        )
    return said


def _pair(group: Sequence[_Seen], by: Callable[[_Seen], str]) -> str:
    first = group[0]
    other = next(one for one in group if by(one) != by(first))
    return f"'{first.name}' and '{other.name}'"


def _small_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    said = []
    train = counts.get("train", counts.get("all", {}))
    for split, of in counts.items():
        lacking = [name for name, count in of.items() if not count]
        if lacking and split == "test":
            said.append(
                f"test has no image of class {few(lacking)}: the final test will be refused; add"
                " some"
            )
    scored = counts.get("validation")
    if scored is None:
        share = VALIDATION_SHARE if "all" in counts else 0.2
        scored = {name: round(share * count) for name, count in train.items()}
    smallest = min(scored, key=lambda name: scored[name])
    rare = min(train, key=lambda name: train[name])
    often = max(train, key=lambda name: train[name])
    advice = (
        'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'
    )
    if train[often] >= UNEQUAL * max(train[rare], 1):
        said.append(
            f"class '{rare}' has {train[rare]:,} images and '{often}' {train[often]:,}: accuracy"
            f" hides the smallest class; {advice}"
        )
    elif scored[smallest] < FEW_TO_SCORE:
        said.append(
            f"class '{smallest}' has only about {max(scored[smallest], 1)} validation images, and"
            f" accuracy hides small classes; {advice}"
        )
    return said


def _opened(root: Path, images: Sequence[Path]) -> list[tuple[int, str]]:
    """(checksum of its pixels, why it cannot be read) of each image; kept until a file changes."""

    def open_all() -> list[tuple[int, str]]:
        with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
            # of threads, only the first of all warnings about odd files would be shown
            warnings.simplefilter("ignore")
            return list(pool.map(_open, images))

    question = ("pixels", FORMAT, pillow_version)
    return [(pixels, why) for pixels, why in remembered(root, question, images, open_all)]


def _open(path: Path) -> tuple[int, str]:
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (DRAFT, DRAFT))
            deep = is_deep(opened)
            image = ImageOps.exif_transpose(opened)
            shown = image if deep else to_rgb(image)
        return checksum(repr(shown.size).encode(), shown.tobytes()), ""
    except Exception as error:  # decoders raise any error for damaged files
        return 0, shorten(first_line(error).replace(str(path), path.name), 80)

"""Which files below a folder are images, which folders are splits or classes, what is left out, and
what is said where a folder is laid out otherwise.

Never read: hidden files and folders, and what systems and programs put beside the user's files.
Links are followed, each folder once.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image

from nas_attn.data.bands import is_array
from nas_attn.data.decoding import SUFFIXES
from nas_attn.errors import DataError, did_you_mean, few, several
from nas_attn.recipe.recipe import SplitsSection

NOT_READ = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"}
    | {"thumbs.db", "desktop.ini", "ehthumbs.db"}
)
# What Pillow may read besides SUFFIXES, depending on its version and on plug-ins. Others of its
# formats are no photographs, or start a program (PostScript).
OTHER_FORMATS = (".avif", ".jfif", ".jpe", ".jp2", ".tga", ".dib", ".apng", ".pnm", ".pbm", ".heic")
FURTHER_BY_PLUGIN = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# of files that may hold the labels of images beside them
TABLE_ENDINGS = (".csv", ".tsv", ".json", ".yaml", ".yml")
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_FOLD = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)
SPLITS_WAY = (
    "data.splits which folders train, validate and test, as in --set"
    """ 'data.splits={train=["a", "b"], validation=["c"], test=["d"]}'"""
)


@lru_cache(maxsize=1)
def image_endings() -> frozenset[str]:
    """Returns the endings of files that are read, in lower case."""
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    formats = Image.registered_extensions()
    openable = {ending for ending, kind in formats.items() if kind in Image.OPEN}
    return frozenset(SUFFIXES) | (openable & {*OTHER_FORMATS, *FURTHER_BY_PLUGIN})


@dataclass
class Walked:
    """What is below a folder."""

    # sorted
    images: list[Path] = field(default_factory=list)
    # reason -> files
    left_out: dict[str, list[Path]] = field(default_factory=dict)


def walk(folder: Path) -> Walked:
    """Finds all image files below a folder; none if it does not exist."""
    walked = Walked()
    arrays: list[Path] = []
    seen: set[str] = set()
    above = {str(parent) for parent in Path(os.path.realpath(folder)).parents}
    for here, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(here)
        # a loop of links
        if place in seen or place in above:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(filter(is_read, folders))
        for path in (Path(here, name) for name in sorted(filter(is_read, files))):
            if is_array(path) and path.exists():
                arrays.append(path)
            elif why := _left_out(path):
                walked.left_out.setdefault(why, []).append(path)
            elif path.is_file():
                walked.images.append(path)
    for path in arrays if walked.images else ():
        walked.left_out.setdefault(_left_out(path), []).append(path)
    if not walked.images:
        # where photographs are, arrays are made from them
        walked.images = arrays
    walked.images.sort()
    return walked


def is_read(name: str) -> bool:
    """Whether a file or folder of this name is the user's own."""
    return not name.startswith(".") and name.lower() not in NOT_READ


def _left_out(path: Path) -> str:
    """Why a file is not read; empty if it is."""
    ending = path.suffix.lower()
    if not path.exists():
        return "behind a broken link"
    if ending in image_endings():
        return ""
    if ending in FURTHER_BY_PLUGIN:
        return f"that Pillow reads only with {FURTHER_BY_PLUGIN[ending]} ({ending})"
    return f"of another kind ({ending or 'without ending'})"


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and is_read(entry.name)
    )


@dataclass(frozen=True)
class Layout:
    """Where the splits of a folder are."""

    root: Path
    # `train`, `validation`, `test` -> its folders; empty: the folder is not divided
    splits: Mapping[str, tuple[Path, ...]]
    # what gives a folder with splits a test split, for an error; empty: a folder `test`
    way_to_test: str = ""

    def of(self, split: str) -> tuple[Path, ...]:
        """Returns the folders with the images of a split; the root, if all are together."""
        return self.splits.get(split, (self.root,))

    @property
    def train(self) -> tuple[Path, ...]:
        """The folders with the training images."""
        return self.of("train")

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders with images."""
        return tuple(itertools.chain.from_iterable(self.splits.values())) or (self.root,)


def layout(root: Path, splits: SplitsSection | None = None) -> Layout:
    """Finds the splits of a folder, as they are given, else by the names of its folders. Raises
    DataError: it has folds, the names can be read in two ways, or one is not there.
    """
    names = subfolders(root)
    if splits is not None:
        _check_given(root, names, splits)
        given = splits.by_split.items()
        return Layout(root, {split: tuple(root / each for each in parts) for split, parts in given})
    if len(names) > 1 and all(map(_FOLD.fullmatch, names)):
        raise DataError(f"'{root}' has the folds {few(names)}: say with {SPLITS_WAY}")
    called: dict[str, list[str]] = {}
    for split, names_of_split in SPLIT_NAMES.items():
        if found := [name for name in names if name.lower() in names_of_split]:
            called[split] = found
    if not called or not _are_splits(root, names, list(itertools.chain(*called.values()))):
        _check_no_hidden_splits(root, names)
        return Layout(root, {})
    for split, folders in called.items():
        if len(folders) > 1:
            raise DataError(
                f"'{root}' has several folders for {split},"
                f" {few([str(root / name) for name in folders])}: keep one of them there, or say"
                " which with data.splits"
            )
    if "train" not in called:
        raise DataError(f"'{root}' has {_folders(names)}, but no folder 'train' to learn from")
    return Layout(root, {split: (root / folders[0],) for split, folders in called.items()})


def _folders(names: Sequence[str]) -> str:
    return few([f"{name}/" for name in names])


def _check_given(root: Path, names: Sequence[str], splits: SplitsSection) -> None:
    """Raises DataError: `data.splits` names what is no folder in the root, nor one further inside,
    `seg_train/seg_train`.
    """
    for split, given in splits.by_split.items():
        for name in given:
            path = PurePosixPath(name)
            inside = all(map(is_read, path.parts)) and not path.is_absolute()
            if not inside or not (root / name).is_dir():
                raise DataError(
                    f"data.splits.{split} names '{name}', which is no folder in '{root}':"
                    f" {did_you_mean(name, names)}"
                )


def _are_splits(root: Path, names: list[str], called: list[str]) -> bool:
    """Whether folders with the names of splits are splits: a class may be called so."""
    others = [name for name in names if name not in called and walk(root / name).images]
    if not others:
        return True
    # images lie in them directly, as in the folder of a class
    if not any(subfolders(root / name) for name in called):
        return False
    raise DataError(
        f"'{root}' has {_folders(called)} beside {_folders(others)}: splits, or classes? If splits,"
        " move the others out of the folder, or say with data.splits which is which; if classes,"
        " rename the first"
    )


def _check_no_hidden_splits(root: Path, names: Sequence[str]) -> None:
    """Raises DataError: folders that would be classes are called after splits (`seg_train`,
    `seg_test`), and no image lies in them directly.
    """
    called: dict[str, str] = {}
    for split, (name, words) in itertools.product(
        SPLIT_NAMES, ((name, set(re.split(r"[^a-z]+", name.lower()))) for name in names)
    ):
        if words.intersection(SPLIT_NAMES[split]):
            called.setdefault(split, name)
    if len(called) < 2 or "train" not in called:
        return
    images = itertools.chain(*(walk(root / name).images for name in called.values()))
    if all(image.parent.parent != root for image in images):
        raise DataError(
            f"'{root}' has {_folders(list(called.values()))}: if they are splits, say with"
            f" {SPLITS_WAY}; if they are classes, rename them"
        )


def class_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Returns the class folders of the folders with training images. Raises DataError: there are
    not two, or the splits are inside them.
    """
    folder = folders[0]
    names = sorted({name for one in folders for name in subfolders(one)})
    if {"images", "masks"} <= {name.lower() for name in names}:
        raise DataError(
            f"'{folder}' has images and masks, which is data for segmentation, not classes: give"
            " --task segmentation (task.name in a recipe)"
        )
    filled = [name for name in names if any(walk(one / name).images for one in folders)]
    # where some of several lack images, that is told with their number
    if len(filled) < 2 and (len(names) < 2 or _inside(folder)):
        raise DataError(_why_no_classes(folder, filled))
    split_names = set(itertools.chain(*SPLIT_NAMES.values()))
    inside = [{each.lower() for each in subfolders(folder / name)} for name in filled]
    if all(len(each) > 1 and each <= split_names for each in inside):
        raise DataError(
            f"'{folder}' has its splits inside the classes: put the classes inside the splits,"
            f" '{min(inside[0])}/{filled[0]}'"
        )
    return tuple(names)


def _why_no_classes(folder: Path, filled: Sequence[str]) -> str:
    need = (
        f"'{folder}' has {several(len(filled), 'class folder')} with images: it needs at least two,"
        " one per class"
    )
    if inside := _inside(folder):
        return f"{need}; give the folder inside, folder:{inside}"
    beside = [path for path in sorted(folder.iterdir()) if path.is_file() and is_read(path.name)]
    tables = [path.name for path in beside if path.suffix.lower() in TABLE_ENDINGS]
    if archives := [path.name for path in beside if path.suffix.lower() in ARCHIVE_ENDINGS]:
        return f"{need}; unpack {few(archives)} first"
    if tables:
        return (
            f"{need}; if {few(tables)} has what is to be learnt of the images: a CSV file with a"
            " column of images is read with --task multi-label or --task regression, boxes in"
            " COCO's form with --task detection --data coco:FOLDER, in ultralytics' form with"
            " --data yolo:PATH.yaml"
        )
    return f"{need}; or name a function that reads the images in data.name"


def _inside(folder: Path) -> Path | None:
    """The folder further inside that holds several folders with images, where all others on the way
    hold one; None if there is none.
    """
    here = folder
    while filled := [name for name in subfolders(here) if walk(here / name).images]:
        if len(filled) > 1:
            return None if here == folder else here
        here = here / filled[0]
    return None


def plain(name: str) -> str:
    """Returns a name without what file systems may change in it: Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()

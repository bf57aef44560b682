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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
TABLE_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".xml", ".txt")
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
# beside the images of a split
ROBOFLOW_BOXES = "_annotations.coco.json"
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
    `seg_test`), and have folders of the same names in them.
    """
    by_split: dict[str, str] = {}
    for name in names:
        words = set(re.split(r"[^a-z]+", name.lower()))
        for split, names_of_split in SPLIT_NAMES.items():
            if words.intersection(names_of_split):
                by_split.setdefault(split, name)
                break
    if len(by_split) < 2 or "train" not in by_split:
        return
    # the folders in which images lie, by their names
    inside = {
        split: {image.parent.name: image.parent for image in reversed(walk(root / name).images)}
        for split, name in by_split.items()
    }
    given = {}
    for split, folders in inside.items():
        shared = inside["train"].keys() & folders.keys() - set(by_split.values())
        if len(shared) > 1:
            parents = sorted({folders[name].parent for name in shared})
            given[split] = [parent.relative_to(root).as_posix() for parent in parents]
    if len(given) > 1:
        raise DataError(
            f"'{root}' has {_folders(list(by_split.values()))}, with folders of the same names in"
            f" them, {few(sorted(inside['train']))}: if they are splits, say with {SPLITS_WAY}; if"
            " they are classes, rename them"
        )


def class_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """Returns the class folders of the folders with training images. Raises DataError: there are
    not two; it says what the first folder looks like.
    """
    folder = folders[0]
    names = sorted({name for one in folders for name in subfolders(one)})
    if form := _other_form(folder):
        raise DataError(form)
    filled = (name for name in names if any(walk(one / name).images for one in folders))
    # where all lack images, that is told with their number
    several_filled = len(list(itertools.islice(filled, 2))) == 2
    if not several_filled and (len(names) < 2 or _inside(folder)):
        raise DataError(_why_no_classes(folder, names))
    for one, other in _alike(names, plain):
        raise DataError(
            f"'{folder}' has two classes whose names differ only in Unicode form or case, '{one}'"
            f" and '{other}': rename one, or put their images together"
        )
    return tuple(names)


def classes_problem(folders: Sequence[Path], names: Sequence[str]) -> str:
    """Returns why these class folders are hardly the classes, and the way out; empty if nothing
    speaks against them. Earlier studies may have begun on them.
    """
    folder = folders[0]
    for one, other in _alike(names, without_spaces):
        return (
            f"'{folder}' has two classes whose names differ only in spaces at their ends, '{one}'"
            f" and '{other}': rename one, or put their images together"
        )
    split_names = set(itertools.chain(*SPLIT_NAMES.values()))
    for name in names:
        inside = subfolders(folder / name) if (folder / name).is_dir() else []
        if len(inside) < 2 or not split_names.issuperset(each.lower() for each in inside):
            return ""
    first, second, *_ = subfolders(folder / names[0])
    return (
        f"'{folder}' has its splits inside the classes, '{names[0]}/{first}' and"
        f" '{names[0]}/{second}': put the classes inside the splits, '{first}/{names[0]}' and"
        f" '{second}/{names[0]}'"
    )


def _other_form(folder: Path) -> str:
    """What a folder is if it is laid out for another task, and the way out; else empty."""
    names = {name.lower() for name in subfolders(folder)}
    if {"images", "masks"} <= names:
        return (
            f"'{folder}' has images and masks, which is data for segmentation, not classes: give"
            " --task segmentation (task.name in a recipe)"
        )
    if {"images", "labels"} <= names:
        # in the folder, or around a split
        yamls = [*sorted(folder.glob("*.yaml")), *sorted(folder.parent.glob("*.yaml"))]
        return (
            f"'{folder}' has images and labels, which is data with boxes in ultralytics' form, not"
            f" classes: give --task detection --data yolo:{[*yamls, 'PATH.yaml'][0]} (task.name and"
            " data.name in a recipe)"
        )
    if {"jpegimages", "annotations"} <= names:
        return (
            f"'{folder}' has JPEGImages and Annotations, which is Pascal VOC's form, not classes,"
            " and is not read: for boxes, write the annotations in COCO's form and give --task"
            " detection --data coco:FOLDER; for masks, name the folders images and masks"
        )
    if annotations := sorted(folder.glob("annotations/instances_*.json")):
        return (
            f"'{folder}' has the annotations '{annotations[0].name}', which is data with boxes in"
            f" COCO's form, not classes: give --task detection --data coco:{folder} (task.name and"
            " data.name in a recipe)"
        )
    return ""


def _why_no_classes(folder: Path, names: Sequence[str]) -> str:
    need = f"'{folder}' has {several(len(names), 'class folder')}: it needs at least two"
    if len(names) > 1:
        need = f"'{folder}' has images in one folder only: it needs at least two with images"
    if inside := _inside(folder):
        return _other_form(inside) or f"{need}; give the folder inside, folder:{inside}"
    if (folder / ROBOFLOW_BOXES).is_file():
        return (
            f"'{folder}' has '{ROBOFLOW_BOXES}', which is data with boxes in COCO's form, not"
            " classes: give --task detection --data coco:FOLDER with the folder around the splits"
            " (task.name and data.name in a recipe)"
        )
    beside = [path for path in sorted(folder.iterdir()) if path.is_file() and is_read(path.name)]
    loose = [path for path in beside if path.suffix.lower() in image_endings()]
    table = next((path for path in beside if path.suffix.lower() == ".csv"), None)
    if table is not None and not loose:
        return (
            f"{need}, one per class; if '{table.name}' has labels or numbers of each image, write a"
            f" recipe with nas-attn init {folder} --task multi-label, or --task regression"
        )
    if not loose:
        archives = [path.name for path in beside if path.suffix.lower() in ARCHIVE_ENDINGS]
        return f"{need}, one per class{f'; unpack {few(archives)} first' if archives else ''}"
    tables = [path.name for path in beside if path.suffix.lower() in TABLE_ENDINGS]
    named = f" beside {few(tables)}" if tables else ""
    return (
        f"{need}, but {several(len(loose), 'image')} lie in it directly{named}: move each image"
        " into a folder with the name of its class; for several labels or numbers of each in a CSV"
        f" file, nas-attn init {folder}; or name a function that reads them in data.name"
    )


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


def _alike(names: Sequence[str], form: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    names_by_form: dict[str, str] = {}
    for name in names:
        other = names_by_form.setdefault(form(name), name)
        if other != name:
            yield other, name


def plain(name: str) -> str:
    """Returns a name without what file systems may change in it: Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()


def without_spaces(name: str) -> str:
    """Returns the same without spaces at its ends, which nobody sees."""
    return plain(name).strip()

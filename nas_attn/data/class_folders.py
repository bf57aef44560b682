"""Which folders are classes, and what is said where they are not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from nas_attn.data.walking import SPLIT_NAMES, image_endings, is_read, subfolders, walk
from nas_attn.errors import DataError, few, several

# of files that may hold the labels of images beside them
TABLE_ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xlsx", ".xml", ".txt")
# beside the images of a split
ROBOFLOW_BOXES = "_annotations.coco.json"
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


def class_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The class folders of the folders with training images.

    Raises DataError: there are not two; it says what the first folder looks like.
    """
    folder = folders[0]
    names = sorted({name for one in folders for name in subfolders(one)})
    if form := _other_form(folder):
        raise DataError(form)
    if not _are_several(folders, names):
        raise DataError(_why_no_classes(folder, names))
    for one, other in _alike(names, plain):
        raise DataError(
            f"'{folder}' has two classes whose names differ only in Unicode form or case, '{one}'"
            f" and '{other}': rename one, or put their images together"
        )
    return tuple(names)


def classes_problem(folders: Sequence[Path], names: Sequence[str]) -> str:
    """Why these class folders are hardly the classes, and the way out; empty if nothing speaks
    against them. Earlier studies may have begun on them.
    """
    folder = folders[0]
    for one, other in _alike(names, without_spaces):
        return (
            f"'{folder}' has two classes whose names differ only in spaces at their ends, '{one}'"
            f" and '{other}': rename one, or put their images together"
        )
    return _splits_inside(folder, names)


def _are_several(folders: Sequence[Path], names: Sequence[str]) -> bool:
    """Whether two folders at least may be classes: where all lack images, that is told with the
    number of their images.
    """
    filled = (name for name in names if any(walk(folder / name).images for folder in folders))
    return len(list(islice(filled, 2))) == 2 or (len(names) > 1 and not _inside(folders[0]))


def _other_form(folder: Path) -> str:
    """What a folder is if it is laid out for another task, and the way out; else empty."""
    names = {name.lower() for name in subfolders(folder)}
    if {"images", "masks"} <= names:
        return (
            f"'{folder}' has images and masks, which is data for segmentation, not classes: give"
            " --task segmentation (task.name in a recipe)"
        )
    if {"images", "labels"} <= names:
        yaml = next((str(path) for path in _yaml_files(folder)), "PATH.yaml")
        return (
            f"'{folder}' has images and labels, which is data with boxes in ultralytics' form, not"
            f" classes: give --task detection --data yolo:{yaml} (task.name and data.name in a"
            " recipe)"
        )
    if {"jpegimages", "annotations"} <= names:
        return (
            f"'{folder}' has JPEGImages and Annotations, which is Pascal VOC's form, not classes,"
            " and is not read: for boxes, write the annotations in COCO's form and give --task"
            " detection --data coco:FOLDER; for masks, name the folders images and masks"
        )
    annotations = sorted(folder.glob("annotations/instances_*.json"))
    if annotations:
        return (
            f"'{folder}' has the annotations '{annotations[0].name}', which is data with boxes in"
            f" COCO's form, not classes: give --task detection --data coco:{folder} (task.name and"
            " data.name in a recipe)"
        )
    return ""


def _yaml_files(folder: Path) -> list[Path]:
    """The YAML files that may describe data of ultralytics: in a folder, or around a split."""
    return [path for place in (folder, folder.parent) for path in sorted(place.glob("*.yaml"))]


def _why_no_classes(folder: Path, names: Sequence[str]) -> str:
    need = f"'{folder}' has {several(len(names), 'class folder')}: it needs at least two"
    if len(names) > 1:
        need = f"'{folder}' has images in one folder only: it needs at least two with images"
    if inside := _inside(folder):
        return _other_form(inside) or f"{need}; give the folder inside, folder:{inside}"
    beside = [path for path in sorted(folder.iterdir()) if path.is_file() and is_read(path.name)]
    loose = [path for path in beside if path.suffix.lower() in image_endings()]
    tables = [path.name for path in beside if path.suffix.lower() in TABLE_ENDINGS]
    archives = [path.name for path in beside if path.suffix.lower() in ARCHIVE_ENDINGS]
    if (folder / ROBOFLOW_BOXES).is_file():
        return (
            f"'{folder}' has '{ROBOFLOW_BOXES}', which is data with boxes in COCO's form, not"
            " classes: give --task detection --data coco:FOLDER with the folder around the splits"
            " (task.name and data.name in a recipe)"
        )
    if not loose and archives:
        return f"{need}, one per class; unpack {few(archives)} first"
    if not loose:
        return f"{need}, one per class"
    named = f" beside {few(tables)}" if tables else ""
    return (
        f"{need}, but {several(len(loose), 'image')} lie in it directly{named}: move each image"
        " into a folder with the name of its class, or name a function that reads them in data.name"
    )


def _inside(folder: Path) -> Path | None:
    """The folder further inside that holds several folders with images, where all others on the way
    hold one; None if there is none.
    """
    here = folder
    while True:
        filled = [name for name in subfolders(here) if walk(here / name).images]
        if len(filled) > 1:
            return None if here == folder else here
        if not filled:
            return None
        here = here / filled[0]


def _splits_inside(folder: Path, names: Sequence[str]) -> str:
    """What is said where the splits lie in each class; empty if they do not."""
    split_names = {split for called in SPLIT_NAMES.values() for split in called}
    for name in names:
        inside = subfolders(folder / name) if (folder / name).is_dir() else []
        if len(inside) < 2 or not split_names.issuperset(each.lower() for each in inside):
            return ""
    there = subfolders(folder / names[0])
    return (
        f"'{folder}' has its splits inside the classes, '{names[0]}/{there[0]}' and"
        f" '{names[0]}/{there[1]}': put the classes inside the splits,"
        f" '{there[0]}/{names[0]}' and '{there[1]}/{names[0]}'"
    )


def _alike(names: Sequence[str], form: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    names_by_form: dict[str, str] = {}
    for name in names:
        other = names_by_form.setdefault(form(name), name)
        if other != name:
            yield other, name


def plain(name: str) -> str:
    """A name without what file systems may change in it: Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()


def without_spaces(name: str) -> str:
    """The same without spaces at its ends, which nobody sees."""
    return plain(name).strip()

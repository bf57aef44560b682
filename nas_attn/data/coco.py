"""A user's images with boxes in COCO's form: `coco:FOLDER`, with a JSON file of annotations for each split.

Where `[data.coco]` does not say where these are, they are looked for as COCO itself and common programs lay them:
`annotations/instances_train2017.json`, `train/_annotations.coco.json`, `annotations/train.json`, `train.json`; and the images in
the file's folder, in FOLDER, in `images`, or in a folder named as the split.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.decoding import Framed
from nas_attn.errors import DataError, NasAttnWarning, few, shorten
from nas_attn.paths import user_path
from nas_attn.recipe import CocoSection, DataSection

SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "valid", "validation"),
    "test": ("test",),
}
PATTERNS = ("annotations/instances_{}*.json", "{}/_annotations.coco.json", "annotations/{}*.json", "{}.json")
SLACK = 1.0
"""Pixels by which a box may stick out of its image: programs round."""
Boxes = NDArray[np.float32]
"""(M, 5): class from 1 (negative: a crowd, neither learnt nor counted), left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Annotated:
    """The images of one split, and their boxes."""

    images: tuple[Framed, ...]
    boxes: tuple[Boxes, ...]


@dataclass(frozen=True)
class Coco:
    """Where the splits of a data set are."""

    root: Path
    files: Mapping[str, Path]
    """Split -> annotations."""
    images: str | None
    """Folder of the images, where it was said."""
    classes: Mapping[int, str]
    """Id -> name, in order of the ids: those with boxes to learn from."""

    def read(self, split: str) -> Annotated:
        """The images of a split, none of which is opened.

        Raises:
            DataError: the annotations are not what they should be, or an image is not there.
        """
        return _annotated(self, split, _content(self.files[split]))

    @property
    def missing_test(self) -> str:
        """Why there is no test split, with the way out; empty where there is one."""
        if "test" in self.files:
            return ""
        return f"'{self.root}' has no annotations of a test split: name them in data.coco.test"


def find(section: DataSection) -> Coco:
    """Where the data are, and their classes.

    Raises:
        DataError: there are none, or they name no class with boxes.
    """
    root = user_path(section.name.removeprefix("coco:"), what="folder of images with boxes", error=DataError)
    if not root.is_dir():
        raise DataError(f"folder of images with boxes '{root}' does not exist (looked in {Path.cwd()})")
    where = section.coco or CocoSection()
    files = {split: path for split in SPLITS if (path := _annotations(root, split, getattr(where, split)))}
    if "train" not in files:
        tried = ", ".join(pattern.format("train") for pattern in PATTERNS)
        raise DataError(f"'{root}' has no annotations to train on (looked for {tried}): name them in data.coco.train")
    return Coco(root.resolve(), files, where.images, _classes(files["train"]))


def _annotations(root: Path, split: str, given: str | None) -> Path | None:
    if given is not None:
        path = root / given
        if not path.is_file():
            raise DataError(f"data.coco.{split} = '{shorten(given)}': '{path}' does not exist")
        return path
    for pattern in PATTERNS:
        found = sorted({path for name in SPLITS[split] for path in root.glob(pattern.format(name)) if path.is_file()})
        if len(found) > 1:
            raise DataError(
                f"'{root}' has several annotations for {split}, {few([str(path) for path in found])}: name one in data.coco.{split}"
            )
        if found:
            return found[0]
    return None


def _content(path: Path) -> dict[str, Any]:
    """What a file of annotations says.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"annotations '{path}' cannot be read: {shorten(str(error))}") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(_tables(content.get(name)) for name in lists):
        raise DataError(f"'{path}' is not in COCO's format: it needs lists named images, annotations and categories")
    if not content["images"]:
        raise DataError(f"'{path}' names no image")
    return content


def _tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Id -> name of a file's categories, in order of the ids."""
    try:
        named = sorted((int(row["id"]), str(row["name"])) for row in content["categories"])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"'{path}' has a category without an id or a name") from None
    twice = [name for name, count in Counter(name for _, name in named).items() if count > 1]
    if twice or len(dict(named)) < len(named):
        what = f"names '{twice[0]}'" if twice else "gives an id"
        raise DataError(f"'{path}' {what} twice among its categories: each needs its own id and name")
    return dict(named)


def _classes(path: Path) -> dict[int, str]:
    """The categories to learn; one that only sums up others, as some programs write it, is none.

    Raises:
        DataError: one has no box.
    """
    content = _content(path)
    names = _names(content, path)
    used = {row.get("category_id") for row in content["annotations"] if not row.get("iscrowd")}
    above = {str(row.get("supercategory")) for row in content["categories"] if row.get("id") in used}
    lacking = [name for number, name in names.items() if number not in used and name not in above]
    if lacking or not used:
        what = f"no box of category '{lacking[0]}'" if lacking else "no boxes"
        more = f" ({len(lacking)} of {len(names)} categories have none)" if lacking else ""
        raise DataError(f"'{path}' has {what} to learn from{more}: remove the category, or add boxes")
    return {number: name for number, name in names.items() if number in used}


def _annotated(coco: Coco, split: str, content: Mapping[str, Any]) -> Annotated:
    path, root = coco.files[split], coco.root
    names = _names(content, path)
    others = [name for number, name in coco.classes.items() if names.get(number, name) != name]
    if others:
        raise DataError(f"'{path}' gives the id of category '{others[0]}' of the training annotations to another one")
    sizes, files = {}, {}
    for row in content["images"]:
        try:
            number, size, name = row["id"], (int(row["width"]), int(row["height"])), str(row["file_name"])
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"'{path}' has an image without id, file_name, width or height: {shorten(str(row))}"
            ) from None
        if number in sizes or min(size) < 1:
            why = "twice" if number in sizes else f"with the size {size[0]}x{size[1]}"
            raise DataError(f"'{path}' has the image '{shorten(name)}' (id {number}) {why}")
        sizes[number], files[number] = size, name
    folder = _folder(coco, split, next(iter(files.values())))
    lacking = [name for name in files.values() if not (folder / name).is_file()]
    if lacking:
        raise DataError(f"{len(lacking)} of {len(files)} images of '{path}' are not in '{folder}': {few(lacking)}")
    order = {number: i for i, number in enumerate(coco.classes, 1)}
    boxes: dict[Any, list[tuple[float, ...]]] = {number: [] for number in files}
    empty = 0
    for row in content["annotations"]:
        found = _box(row, sizes, names, path)
        if found is None:
            empty += 1
        elif row["category_id"] in order:
            label = order[row["category_id"]]
            boxes[row["image_id"]].append((-label if row.get("iscrowd") else label, *found))
    if empty:
        warnings.warn(f"ignored {empty} boxes of '{path}' without width or height", NasAttnWarning, stacklevel=2)
    if not any(box[0] > 0 for found in boxes.values() for box in found):
        raise DataError(f"'{path}' has no box of the categories of '{coco.files['train'].relative_to(root)}'")
    images = tuple(Framed(folder / files[number], sizes[number]) for number in files)
    return Annotated(images, tuple(np.array(boxes[number], np.float32).reshape(-1, 5) for number in files))


def _box(
    row: Mapping[str, Any], sizes: Mapping[Any, tuple[int, int]], names: Mapping[int, str], path: Path
) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) within the image; None for a box without a surface.

    Raises:
        DataError: its image or category is not there, or it is no box in that image.
    """
    known = f"the box with id {row.get('id')} of '{path}'"
    if row.get("image_id") not in sizes:
        raise DataError(f"{known} names the image {row.get('image_id')}, which does not exist")
    if row.get("category_id") not in names:
        raise DataError(f"{known} names the category {row.get('category_id')}, which does not exist")
    given, (width, height) = row.get("bbox"), sizes[row["image_id"]]
    if not isinstance(given, list) or len(given) != 4 or not all(_finite(value) for value in given):
        raise DataError(f"{known} is {shorten(str(given))}, not [left, top, width, height] in pixels")
    left, top, wide, high = map(float, given)
    if min(left, top) < -SLACK or left + wide > width + SLACK or top + high > height + SLACK or min(wide, high) < 0:
        raise DataError(
            f"{known}, {[round(value, 2) for value in (left, top, wide, high)]}, is not within its image of {width}x{height} "
            "pixels: boxes are [left, top, width, height]"
        )
    box = max(left, 0.0), max(top, 0.0), min(left + wide, width), min(top + high, height)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _folder(coco: Coco, split: str, first: str) -> Path:
    """Where a split's images are, of which this is one.

    Raises:
        DataError: it is nowhere.
    """
    given = coco.images
    if given is not None:
        if not (coco.root / given).is_dir():
            raise DataError(f"data.coco.images = '{shorten(given)}': '{coco.root / given}' does not exist")
        return coco.root / given
    places = list(_places(coco, split))
    for place in places:
        if (place / first).is_file():
            return place
    looked = few([str(place) for place in places])
    raise DataError(
        f"the image '{shorten(first)}' of '{coco.files[split]}' is not there (looked in {looked}): name the images' folder in "
        "data.coco.images"
    )


def _places(coco: Coco, split: str) -> Iterator[Path]:
    file = coco.files[split]
    stem = file.stem.removeprefix("instances_")
    yield file.parent
    yield coco.root
    yield coco.root / "images"
    for name in dict.fromkeys((stem, *SPLITS[split])):
        yield coco.root / name
        yield coco.root / "images" / name


def scaled(boxes: Sequence[Boxes], images: Sequence[Framed], side: int) -> NDArray[np.float32]:
    """(N, M, 5), zeros where an image has fewer than the most: boxes as `Boxes`, in pixels of the image as it is fed."""
    most = max((len(found) for found in boxes), default=0)
    table = np.zeros((len(boxes), max(most, 1), 5), np.float32)
    for number, (found, image) in enumerate(zip(boxes, images, strict=True)):
        table[number, : len(found)] = found
        table[number, : len(found), 1:] *= side / max(image.size)
    return table

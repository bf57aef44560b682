"""Images with boxes in COCO's form (`coco:FOLDER`), or with the categories of each.

Without `[data.coco]`, annotations of a split are searched at the places of COCO itself and of
common programs (PATTERNS), and images in the file's folder, in FOLDER, in `images`, or in a folder
with the split's name. For detectors of our own trainer, the longer side of an image is scaled to
the side of the detector's input; the rest is grey.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nas_attn.data.cache import states
from nas_attn.data.decoding import Size, Source
from nas_attn.data.folder import SPLIT_NAMES, image_folder, walk
from nas_attn.data.inventory import Remark
from nas_attn.data.samples import BoxTable, Samples, below, box_table
from nas_attn.data.table import about_targets
from nas_attn.errors import DataError, NasAttnWarning, few, several, shorten
from nas_attn.recipe.recipe import CocoSection, DataSection
from nas_attn.recipe.tables import Kind

PATTERNS = (
    "annotations/instances_{}*.json",
    "{}/_annotations.coco.json",
    "annotations/{}*.json",
    "{}.json",
)
# pixels by which a box may exceed its image, since programs round
SLACK_PIXELS = 1.0
# images that are looked for in each folder where they may be
LOOKED_FOR = 9
NEEDED = (
    "images need id and file_name, annotations id, image_id and category_id, categories id and"
    " name; for boxes, images need width and height, and annotations bbox = [left, top, width,"
    " height], all in pixels"
)
Corners = tuple[float, float, float, float]


def _id(value: object) -> str:
    """Some programs write an id as a number in one place and as text in the other."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


@dataclass
class _Image:
    """An image, and what it shows."""

    # with slashes for the backslashes that programs on Windows write
    name: str
    # None: boxes are not read
    size: Size | None
    # (category, -1 for a crowd else 1, corners), each once; without boxes the corners are zeros
    marks: dict[tuple[int, int, Corners], None] = field(default_factory=dict)


@dataclass
class _File:
    """A file of annotations."""

    path: Path
    boxed: bool
    # by id
    images: dict[str, _Image] = field(default_factory=dict)
    # id -> name, in order of the ids
    names: dict[int, str] = field(default_factory=dict)
    # id -> the name of the category that sums it up
    above: dict[int, str] = field(default_factory=dict)
    # why -> boxes
    ignored: Counter[str] = field(default_factory=Counter)

    def add_image(self, row: Mapping[str, Any]) -> None:
        """Raises ValueError: it has no size, or another image's id."""
        size = (int(row["width"]), int(row["height"])) if self.boxed else None
        if size is not None and min(size) < 1:
            raise ValueError(f"{size[0]}x{size[1]} pixels")
        image = _Image(str(row["file_name"]).replace("\\", "/"), size)
        if self.images.setdefault(_id(row["id"]), image) is not image:
            raise ValueError("two images with the same id")

    def add_category(self, row: Mapping[str, Any]) -> None:
        """Raises ValueError: it has another's id or name."""
        number = int(row["id"])
        if number in self.names or row["name"] in self.names.values():
            raise ValueError("two categories with the same id or name")
        self.names[number] = str(row["name"])
        self.above[number] = str(row.get("supercategory"))

    def add_mark(self, row: Mapping[str, Any]) -> None:
        """Raises ValueError: it is in no image, or of no category."""
        category = int(row["category_id"])
        image = self.images.get(_id(row["image_id"]))
        if image is None or category not in self.names:
            raise ValueError(
                f"no image {row['image_id']}" if image is None else f"no category {category}"
            )
        corners = (0.0, 0.0, 0.0, 0.0) if image.size is None else _corners(row["bbox"], image.size)
        # some exporters write null
        mark = (category, -1 if row.get("iscrowd") else 1, corners)
        if self.boxed and (corners[0] >= corners[2] or corners[1] >= corners[3]):
            self.ignored["without width or height, ignored"] += 1
        else:
            self.ignored["twice, counted once"] += self.boxed and mark in image.marks
            image.marks[mark] = None


@lru_cache(maxsize=6)
def _parsed(path: Path, state: object, *, boxed: bool) -> _File:  # noqa: ARG001 - of the file
    """Reads a file of annotations, once for each `state`. Raises DataError: it is not in COCO's
    form.
    """
    file = _File(path, boxed)
    where = ""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        for key, add in (
            ("images", file.add_image),
            ("categories", file.add_category),
            ("annotations", file.add_mark),
        ):
            where = f"{key}: "
            for at, row in enumerate(content[key]):
                where = f"{key}.{at}: "
                add(row)
    except (OSError, LookupError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else shorten(str(error))
        raise DataError(
            f"'{path}' cannot be read as COCO's JSON in UTF-8: {where}{reason}; {NEEDED}"
        ) from None
    if not file.images:
        raise DataError(f"'{path}' has no images: {NEEDED}")
    file.names = dict(sorted(file.names.items()))
    return file


def _corners(box: Sequence[Any], size: Size) -> Corners:
    """(left, top, right, bottom) within an image. Raises ValueError: they are not."""
    left, top, wide, high = map(float, box)
    right, bottom = (side + SLACK_PIXELS for side in size)
    # so that no comparison with NaN is true
    inside = -SLACK_PIXELS <= left <= left + wide <= right
    if not (inside and -SLACK_PIXELS <= top <= top + high <= bottom):
        raise ValueError(
            f"the box {[round(v, 2) for v in (left, top, wide, high)]} is not within its image of"
            f" {size[0]}x{size[1]}"
        )
    return max(left, 0.0), max(top, 0.0), min(left + wide, size[0]), min(top + high, size[1])


def read(kind: Kind, section: DataSection) -> Samples:
    """Lists `coco:FOLDER`: the boxes of each image, or for several labels its categories. Raises
    DataError: annotations or images are missing or wrong.
    """
    root = image_folder(section).resolve()
    of_boxes = kind == "boxes"
    files = dict(_files(root, section.coco or CocoSection(), boxed=of_boxes))
    if "train" not in files:
        tried = ", ".join(pattern.format("train") for pattern in PATTERNS)
        raise DataError(
            f"'{root}' has no annotations to train on (looked for {tried}): name them in"
            " data.coco.train"
        )
    classes = _classes(files["train"])
    rows: list[tuple[str, Source]] = []
    boxes: list[BoxTable] = []
    for split, file in files.items():
        rows += [(split, source) for source in _sources(root, split, file, section)]
        boxes += _boxes(file, classes)
    bare = [
        below(source.image, root)
        for (_, source), own in zip(rows, boxes, strict=True)
        if not len(own)
    ]
    said = (
        f"{several(len(bare), 'image')} without a box ({few(bare)}): they count as images that show"
        " none of the classes"
    )
    remarks = [Remark("without_boxes", said)] if bare and of_boxes else []
    trained = [source.image for split, source in rows if split == "train"]
    twice = [below(path, root) for path, count in Counter(trained).items() if count > 1]
    if twice:
        said = f"{several(len(twice), 'file')} twice, under two image ids ({few(twice)}): "
        remarks.append(Remark("two_ids", said + "better give each file one id"))
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for row, own in zip(targets, boxes, strict=True):
        row[np.abs(own[:, 0]).astype(int) - 1] = 1
    names = list(classes.values())
    paths = [source.image for _, source in rows]
    named = set(map(os.path.realpath, paths))
    return Samples.listed(
        root,
        names,
        rows,
        # two images of one file stay together
        groups=np.array(list(map(str, paths))) if twice else None,
        boxes=box_table(boxes) if of_boxes else None,
        targets=None if of_boxes else targets,
        remarks=remarks,
        about=[] if of_boxes else about_targets(kind, names, targets),
        left_out={
            "that no annotations name": [
                image for image in walk(root).images if os.path.realpath(image) not in named
            ]
        },
        missing_test=f"'{root}' has no annotations of a test split: name them in data.coco.test",
    )


read_tags = partial(read, "tags")
read_boxes = partial(read, "boxes")


def _files(root: Path, where: CocoSection, *, boxed: bool) -> Iterator[tuple[str, _File]]:
    """The annotations of each split. Raises DataError: a split has several, or one is not there."""
    for split, names in SPLIT_NAMES.items():
        given = getattr(where, split)
        found = [
            sorted({path for name in names for path in root.glob(pattern.format(name))})
            for pattern in PATTERNS
        ]
        paths = next(filter(None, found), []) if given is None else [root / given]
        if len(paths) > 1:
            raise DataError(
                f"'{root}' has several annotations for {split}, {few(list(map(str, paths)))}: name"
                f" one in data.coco.{split}"
            )
        for path in paths:
            if not path.is_file():
                raise DataError(f"data.coco.{split} = '{given}': '{path}' does not exist")
            yield split, _parsed(path, states([path])[0], boxed=boxed)


def _classes(file: _File) -> dict[int, str]:
    """The categories to learn, without one that sums up others, which some programs write. Raises
    DataError: a category has nothing to learn from.
    """
    marks = (mark for image in file.images.values() for mark in image.marks)
    # not as crowds only
    used = {category for category, sign, _ in marks if sign > 0}
    above = {file.above[number] for number in used}
    lacking = [n for number, n in file.names.items() if number not in used and n not in above]
    if lacking or not used:
        raise DataError(
            f"'{file.path}' has no box or image of category {few(lacking)} to learn from: remove"
            " the category, or add some"
        )
    return {number: name for number, name in file.names.items() if number in used}


def _sources(root: Path, split: str, file: _File, section: DataSection) -> list[Source]:
    """The images of a split, in the folder where the first ones are. Raises DataError: one is
    missing.
    """
    given = None if section.coco is None else section.coco.images
    bases = [root, root / "images"]
    names = ("", file.path.stem.removeprefix("instances_"), *SPLIT_NAMES[split])
    places = [file.path.parent, *(base / name for base in bases for name in names)]
    if given is not None:
        places = [root / given]
    images = list(file.images.values())

    def tried(place: Path) -> int:
        return sum(os.path.isfile(place / image.name) for image in images[:LOOKED_FOR])

    folder = max(places, key=tried)
    if lacking := [image.name for image in images if not os.path.isfile(folder / image.name)]:
        raise DataError(
            f"{len(lacking)} of {len(images)} images of '{file.path}' are not in '{folder}',"
            f" {few(lacking)}: name the images' folder in data.coco.images"
        )
    return [Source(folder / image.name, size=image.size) for image in images]


def _boxes(file: _File, classes: Mapping[int, str]) -> list[BoxTable]:
    """The boxes of each image. Raises DataError: a category has another name than in training."""
    taken = {number: file.names.get(number, name) for number, name in classes.items()}
    if taken != classes:
        raise DataError(
            f"'{file.path}' calls categories {few(list(taken.values()))}, and the training"
            f" annotations {few(list(classes.values()))}: equal ids need equal names"
        )
    for why, count in file.ignored.items():
        if count:
            _warn(f"{count} boxes of '{file.path}' {why}")
    place = {number: at for at, number in enumerate(classes, 1)}
    marks = [mark for image in file.images.values() for mark in image.marks]
    if unknown := [file.names[category] for category, *_ in marks if category not in classes]:
        _warn(
            f"left out {len(unknown):,} boxes of '{file.path}' of {few(list({*unknown}))}, which no"
            " training image shows: images without another box count as empty; add such images to"
            " the training annotations"
        )
    return [
        np.array(
            [(sign * place[number], *box) for number, sign, box in image.marks if number in place],
            np.float32,
        ).reshape(-1, 5)
        for image in file.images.values()
    ]


def _warn(sentence: str) -> None:
    warnings.warn(sentence, NasAttnWarning, stacklevel=2)

"""Images with boxes in COCO's form (`coco:FOLDER`), or with the categories of each.

Without `[data.coco]`, annotations of a split are searched at the places of COCO itself and of
common programs (PATTERNS), and images in the file's folder, in FOLDER, in `images`, or in a folder
with the split's name. For detectors of our own trainer, the longer side of an image is scaled to
the side of the detector's input; the rest is grey.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.cache import states
from nas_attn.data.decoding import Size, Source
from nas_attn.data.folder import SPLIT_NAMES, walk
from nas_attn.data.inventory import Remark
from nas_attn.data.samples import Samples, below, box_table
from nas_attn.data.table import about_targets
from nas_attn.errors import DataError, NasAttnWarning, few, several, shorten
from nas_attn.recipe.recipe import CocoSection, DataSection
from nas_attn.recipe.tables import Kind
from nas_attn.system.paths import user_path

PATTERNS = (
    "annotations/instances_{}*.json",
    "{}/_annotations.coco.json",
    "annotations/{}*.json",
    "{}.json",
)
# pixels by which a box may exceed its image, since programs round
SLACK_PIXELS = 1.0
# what each entry of a list needs
NEEDED = {
    "images": "id and file_name, and for boxes width and height in pixels",
    "annotations": "id, image_id and category_id, and for boxes bbox = [left, top, width, height]"
    " in pixels",
    "categories": "id and name",
}
Box = tuple[float, float, float, float]
Made = TypeVar("Made")


class _Mark(NamedTuple):
    """An annotation: an image has something of a category."""

    id: str
    image: str
    category: int
    crowd: bool
    # left, top, width, height in pixels; None: it is not read
    box: Box | None


class _File(NamedTuple):
    """A file of annotations."""

    path: Path
    # id -> file name, and width and height; None: they are not read
    images: Mapping[str, tuple[str, Size | None]]
    marks: Sequence[_Mark]
    # id -> name, in order of the ids
    names: Mapping[int, str]
    # names of categories that sum up others, which have marks
    above: Collection[str]


def _id(value: object) -> str:
    """Some programs write an id as a number in one place and as text in the other."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _name(row: Mapping[str, Any]) -> str:
    """With slashes for the backslashes that programs on Windows write."""
    return str(row["file_name"]).replace("\\", "/")


def _size(row: Mapping[str, Any]) -> Size:
    width = int(row["width"])
    height = int(row["height"])
    if min(width, height) < 1:
        raise ValueError(f"{width}x{height} pixels")
    return width, height


def _box(row: Mapping[str, Any]) -> Box:
    left, top, width, height = map(float, row["bbox"])
    if not all(map(math.isfinite, (left, top, width, height))):
        raise ValueError("bbox of numbers that are not finite")
    return left, top, width, height


@lru_cache(maxsize=6)
def _parsed(path: Path, state: object, *, boxed: bool) -> _File:  # noqa: ARG001 - of the file
    """Reads a file of annotations, once for each `state`. Raises DataError: it is not in COCO's
    form.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"annotations '{path}' cannot be read as COCO's JSON in UTF-8: {shorten(str(error))}"
        ) from None

    def each(key: str, make: Callable[[Mapping[str, Any]], Made]) -> list[Made]:
        made: list[Made] = []
        try:
            for row in content[key]:
                made.append(make(row))
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(
                f"'{path}' is not in COCO's form: {key}.{len(made)}:"
                f" {shorten(f'{type(error).__name__} {error}')}; each of {key} needs {NEEDED[key]}"
            ) from None
        return made

    images = each(
        "images",
        lambda row: (_id(row["id"]), (_name(row), _size(row) if boxed else None)),
    )
    marks = each(
        "annotations",
        lambda row: _Mark(
            _id(row.get("id", "")),
            _id(row["image_id"]),
            int(row["category_id"]),
            # some exporters write null
            bool(row.get("iscrowd")),
            _box(row) if boxed else None,
        ),
    )
    kinds = each("categories", lambda row: (int(row["id"]), str(row["name"]), row))
    used = {mark.category for mark in marks if not mark.crowd}
    above = {str(row.get("supercategory")) for number, _, row in kinds if number in used}
    names = dict(sorted((number, name) for number, name, _ in kinds))
    if not images or len(dict(images)) < len(images):
        raise DataError(f"'{path}' has no images, or two images with the same id: give each an id")
    if len(set(names.values())) < len(kinds):
        raise DataError(f"'{path}' has two categories with the same id or name: each needs its own")
    by_id = dict(images)
    for mark in marks:
        if mark.image not in by_id or mark.category not in names:
            lost = "category" if mark.image in by_id else "image"
            raise DataError(
                f"the annotation with id {mark.id} of '{path}' names the {lost}"
                f" {getattr(mark, lost)}, which does not exist"
            )
    return _File(path, by_id, marks, names, above)


def read(kind: Kind, section: DataSection) -> Samples:
    """Lists `coco:FOLDER`: the boxes of each image, or for several labels its categories. Raises
    DataError: annotations or images are missing or wrong.
    """
    what = "folder of images with boxes"
    root = user_path(section.name.removeprefix("coco:"), what=what, error=DataError)
    if not root.is_dir():
        raise DataError(f"{what} '{root}' does not exist (looked in {Path.cwd()})")
    root = root.resolve()
    files = dict(_files(root, section.coco or CocoSection(), boxed=kind == "boxes"))
    if "train" not in files:
        tried = ", ".join(pattern.format("train") for pattern in PATTERNS)
        raise DataError(
            f"'{root}' has no annotations to train on (looked for {tried}): name them in"
            " data.coco.train"
        )
    classes = _classes(files["train"])
    rows: list[tuple[str, Source, int]] = []
    boxes: list[NDArray[np.float32]] = []
    remarks: list[Remark] = []
    for split, file in files.items():
        sources, found = _marked(root, split, file, classes, section)
        rows += [(split, source, 0) for source in sources]
        boxes += found
        bare = [s.image for s, own in zip(sources, found, strict=True) if not len(own)]
        if bare and kind == "boxes":
            said = (
                f"{several(len(bare), 'image')} of {split} without a box"
                f" ({few([below(path, root) for path in bare])}): they count as images that show"
                " none of the classes"
            )
            remarks.append(Remark("without_boxes", said))
    targets = np.zeros((len(rows), len(classes)), np.float32)
    for row, own in zip(targets, boxes, strict=True):
        row[np.abs(own[:, 0]).astype(int) - 1] = 1
    names = list(classes.values())
    paths = [source.image for _, source, _ in rows]
    named = set(map(os.path.realpath, paths))
    trained = [source.image for split, source, _ in rows if split == "train"]
    unnamed = [image for image in walk(root).images if os.path.realpath(image) not in named]
    of_boxes = kind == "boxes"
    return Samples.listed(
        root,
        names,
        rows,
        # those of one file stay together
        groups=np.array(list(map(str, paths))) if len({*trained}) < len(trained) else None,
        boxes=box_table(boxes) if of_boxes else None,
        targets=None if of_boxes else targets,
        remarks=remarks,
        about=[] if of_boxes else about_targets(kind, names, targets),
        left_out={"that no annotations name": unnamed},
        missing_test=f"'{root}' has no annotations of a test split: name them in data.coco.test",
    )


read_tags = partial(read, "tags")
read_boxes = partial(read, "boxes")


def _marked(
    root: Path, split: str, file: _File, classes: Mapping[int, str], section: DataSection
) -> tuple[list[Source], list[NDArray[np.float32]]]:
    """The images of a split, and the boxes of each. Raises DataError: a category has another name
    than in training, or images or boxes are wrong.
    """
    taken = {number: file.names.get(number, name) for number, name in classes.items()}
    if taken != classes:
        raise DataError(
            f"'{file.path}' calls categories {few(list(taken.values()))}, and the training"
            f" annotations {few(list(classes.values()))}: equal ids need equal names"
        )
    folder = _folder(root, split, file, section)
    sources = [Source(folder / name, size=size) for name, size in file.images.values()]
    _check_files(file, folder, [source.image for source in sources])
    return sources, _boxes(file, {number: place for place, number in enumerate(classes, 1)})


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
    used = {mark.category for mark in file.marks if not mark.crowd}
    lacking = [n for number, n in file.names.items() if number not in used and n not in file.above]
    if lacking or not used:
        raise DataError(
            f"'{file.path}' has no box or image of category {few(lacking)} to learn from: remove"
            " the category, or add some"
        )
    return {number: name for number, name in file.names.items() if number in used}


def _folder(root: Path, split: str, file: _File, section: DataSection) -> Path:
    """The folder of a split's images, where the first is. Raises DataError: it is nowhere."""
    given = None if section.coco is None else section.coco.images
    bases = [root, root / "images"]
    names = dict.fromkeys((file.path.stem.removeprefix("instances_"), *SPLIT_NAMES[split]))
    places = [file.path.parent, *(base / name for base in bases for name in ("", *names))]
    if given is not None:
        places = [root / given]
    first, _ = next(iter(file.images.values()))
    for place in places:
        if os.path.isfile(place / first):
            return place
    looked_in = list(dict.fromkeys(map(str, places)))
    raise DataError(
        f"the image '{shorten(first)}' of '{file.path}' is not there (looked in {few(looked_in)}):"
        " name the images' folder in data.coco.images"
    )


def _check_files(file: _File, folder: Path, paths: Sequence[Path]) -> None:
    """Warns of files under two ids. Raises DataError: a file is missing."""
    if lacking := [str(path.relative_to(folder)) for path in paths if not os.path.isfile(path)]:
        raise DataError(
            f"{len(lacking)} of {len(paths)} images of '{file.path}' are not in '{folder}':"
            f" {few(lacking)}"
        )
    if twice := [path.name for path, count in Counter(paths).items() if count > 1]:
        _warn(
            f"{several(len(twice), 'file')} of '{file.path}' twice, under two image ids"
            f" ({few(twice)}): both stay on one side of a split that is made here; better give each"
            " file one id"
        )


def _boxes(file: _File, order: Mapping[int, int]) -> list[NDArray[np.float32]]:
    """The boxes of each image, each once; `order`: id of a category -> its number from 1. Raises
    DataError: one is not in its image.
    """
    # in order, without repeated ones
    boxes: dict[str, dict[tuple[float, ...], None]] = {number: {} for number in file.images}
    left_out = Counter[str]()
    unknown = Counter[str]()
    for mark in file.marks:
        corners = _corners(mark, file)
        label = order.get(mark.category, 0)
        box = (-label if mark.crowd else label, *corners)
        if not label:
            unknown[file.names[mark.category]] += 1
        elif mark.box and (corners[0] >= corners[2] or corners[1] >= corners[3]):
            left_out["without width or height, ignored"] += 1
        else:
            left_out["twice, counted once"] += bool(mark.box and box in boxes[mark.image])
            boxes[mark.image][box] = None
    for why, count in left_out.items():
        if count:
            _warn(f"{count} boxes of '{file.path}' {why}")
    if unknown:
        _warn(
            f"left out {unknown.total():,} boxes of '{file.path}' of {few(list(unknown))}, which no"
            " training image shows: images without another box count as empty; add such images to"
            " the training annotations"
        )
    return [np.array(list(rows), np.float32).reshape(-1, 5) for rows in boxes.values()]


def _corners(mark: _Mark, file: _File) -> Box:
    """(left, top, right, bottom) within the image; zeros without a box."""
    _, size = file.images[mark.image]
    if mark.box is None or size is None:
        return (0.0, 0.0, 0.0, 0.0)
    left, top, wide, high = mark.box
    width, height = size
    if (
        min(left, top) < -SLACK_PIXELS
        or left + wide > width + SLACK_PIXELS
        or top + high > height + SLACK_PIXELS
        or min(wide, high) < 0
    ):
        raise DataError(
            f"the box with id {mark.id} of '{file.path}', {[round(v, 2) for v in mark.box]}, is not"
            f" within its image of {width}x{height} pixels: boxes are [left, top, width, height]"
        )
    return max(left, 0.0), max(top, 0.0), min(left + wide, width), min(top + high, height)


def _warn(sentence: str) -> None:
    warnings.warn(sentence, NasAttnWarning, stacklevel=2)

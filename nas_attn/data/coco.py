"""Images with boxes in COCO's form (`coco:FOLDER`).

Without `[data.coco]`, annotations of a split are searched at the places of COCO itself and of
common programs (PATTERNS), and images in the file's folder, in FOLDER, in `images`, or in a folder
with the split's name. For detectors of our own trainer, the longer side of an image is scaled to
the side of the detector's input; the rest is grey.
"""

from __future__ import annotations

import codecs
import os
import typing
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from nas_attn.data.decoding import Framed
from nas_attn.data.folder import Files, preparer
from nas_attn.data.parts import BoxTable, Labelled, Parts, Place, box_table, detector_side
from nas_attn.data.walking import SPLIT_NAMES
from nas_attn.errors import DataError, NasAttnWarning, few, several, shorten
from nas_attn.recipe.recipe import CocoSection, DataSection
from nas_attn.system.paths import user_path

PATTERNS = (
    "annotations/instances_{}*.json",
    "{}/_annotations.coco.json",
    "annotations/{}*.json",
    "{}.json",
)
# pixels by which a box may exceed its image, since programs round
SLACK_PIXELS = 1.0


def _as_text(value: object) -> object:
    """Some programs write an id as a number in one place and as text in the other."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else value


Id = typing.Annotated[str, BeforeValidator(_as_text), Field(max_length=100)]
# what each key needs, where its value is wrong
NEEDED_FIELDS = {
    "bbox": "annotation needs bbox = [left, top, width, height] in pixels",
    "width": "image needs its width and height in pixels",
    "height": "image needs its width and height in pixels",
    "file_name": "image needs its file_name",
    "category_id": "annotation needs the number of its category",
    "image_id": "annotation needs the id of its image",
}


def _place_in(folder: Path, name: str) -> Path:
    """An image's file: its name as it is written, else with slashes for the backslashes that
    programs on Windows write.
    """
    written = folder / name
    # also false if the name is too long
    return written if os.path.isfile(written) else folder / name.replace("\\", "/")


class _Row(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)
    id: Id = ""


class _NamedImage(_Row):
    file_name: str


class _ImageEntry(_NamedImage):
    width: PositiveInt
    height: PositiveInt


class _Tag(_Row):
    image_id: Id
    category_id: int
    # some exporters write null
    iscrowd: bool | None = False


class _Box(_Tag):
    # left, top, width, height in pixels
    bbox: tuple[float, float, float, float]


class _Category(BaseModel):
    id: int
    name: str
    supercategory: str | None = None


class _Tagged(BaseModel):
    """A file of annotations, of which only the categories of each image are read."""

    images: Sequence[_NamedImage] = Field(min_length=1)
    annotations: Sequence[_Tag]
    categories: list[_Category]


class _Content(_Tagged):
    """A file of annotations."""

    images: Sequence[_ImageEntry] = Field(min_length=1)
    annotations: Sequence[_Box]


Read = typing.TypeVar("Read", bound=_Tagged)


@dataclass(frozen=True)
class Coco:
    """The files of a data set's splits."""

    root: Path
    # split -> annotations
    files: Mapping[str, Path]
    # folder of the images, if it was given
    images: str | None
    # id -> name, in order of the ids: those with boxes to learn from
    classes: Mapping[int, str]
    # number of images in the training annotations
    trained: int

    @property
    def missing_test(self) -> str:
        """Why there is no test split, with the way out; else empty."""
        if "test" in self.files:
            return ""
        return f"'{self.root}' has no annotations of a test split: name them in data.coco.test"

    def read(self, split: str) -> tuple[tuple[Framed, ...], tuple[BoxTable, ...]]:
        """Reads the images of a split, unopened, and their boxes. Raises DataError: annotations are
        wrong, or an image is missing.
        """
        path = self.files[split]
        content = _content(path, _Content)
        names, folder = self._checked(content, split)
        images = {image.id: image for image in content.images}
        boxes = self._boxes(content, images, names, path)
        files = Counter(image.file_name for image in content.images)
        if twice := [name for name, count in files.items() if count > 1]:
            _warn(
                f"{several(len(twice), 'file')} of '{path}' twice, under two image ids"
                f" ({few(twice)}): both stay on one side of a split that is made here; better give"
                " each file one id"
            )
        if not any(box[0] > 0 for rows in boxes.values() for box in rows):
            raise DataError(
                f"'{path}' has no box of the categories of"
                f" '{self.files['train'].relative_to(self.root)}'"
            )
        framed = tuple(
            Framed(_place_in(folder, one.file_name), (one.width, one.height))
            for one in content.images
        )
        return framed, tuple(np.array(one, np.float32).reshape(-1, 5) for one in boxes.values())

    def _checked(self, content: _Tagged, split: str) -> tuple[dict[int, str], Path]:
        """The names of a file's categories, and the folder of its images. Raises DataError: the
        categories are others than those of the training, or an image is missing.
        """
        path = self.files[split]
        names = _names(content, path)
        others = [name for number, name in self.classes.items() if names.get(number, name) != name]
        if others:
            raise DataError(
                f"'{path}' uses the id of the training annotations' category '{others[0]}' for"
                " another one"
            )
        images = {image.id for image in content.images}
        if len(images) < len(content.images):
            raise DataError(f"'{path}' has two images with the same id: each needs its own")
        folder = self._folder(split, content.images[0].file_name)
        lacking = [
            image.file_name
            for image in content.images
            if not os.path.isfile(_place_in(folder, image.file_name))
        ]
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(images)} images of '{path}' are not in '{folder}':"
                f" {few(lacking)}"
            )
        return names, folder

    def tagged(self, split: str) -> Files:
        """Reads the images of a split, unopened, and which categories each has, (N, K). Raises
        DataError: annotations are wrong, or an image is missing.
        """
        path = self.files[split]
        content = _content(path, _Tagged)
        names, folder = self._checked(content, split)
        row_of = {image.id: row for row, image in enumerate(content.images)}
        column_of = {number: column for column, number in enumerate(self.classes)}
        targets = np.zeros((len(row_of), len(column_of)), np.float32)
        for tag in content.annotations:
            _check_known(tag, row_of, names, path)
            if tag.category_id in column_of:
                targets[row_of[tag.image_id], column_of[tag.category_id]] = 1
        files = [_place_in(folder, image.file_name) for image in content.images]
        if twice := [str(file) for file, count in Counter(files).items() if count > 1]:
            raise DataError(f"'{path}' has the file {few(twice)} under two ids: give it one")
        return Files(self.root, files, np.zeros(len(files), np.int64), targets=targets)

    def _boxes(
        self,
        content: _Content,
        images: Mapping[str, _ImageEntry],
        names: Mapping[int, str],
        path: Path,
    ) -> dict[str, list[tuple[float, ...]]]:
        """Image -> its boxes, each once. Raises DataError: one is of no image or category."""
        order = {number: i for i, number in enumerate(self.classes, 1)}
        # in order, without repeated ones
        boxes: dict[str, dict[tuple[float, ...], None]] = {number: {} for number in images}
        empty = 0
        repeated = 0
        unknown = Counter[str]()
        for row in content.annotations:
            _check_known(row, images, names, path)
            corners = _corners(row, images[row.image_id], path)
            if corners is None:
                empty += 1
                continue
            if row.category_id not in order:
                unknown[names[row.category_id]] += 1
                continue
            label = order[row.category_id]
            box = (-label if row.iscrowd else label, *corners)
            repeated += box in boxes[row.image_id]
            boxes[row.image_id][box] = None
        if empty:
            _warn(f"ignored {empty} boxes of '{path}' without width or height")
        if unknown:
            _warn(
                f"left out {unknown.total():,} boxes of '{path}' of"
                f" {few(list(unknown))}, which no training image shows: images without another box"
                " count as empty; add such images to the training annotations"
            )
        if repeated:
            _warn(f"{repeated} boxes of '{path}' twice, counted once")
        return {number: list(rows) for number, rows in boxes.items()}

    def _folder(self, split: str, first: str) -> Path:
        """The folder of a split's images; `first` is one of them."""
        root = self.root
        file = self.files[split]
        if self.images is not None:
            if not (root / self.images).is_dir():
                raise DataError(
                    f"data.coco.images = '{shorten(self.images)}': '{root / self.images}' does not"
                    " exist"
                )
            return root / self.images
        named = dict.fromkeys((file.stem.removeprefix("instances_"), *SPLIT_NAMES[split]))
        places = [file.parent]
        for base in (root, root / "images"):
            places += [base, *(base / name for name in named)]
        for place in places:
            if os.path.isfile(_place_in(place, first)):
                return place
        looked_in = dict.fromkeys(os.path.abspath(place) for place in places)
        raise DataError(
            f"the image '{shorten(first)}' of '{file}' is not there (looked in"
            f" {few(list(looked_in))}): name the images' folder in data.coco.images"
        )


def _check_known(row: _Tag, images: Collection[str], names: Collection[int], path: Path) -> None:
    """Raises DataError: an annotation is of no image or category."""
    if row.image_id not in images or row.category_id not in names:
        lost = "category" if row.image_id in images else "image"
        what = "box" if isinstance(row, _Box) else "annotation"
        raise DataError(
            f"the {what} with id {row.id} of '{path}' names the {lost}"
            f" {getattr(row, f'{lost}_id')}, which does not exist"
        )


def _warn(sentence: str) -> None:
    warnings.warn(sentence, NasAttnWarning, stacklevel=2)


def count_trained(section: DataSection) -> float:
    """Returns the approximate number of training images of `coco:FOLDER`. Raises DataError: it is
    unknown.
    """
    annotated = find(section)
    return (1 if "validation" in annotated.files else 0.8) * annotated.trained


def find(section: DataSection, form: type[_Tagged] = _Content) -> Coco:
    """Finds the files of the data, and their classes. Raises DataError: there are none, or no class
    with boxes.

    Args:
        section: The recipe's data.
        form: What is read of the annotations.
    """
    what = "folder of images with boxes"
    root = user_path(section.name.removeprefix("coco:"), what=what, error=DataError)
    if not root.is_dir():
        raise DataError(f"{what} '{root}' does not exist (looked in {Path.cwd()})")
    where = section.coco or CocoSection()
    found = {split: _annotations(root, split, getattr(where, split)) for split in SPLIT_NAMES}
    files = {split: path for split, path in found.items() if path is not None}
    if "train" not in files:
        tried = ", ".join(pattern.format("train") for pattern in PATTERNS)
        raise DataError(
            f"'{root}' has no annotations to train on (looked for {tried}): name them in"
            " data.coco.train"
        )
    content = _content(files["train"], form)
    return Coco(
        root.resolve(), files, where.images, _classes(content, files["train"]), len(content.images)
    )


def _annotations(root: Path, split: str, given: str | None) -> Path | None:
    if given is not None:
        path = root / given
        if not path.is_file():
            raise DataError(f"data.coco.{split} = '{shorten(given)}': '{path}' does not exist")
        return path
    for pattern in PATTERNS:
        files = set[Path]()
        for name in SPLIT_NAMES[split]:
            files.update(filter(Path.is_file, root.glob(pattern.format(name))))
        paths = sorted(files)
        if len(paths) > 1:
            raise DataError(
                f"'{root}' has several annotations for {split},"
                f" {few([str(path) for path in paths])}: name one in data.coco.{split}"
            )
        if paths:
            return paths[0]
    return None


def _content(path: Path, form: type[Read]) -> Read:
    try:
        text = path.read_bytes()
        if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"'{path}' is text in UTF-16: save it as UTF-8")
        return form.model_validate_json(text.removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise DataError(f"annotations '{path}' cannot be read: {shorten(str(error))}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"]
        if where:
            message = f"{where}: {message}"
        for key in NEEDED_FIELDS.keys() & set(first["loc"]):
            message += f"; each {NEEDED_FIELDS[key]}"
        raise DataError(f"'{path}' is not in COCO's format: {message}") from None


def _names(content: _Tagged, path: Path) -> dict[int, str]:
    """Id -> name of a file's categories, in order of the ids."""
    names = dict(sorted((row.id, row.name) for row in content.categories))
    if len(names) < len(content.categories) or len(set(names.values())) < len(names):
        raise DataError(f"'{path}' has two categories with the same id or name: each needs its own")
    return names


def _classes(content: _Tagged, path: Path) -> dict[int, str]:
    """The categories to learn, without a supercategory without boxes, which some programs write."""
    names = _names(content, path)
    used = {row.category_id for row in content.annotations if not row.iscrowd}
    above = {row.supercategory for row in content.categories if row.id in used}
    lacking = [name for number, name in names.items() if number not in used and name not in above]
    if lacking or not used:
        mark = "box" if isinstance(content, _Content) else "image"
        what = f"no {mark} of category '{lacking[0]}'" if lacking else f"no {mark} with a category"
        more = ""
        if lacking:
            more = f" ({len(lacking)} of {len(names)} categories have none)"
        raise DataError(
            f"'{path}' has {what} to learn from{more}: remove the category, or add some"
        )
    return {number: name for number, name in names.items() if number in used}


def _corners(row: _Box, image: _ImageEntry, path: Path) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) within the image; None for a box without area."""
    left, top, wide, high = row.bbox
    width = image.width
    height = image.height
    if (
        min(left, top) < -SLACK_PIXELS
        or left + wide > width + SLACK_PIXELS
        or top + high > height + SLACK_PIXELS
        or min(wide, high) < 0
    ):
        raise DataError(
            f"the box with id {row.id} of '{path}', {[round(value, 2) for value in row.bbox]}, is"
            f" not within its image of {width}x{height} pixels: boxes are [left, top, width,"
            " height]"
        )
    box = max(left, 0.0), max(top, 0.0), min(left + wide, width), min(top + high, height)
    return box if box[0] < box[2] and box[1] < box[3] else None


def find_tagged(section: DataSection) -> Coco:
    """Finds the files of the data as `find`, for annotations that may have no boxes."""
    return find(section, _Tagged)


def coco_tags(section: DataSection, place: Place) -> Parts:
    """Reads `coco:FOLDER` for the categories that each image has. Raises DataError: annotations or
    images are missing or wrong.
    """
    annotated = find_tagged(section)
    _check_validation(annotated, section)
    known = {split: annotated.tagged(split) for split in annotated.files if split != "test"}
    prepare = preparer(known["train"], section, place)
    ready = {split: prepare(files) for split, files in known.items()}
    return Parts(
        ready["train"],
        ready.get("validation"),
        lambda: prepare(annotated.tagged("test")),
        tuple(annotated.classes.values()),
        annotated.missing_test,
    )


def _check_validation(annotated: Coco, section: DataSection) -> None:
    """Raises DataError: `data.validation` is given beside annotations of validation images."""
    if "validation" in annotated.files and section.validation is not None:
        raise DataError(
            f"data.validation does not apply, since '{annotated.files['validation']}' has the"
            " validation images: remove it"
        )


def coco_folder(section: DataSection, place: Place) -> Parts:
    """Reads `coco:FOLDER`. Raises DataError: annotations or images are missing or wrong."""
    annotated = find(section)
    _check_validation(annotated, section)
    side = detector_side(section)
    # the test images stay closed
    known = {split: annotated.read(split) for split in annotated.files if split != "test"}
    listed = {split: _files(annotated.root, sources) for split, (sources, _) in known.items()}
    sized = section.model_copy(update={"size": side})
    prepare = preparer(listed["train"], sized, place)

    def ready(split: str) -> Labelled:
        sources, boxes = known[split] if split in known else annotated.read(split)
        images = prepare(_files(annotated.root, sources))
        # broken images may be left out
        table = box_table(boxes)[images.labels]
        longest = np.array([max(source.size) for source in sources], np.float32)[images.labels]
        table[..., 1:] *= (side / longest)[:, None, None]
        return replace(images, labels=np.zeros_like(images.labels), boxes=table)

    validation = ready("validation") if "validation" in annotated.files else None
    classes = tuple(annotated.classes.values())
    missing = annotated.missing_test
    return Parts(ready("train"), validation, lambda: ready("test"), classes, missing)


def _files(root: Path, sources: Sequence[Framed]) -> Files:
    """Images by their numbers; those of one file stay together."""
    paths = np.array([str(source.image) for source in sources])
    groups = paths if len(set(paths)) < len(paths) else None
    return Files(root, sources, np.arange(len(sources)), groups)

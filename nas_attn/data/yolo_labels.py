"""The labels of `yolo:PATH.yaml`, read as ultralytics reads them: it leaves out an image with a
wrong label, with one line among many, so that a third of the data may be missing in silence.

An image `…/images/…/1.jpg` has its labels in `…/labels/…/1.txt`: a row for each box, with the class
number from 0, then the box's middle, width and height as shares of the image; or with the corners
of a polygon. No file, or an empty one: the image shows none of the classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas_attn.errors import shorten

# columns of a box
BOX_COLUMNS = 5
# columns of a polygon: the class and three corners
LEAST_POLYGON = 7
# of labels, which ultralytics does not read
OTHER_ENDINGS = (".TXT", ".Txt", ".xml", ".json")
# share of the image by which ultralytics lets a box leave it
SLACK_SHARE = 0.01


@dataclass
class LabelFiles:
    """What the label files of a split have."""

    # image -> why it is left out
    wrong: dict[Path, str] = field(default_factory=dict)
    # images without a box
    empty: list[Path] = field(default_factory=list)
    # files that look like labels of these, where ultralytics does not look
    elsewhere: list[Path] = field(default_factory=list)
    polygons: int = 0
    # rows that a file has twice, which count once
    repeated: int = 0


def labels_file(image: Path) -> Path:
    """Where ultralytics looks for an image's labels."""
    before, images, after = str(image).rpartition(f"{os.sep}images{os.sep}")
    place = f"{before}{os.sep}labels{os.sep}{after}" if images else str(image)
    return Path(place).with_suffix(".txt")


def _elsewhere(image: Path) -> list[Path]:
    """Labels of an image beside it, or with another ending."""
    expected = labels_file(image)
    candidates = (image.with_suffix(".txt"), *(expected.with_suffix(end) for end in OTHER_ENDINGS))
    return [path for path in candidates if path != expected and path.is_file()][:1]


def read_labels(images: Sequence[Path], classes: int, *, points: bool) -> LabelFiles:
    """The labels of these images. `points`: rows have key points too, whose number is not
    checked.
    """
    labels = LabelFiles()
    for image in images:
        try:
            text = labels_file(image).read_text("utf-8-sig")
        except FileNotFoundError:
            text = ""
            labels.elsewhere += _elsewhere(image)
        except (OSError, UnicodeDecodeError) as error:
            labels.wrong[image] = f"its labels cannot be read ({shorten(str(error), 80)})"
            continue
        rows = [line.split() for line in text.splitlines() if line.strip()]
        _add(labels, image, rows, classes, points=points)
    return labels


def _add(
    labels: LabelFiles, image: Path, rows: list[list[str]], classes: int, *, points: bool
) -> None:
    """Counts one image's rows."""
    for number, row in enumerate(rows, 1):
        if why := _wrong(row, classes, points=points):
            labels.wrong[image] = f"line {number} of its labels {why}"
            return
    polygons = 0 if points else sum(len(row) >= LEAST_POLYGON for row in rows)
    if 0 < polygons < len(rows):
        # before 8.4, it took the boxes for polygons
        labels.wrong[image] = "its labels mix boxes and polygons: write them all in one form"
        return
    if not rows:
        labels.empty.append(image)
    labels.repeated += len(rows) - len(set(map(tuple, rows)))
    labels.polygons += polygons


def _wrong(row: list[str], classes: int, *, points: bool) -> str:
    """Why an image with this row is left out; empty if it is right."""
    try:
        values = [float(value) for value in row]
    except ValueError:
        return f"is no row of numbers: '{shorten(' '.join(row), 40)}'"
    polygon = len(values) >= LEAST_POLYGON and len(values) % 2 == 1
    if len(values) != BOX_COLUMNS and not polygon and not points:
        return f"has {len(values)} numbers: a box has {BOX_COLUMNS}, a polygon 7, 9, 11, …"
    label = values[0]
    if not 0 <= label < classes:
        return f"has the class {row[0]}, but the classes are 0 to {classes - 1}"
    places = values[1:BOX_COLUMNS] if points else values[1:]
    if not all(-SLACK_SHARE <= value <= 1 + SLACK_SHARE for value in places):
        return "leaves the image: places are shares of its width and height, 0 to 1"
    return ""

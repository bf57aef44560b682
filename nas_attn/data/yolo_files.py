"""Images with boxes in ultralytics' form (`yolo:PATH.yaml`).

An image `…/images/…/1.jpg` has its labels in `…/labels/…/1.txt`: a row for each box, with the class
number from 0, then the box's middle, width and height as shares of the image; or with the corners
of a polygon. No file, or an empty one: the image shows none of the classes. What is wrong with
labels, ultralytics says.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.decoding import Cut, Source, fitted, orientation_of, to_rgb, turned
from nas_attn.data.folder import walk
from nas_attn.data.image_file import opened_image
from nas_attn.data.samples import BoxTable, Samples, box_table, detector_side
from nas_attn.errors import DataError, shorten
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.task import YOLO_SIDE
from nas_attn.system.paths import user_path

# detectors halve the image's side five times
STRIDE = 32
# which ultralytics reads, in any case
IMAGE_ENDINGS = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif"}
    | {".tiff", ".webp"}
)
# key in the YAML -> split
YAML_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def side(section: DataSection) -> int:
    """Returns the side of a detector's input. Raises DataError: it cannot be halved five times."""
    size = detector_side(section, YOLO_SIDE)
    if size % STRIDE:
        raise DataError(f"data.size = {size} must be a multiple of {STRIDE} for a detector")
    return size


def data_file(section: DataSection) -> Path:
    """Returns the YAML file of the data. Raises DataError: there is none."""
    if not section.name.startswith("yolo:"):
        raise DataError(
            f"'{section.name}' has no boxes for ultralytics: give data.name = 'yolo:PATH.yaml'"
        )
    path = user_path(section.name.removeprefix("yolo:"), what="data YAML", error=DataError)
    if not path.is_file():
        raise DataError(f"data YAML '{path}' does not exist (looked in {Path.cwd()})")
    return path.resolve()


def described(section: DataSection) -> Mapping[str, Any]:
    """Returns the content of the YAML. Raises DataError: it cannot be read, or names no classes."""
    # ultralytics brings it
    import yaml

    path = data_file(section)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
            raise ValueError("it names no classes")
        for key in ("names", "train", "val"):
            if not content.get(key):
                raise ValueError(f"it has no '{key}'")
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"data YAML '{path}' must have names: [one, two], and the folders of images, train:"
            f" PATH and val: PATH: {shorten(str(error))}"
        ) from None
    return content


def class_names(section: DataSection) -> tuple[str, ...]:
    """Returns the classes' names, in order."""
    names = described(section)["names"]
    if isinstance(names, dict):
        names = [names[number] for number in sorted(names, key=int)]
    return tuple(map(str, names))


def count_trained(section: DataSection) -> float:
    """Returns the approximate number of training images. Raises DataError: it is unknown."""
    return sum(1 for _ in named_images(section, "train"))


def validation_images(section: DataSection) -> Iterator[NDArray[np.float32]]:
    """Yields validation images as the detector's input, (1, 3, side, side), 0 to 1."""
    size = side(section)
    for path in named_images(section, "val"):
        # ultralytics reports it
        with suppress(OSError, ValueError):
            with opened_image(path) as opened:
                image = turned(to_rgb(opened), orientation_of(opened))
            whole = np.asarray(fitted(image, Cut(size, size, "letterbox")), np.float32)
            yield whole.transpose(2, 0, 1)[None] / np.float32(255)


def named_images(section: DataSection, split: str) -> Iterator[Path]:
    """Yields the image files of a split, from the folders and file lists in the YAML: a path in
    each line, `./` for the folder of the list, which may not be there. Other entries are left out.
    """
    for place in named_places(section, split):
        if place.is_file():
            lines = place.read_text("utf-8-sig").strip().splitlines()
            paths = [place.parent / line if line.startswith("./") else Path(line) for line in lines]
        else:
            paths = [path for path in sorted(place.rglob("*")) if path.is_file()]
        yield from (path for path in paths if path.suffix.lower() in IMAGE_ENDINGS)


def named_places(section: DataSection, split: str) -> list[Path]:
    """Returns the folders and file lists that the YAML names for a split, which may not be there,
    as ultralytics finds them: `../train/images`, which exported archives have, also without its
    dots.
    """
    content = described(section)
    root = Path(str(content.get("path") or ".")).expanduser()
    bases = (root, data_file(section).parent / root)
    named = content.get(split)
    places = []
    for name in named if isinstance(named, list) else [named]:
        if isinstance(name, str):
            written = itertools.product(bases, (name, name.removeprefix("../")))
            found = (base.resolve() / each for base, each in written if (base / each).exists())
            # a relative path may not show the folder around `images`, beside which the labels lie
            places.append(next(found, Path(name)).resolve())
    return places


def read(section: DataSection) -> Samples | None:
    """Lists `yolo:PATH.yaml`, with boxes as shares of their images; None if nothing is there yet
    and the YAML says where ultralytics downloads it. Raises DataError: the YAML cannot be used, or
    no image of a split has a label.
    """
    content = described(section)
    yaml = data_file(section)
    rows: list[tuple[str, Source]] = []
    boxes: list[BoxTable] = []
    unread: list[Path] = []
    gone: list[Path] = []
    for key, split in YAML_SPLITS.items():
        # some programs list relative paths
        named = [Path(os.path.abspath(path)) for path in named_images(section, key)]
        images = [path for path in named if path.is_file()]
        gone += [path for path in named if not path.is_file()]
        places = named_places(section, key)
        if not images and places and content.get("download"):
            return None
        if not images and places:
            way_out = ""
            # those of another computer
            if content.get("path") and (beside := yaml.parent / str(content[key])).is_dir():
                way_out = f"; '{beside}' is there: remove 'path: {content['path']}'"
            raise DataError(
                f"data YAML '{yaml}' names '{places[0]}' for {key}, where no image is: correct it,"
                f" or put them there{way_out}"
            )
        if images and not any(labels_file(image).is_file() for image in images):
            raise DataError(
                f"no image of {split} in '{yaml}' has a label: those of '{images[0]}' are looked"
                f" for in '{labels_file(images[0])}'"
            )
        rows += [(split, Source(image)) for image in images]
        boxes += map(_boxes, images)
        for place in dict.fromkeys(places):
            unread += [i for i in walk(place).images if i.suffix.lower() not in IMAGE_ENDINGS]
    return Samples.listed(
        yaml.parent,
        class_names(section),
        rows,
        boxes=box_table(boxes),
        left_out={"that ultralytics does not read": unread, "that a file lists in vain": gone},
    )


def labels_file(image: Path) -> Path:
    """Returns where ultralytics looks for an image's labels."""
    before, images, after = str(image).rpartition(f"{os.sep}images{os.sep}")
    place = f"{before}{os.sep}labels{os.sep}{after}" if images else str(image)
    return Path(place).with_suffix(".txt")


def _boxes(image: Path) -> BoxTable:
    """The boxes of an image, and those around its polygons, as shares of it."""
    found = []
    text = ""
    with suppress(OSError, UnicodeDecodeError):
        text = labels_file(image).read_text("utf-8-sig")
    for line in text.splitlines():
        with suppress(ValueError):
            label, *values = map(float, line.split())
            corners = np.array(values).reshape(-1, 2)
            box = [*corners.min(0), *corners.max(0)]
            if len(corners) == 2:
                # the middle, and width and height
                box = [*(corners[0] - corners[1] / 2), *(corners[0] + corners[1] / 2)]
            found.append([label + 1, *box])
    return np.array(found, np.float32).reshape(-1, 5)

"""Images with boxes for detectors, in the layout of ultralytics: a YAML file that says where images and labels lie.

`yolo:PATH.yaml` is a person's own. `digits` makes the cluttered digits with a box round each, as files in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.decoding import SUFFIXES, Framed, decode
from nas_attn.data.digits import CLASSES, OPTIONS, box_of, chosen_options, draw_masked
from nas_attn.data.files import cache_folder, exclusive
from nas_attn.errors import DataError, shorten
from nas_attn.paths import user_path
from nas_attn.recipe import DataSection

DEFAULT_SIZE = 640
STRIDE = 32
"""Detectors halve their images five times."""
FORMAT = 1
PARTS = {"train": "train", "val": "validation", "test": "test"}
"""Key in the YAML -> split of the digits."""


def side(section: DataSection) -> int:
    """Height and width that a detector is fed.

    Raises:
        DataError: it cannot be halved five times.
    """
    size = section.size or DEFAULT_SIZE
    if size % STRIDE:
        raise DataError(f"data.size = {size} must be a multiple of {STRIDE} for a detector")
    return size


def data_file(section: DataSection) -> Path:
    """The YAML file of the data; the digits' is made where it is not there yet.

    Raises:
        DataError: there is none.
    """
    if section.name == "digits":
        return _digits(section)
    if not section.name.startswith("yolo:"):
        raise DataError(f"'{section.name}' has no boxes: for detection, give digits or yolo:PATH.yaml")
    path = user_path(section.name.removeprefix("yolo:"), what="data YAML", error=DataError)
    if not path.is_file():
        raise DataError(f"data YAML '{path}' does not exist (looked in {Path.cwd()})")
    return path.resolve()


def described(section: DataSection) -> Mapping[str, Any]:
    """What the YAML says.

    Raises:
        DataError: it cannot be read, or names no classes.
    """
    import yaml  # ultralytics brings it

    path = data_file(section)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"data YAML '{path}' cannot be read: {shorten(str(error))}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, list | dict) or not names:
        raise DataError(f"data YAML '{path}' names no classes: give names: [one, two], and train and val")
    return content  # type: ignore[no-any-return]


def class_names(section: DataSection) -> tuple[str, ...]:
    """The classes' names, in order."""
    names = described(section)["names"]
    return tuple(str(name) for name in (names.values() if isinstance(names, dict) else names))


def validation_images(section: DataSection) -> Iterator[NDArray[np.float32]]:
    """Images to validate on as they are fed, (1, 3, side, side), 0 to 1; none unless the YAML names a folder or a list of files."""
    content, size = described(section), side(section)
    root = Path(str(content.get("path") or ".")).expanduser()
    named = content.get("val")
    if not isinstance(named, str):
        return
    base = next((b for b in (root, data_file(section).parent / root) if (b / named).exists()), None)
    if base is None:
        return
    place = base / named
    paths = sorted(place.rglob("*")) if place.is_dir() else [base / line for line in place.read_text("utf-8").split()]
    for path in paths:
        if path.suffix.lower() in SUFFIXES and path.is_file():
            try:
                with Image.open(path) as opened:
                    whole = opened.size
                image = decode(Framed(path, whole), size)[None].astype(np.float32)
            except (OSError, ValueError):  # ultralytics has said so
                continue
            image /= 255
            yield image


def _digits(section: DataSection) -> Path:
    options = chosen_options(section, OPTIONS)
    key = hashlib.blake2b(repr((FORMAT, section.seed, sorted(options.items()))).encode(), digest_size=8).hexdigest()
    folder = cache_folder().parent / "boxes" / key
    with exclusive(folder.with_suffix(".lock"), "the digits with their boxes"):
        if not (folder / "data.yaml").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".digits-"))
            for part, split in PARTS.items():
                _write(draft, part, *draw_masked(section.seed, split, options)[:2])
            names = ", ".join(f"'{name}'" for name in CLASSES)
            parts = "".join(f"{part}: images/{part}\n" for part in PARTS)
            (draft / "data.yaml").write_text(f"path: {folder}\n{parts}names: [{names}]\n", "utf-8")
            os.replace(draft, folder)
    return folder / "data.yaml"


def _write(folder: Path, part: str, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
    for inside in ("images", "labels"):
        (folder / inside / part).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        Image.fromarray(image).convert("RGB").save(folder / "images" / part / f"{number:06}.png")
        label, *box = box_of(mask)
        line = " ".join([str(int(label)), *(f"{value:.6f}" for value in box)])
        (folder / "labels" / part / f"{number:06}.txt").write_text(f"{line}\n", "ascii")

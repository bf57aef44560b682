"""A user's images and masks for segmentation: `images/NAME.jpg` with `masks/NAME.png`, whose values are class numbers.

Either in `PATH/train`, beside `PATH/val` (or `valid`, `validation`) and `PATH/test`, or in `PATH` itself, of which a fifth is
kept for the test and, as for any data set, a part for validation. `PATH/classes.txt` has the classes' names, one a line, the
first is number 0; 255 in a mask is of no class. Images are prepared as those of a folder of classes, masks likewise, but for
the nearest value taken where they are scaled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nas_attn.data.decoding import Masked
from nas_attn.data.folder import Files, image_folder, images_below, split_folder
from nas_attn.data.grouping import GroupOf, find_groups
from nas_attn.data.parts import Parts, Place
from nas_attn.errors import DataError, few, shorten
from nas_attn.recipe import DataSection

NAMES_FILE = "classes.txt"
MOST_CLASSES = 255


def read(section: DataSection, place: Place) -> Parts:
    """`folder:PATH` for segmentation.

    Raises:
        DataError: a folder, a mask or the names are missing, or an image cannot be read with its mask and
            `broken_images` is `refuse`.
    """
    root = image_folder(section)
    classes = _names(root)
    group_of = None if section.groups is None else find_groups(section.groups, root)
    missing = f"image folder '{root}' has no test split: add '{root / 'test'}' with images and masks"
    return split_folder(
        root, section, place, lambda folder: _list(root, folder, len(classes), group_of), classes, ("image",), missing
    )


def _names(root: Path) -> tuple[str, ...]:
    path = root / NAMES_FILE
    try:
        names = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        why = "is not there" if not path.exists() else f"cannot be read ({shorten(str(error))})"
        raise DataError(
            f"'{path}' {why}: write the classes' names into it, one per line; the first belongs to mask value 0"
        ) from None
    if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise DataError(
            f"'{path}' must name 2 to {MOST_CLASSES} different classes, one per line; it has {len(names)} lines"
        )
    return tuple(names)


def _list(root: Path, folder: Path, classes: int, group_of: GroupOf | None) -> Files:
    """The images of a folder with their masks, sorted by name."""
    for inside in ("images", "masks"):
        if not (folder / inside).is_dir():
            raise DataError(
                f"'{folder}' has no folder '{inside}': a segmentation's images lie in images, and a mask of the same name, as "
                "PNG, in masks"
            )
    paths = images_below(folder / "images")
    masks = [folder / "masks" / p.relative_to(folder / "images").with_suffix(".png") for p in paths]
    lacking = [str(mask.relative_to(root)) for mask in masks if not mask.is_file()]
    if lacking:
        raise DataError(f"{len(lacking)} of {len(paths)} images of '{folder}' have no mask: {few(lacking)}")
    if not paths:
        raise DataError(f"'{folder / 'images'}' has no image")
    groups = None if group_of is None else np.array([group_of(path, folder) for path in paths])
    masked = tuple(Masked(image, mask, classes) for image, mask in zip(paths, masks, strict=True))
    return Files(root, masked, np.zeros(len(paths), dtype=np.int64), groups)

"""A look at a folder of images before a recipe is written for it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nas_attn.data.decoding import SUFFIXES
from nas_attn.data.splitting import amount, divided
from nas_attn.errors import DataError
from nas_attn.paths import user_path
from nas_attn.processes import cores


@dataclass(frozen=True, slots=True)
class Look:
    """What is in a folder of images with a folder per class."""

    classes: int
    images: int
    unreadable: tuple[Path, ...]

    def __str__(self) -> str:
        return f"{self.classes} classes, {self.images:,} images, {len(self.unreadable)} unreadable"


def look_at(path: str) -> Look:
    """Opens every image below a folder of `data.name = "folder:PATH"`.

    Raises:
        DataError: it does not exist, has fewer than two classes, or too few images to split.
    """
    root = user_path(path, what="image folder", error=DataError)
    if not root.is_dir():
        raise DataError(f"image folder '{root}' does not exist (looked in {Path.cwd()})")
    parts = [root / name for name in ("train", "validation", "val", "valid", "test") if (root / name).is_dir()]
    train = root / "train" if (root / "train").is_dir() else root
    images = _images(train)
    names = sorted(entry.name for entry in train.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise DataError(
            f"'{train}' has {len(names)} class folder{'' if len(names) == 1 else 's'}: one folder of images per class is "
            "needed, and at least two"
        )
    counts = Counter(image.relative_to(train).parts[0] for image in images)
    if empty := [name for name in names if not counts[name]]:
        raise DataError(f"'{train / empty[0]}' has no image: every class needs images")
    if train == root:
        labels = np.repeat(np.arange(len(names)), [counts[name] for name in names])
        for part in ("the test split", "validation"):
            _, rest = divided(labels, amount(0.2, labels, part), 0, names, None)
            labels = labels[rest]
    images += [image for part in parts if part != train for image in _images(part)]
    with ThreadPoolExecutor(cores()) as pool:
        readable = list(pool.map(_opens, images))
    unreadable = tuple(image for image, fine in zip(images, readable, strict=True) if not fine)
    return Look(len(names), len(images), unreadable)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _opens(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.verify()
        return True
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False

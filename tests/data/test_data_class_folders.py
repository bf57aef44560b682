"""Folders that are no classes, or hardly: what is said, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folders_made
import pytest

from nas_attn.data.taking import take
from nas_attn.errors import DataError

Make = Callable[[Path], object]


def far_inside(root: Path) -> None:
    """As ImageNet's archive unfolds, with folders without images on the way."""
    folders_made.splits(root / "ILSVRC/Data/CLS-LOC", "train", "val")
    (root / "ILSVRC/Annotations").mkdir()


def inside_beside_others(root: Path) -> None:
    """The same, when the first folder is given."""
    far_inside(root.parent / "e")
    (root.parent / "e/ILSVRC").rename(root)


def packed(root: Path) -> None:
    root.mkdir()
    for name in ("cat", "dog"):
        (root / f"{name}.zip").write_bytes(b"PK")


def splits_in_classes(root: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for inside, split in enumerate(("train", "val")):
            folders_made.fill(root / name / split, 5, 1000 * number + 100 * inside)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (far_inside, "give the folder inside, folder:.*/ILSVRC/Data/CLS-LOC$"),
        (inside_beside_others, "1 class folder with images.*/Data/CLS-LOC$"),
        (splits_in_classes, "splits inside the classes.*'train/cat'"),
        (packed, "unpack 'cat.zip', 'dog.zip'"),
    ],
)
def test_what_is_laid_out_otherwise_is_named_with_the_way_out(
    tmp_path: Path, make: Make, said: str
) -> None:
    root = tmp_path / "d"
    make(root)
    folders_made.is_refused(root, said)


def test_a_class_whose_images_are_of_another_kind_says_which(tmp_path: Path) -> None:
    folders_made.classes(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.rename(path.with_suffix(".nef"))
    with pytest.raises(DataError, match=r"'cat' .*10 files .*\.nef"):
        take(str(tmp_path))

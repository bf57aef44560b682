"""Folders that are no classes, or hardly: what is said, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folders_made
import pytest
from folders_made import take

from nas_attn.errors import DataError

Make = Callable[[Path], object]


def far_inside(root: Path) -> None:
    """As ImageNet's archive unfolds, with folders without images on the way."""
    folders_made.splits(root / "ILSVRC/Data/CLS-LOC", "train", "val")
    (root / "ILSVRC/Annotations").mkdir()


def packed(root: Path) -> None:
    root.mkdir()
    for name in ("cat", "dog"):
        (root / f"{name}.zip").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (far_inside, "1 class folder .'ILSVRC'.*give the folder that holds them"),
        (packed, "0 class folders.*unpacked"),
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

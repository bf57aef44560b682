"""Folders that are no classes, or hardly: what is said, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folders_made
import pytest

from nas_attn.data import loading
from nas_attn.data.taking import take
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection

Make = Callable[[Path], object]


def of_ultralytics(root: Path) -> None:
    for split in ("train", "valid"):
        folders_made.fill(root / split / "images", 3, 0)
        (root / split / "labels").mkdir()
    (root / "data.yaml").write_text("names: [cat]\n")


def of_pascal(root: Path) -> None:
    folders_made.fill(root / "VOC2012/JPEGImages", 3, 0)
    folders_made.fill(root / "VOC2012/SegmentationClass", 3, 100)
    (root / "VOC2012/Annotations").mkdir()


def of_coco(root: Path) -> None:
    folders_made.fill(root / "train2017", 3, 0)
    folders_made.fill(root / "val2017", 3, 100)
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text("{}")


def of_roboflow(root: Path) -> None:
    for number, split in enumerate(("train", "valid")):
        folders_made.fill(root / split, 3, 100 * number)
        (root / split / "_annotations.coco.json").write_text("{}")


def far_inside(root: Path) -> None:
    """As ImageNet's archive unfolds, with folders without images on the way."""
    folders_made.splits(root / "ILSVRC/Data/CLS-LOC", "train", "val")
    (root / "ILSVRC/Annotations").mkdir()


def inside_beside_others(root: Path) -> None:
    """The same, when the first folder is given."""
    far_inside(root.parent / "e")
    (root.parent / "e/ILSVRC").rename(root)


def with_a_table(root: Path) -> None:
    """As Hugging Face's archives have it."""
    folders_made.fill(root / "train", 5, 0)
    (root / "train/metadata.jsonl").write_text("{}")


def packed(root: Path) -> None:
    root.mkdir()
    for name in ("cat", "dog"):
        (root / f"{name}.zip").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (of_ultralytics, "--task detection --data yolo:.*data.yaml"),
        (of_pascal, "VOC2012' .*Pascal VOC's form.* coco:FOLDER"),
        (of_coco, "COCO's form.* coco:.*/d "),
        (of_roboflow, "COCO's form.* coco:FOLDER"),
        (far_inside, "give the folder inside, folder:.*/ILSVRC/Data/CLS-LOC$"),
        (inside_beside_others, "images in one folder only.*/Data/CLS-LOC$"),
        (with_a_table, "5 images lie in it directly beside 'metadata.jsonl'"),
        (packed, "unpack 'cat.zip', 'dog.zip'"),
    ],
)
def test_what_is_laid_out_otherwise_is_named_with_the_way_out(
    tmp_path: Path, make: Make, said: str
) -> None:
    root = tmp_path / "d"
    make(root)
    folders_made.is_refused(root, said)


def splits_in_classes(root: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for inside, split in enumerate(("train", "val")):
            folders_made.fill(root / name / split, 5, 1000 * number + 100 * inside)


def spaces(root: Path) -> None:
    folders_made.classes(root)
    folders_made.fill(root / "cat ", 5, 900)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (splits_in_classes, "splits inside the classes.*'train/cat' and 'val/cat'"),
        (spaces, "only in spaces at their ends, 'cat' and 'cat '"),
    ],
)
def test_no_new_study_begins_on_folders_that_are_hardly_the_classes(
    tmp_path: Path, make: Make, said: str
) -> None:
    root = tmp_path / "d"
    make(root)
    with pytest.raises(DataError, match=said):
        take(str(root))
    # studies from before this was checked go on
    section = DataSection(name=f"folder:{root}", size=8)
    assert "'cat" in loading.load(section, device="cpu").contradiction


def test_a_class_whose_images_are_of_another_kind_says_which(tmp_path: Path) -> None:
    folders_made.classes(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.rename(path.with_suffix(".nef"))
    with pytest.raises(DataError, match=r"'cat' .*10 files .*\.nef"):
        take(str(tmp_path))

"""Folders as people have them: what is read of each, what is left out, and what is said."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import folders_made
import materials
import pytest
from folders_made import take
from PIL import Image

from nas_attn.data import copies, loading
from nas_attn.data.folder import LONE_MASKS, LOOSE
from nas_attn.data.looks import of
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, GroupsSection, SplitsSection
from nas_attn.recipe.tables import Kind
from nas_attn.recipe.tasks import TASKS

Make = Callable[[Path], object]
MASKED_FOLDS = SplitsSection(train=["fold_0", "fold_2"], validation=["fold_1"])


@dataclass(frozen=True)
class Row:
    """A kind of folder, and what is to be read of it and said."""

    make: Make
    # split, or `all` -> readable images
    counts: dict[str, int]
    words: Sequence[str] = ()
    labels: Kind = "classes"
    # of the recipe: data.name, and data.splits
    source: str = "folder:{}"
    splits: SplitsSection | None = None

    def section(self, root: Path) -> DataSection:
        return DataSection(
            name=self.source.format(root),
            size=32 if self.labels == "boxes" else 8,
            broken_images="skip",
            splits=self.splits,
        )


TASK_OF = {"classes": "classification", "masks": "segmentation", "boxes": "detection"}
# of the images of a folder that is not divided
LEARNT = 0.8

ROWS = {
    "a folder for each class": Row(
        folders_made.classes, {"all": 20}, ["2 classes, 20 images", "classes: 'cat', 'dog'"]
    ),
    "splits by other names": Row(
        lambda root: folders_made.splits(root, "Training", "TEST"), {"train": 10, "test": 10}
    ),
    "a split called dev": Row(
        lambda root: folders_made.splits(root, "train", "dev"), {"train": 10, "validation": 10}
    ),
    "files of other programs": Row(folders_made.other_programs, {"all": 20}),
    "links": Row(folders_made.links, {"all": 20}, ["4 files behind a broken link"]),
    "other files": Row(
        folders_made.others, {"all": 20}, ["2 files outside the class folders", ".txt"]
    ),
    "a class called train": Row(
        lambda root: folders_made.fill(root / "train", 10, 90) or folders_made.classes(root),
        {"all": 30},
        ["3 classes"],
    ),
    "truncated files": Row(folders_made.truncated, {"all": 20}, ["2 unreadable", "22 images"]),
    "files that are no images": Row(
        folders_made.no_images,
        {"all": 20},
        [
            "5 unreadable",
            "2 files, a pointer of Git LFS, not the image: run git lfs pull: 'dog/a.png'",
            "1 file, an empty file: 'cat/empty.jpg'",
            "web page, not an image: 'cat/page.jpg'",
            "only with pillow-heif: 'cat/telephone.jpg'",
        ],
    ),
    "images that are transparent all over": Row(
        folders_made.see_through,
        {"all": 23},
        ["1 image with copies of the same pixels, which may come into two splits, such as"],
    ),
    "values without a known white": Row(folders_made.floats, {"all": 20}, ["1 unreadable"]),
    "equal splits": Row(
        folders_made.leaking,
        {"train": 10, "validation": 10, "test": 10},
        ["10 images", "two splits"],
    ),
    "an image in two classes": Row(
        folders_made.contradicting,
        {"all": 21},
        ["cat/0000.png' and 'dog/as-bmp.bmp", "two classes"],
    ),
    "a small class": Row(
        folders_made.unequal, {"all": 104}, ["'dog' has 4 images", "balanced_accuracy"]
    ),
    "a test that lacks a class": Row(
        folders_made.lacking,
        {"train": 10, "validation": 10, "test": 5},
        ["test has no image of class 'dog'"],
    ),
    "names that are not UTF-8": Row(folders_made.not_utf8, {"all": 20}),
    "a class whose name is not UTF-8": Row(
        folders_made.class_not_utf8, {"all": 20}, [r"classes: 'dog', 'k\xe4tze'"]
    ),
    "images that were scaled and saved again": Row(
        folders_made.scaled_copies,
        {"train": 10, "validation": 13},
        ["3 images nearly equal", "'train/cat/0.png' and 'val/cat/small0.jpg'"],
    ),
    "copies in the images that validation is drawn from": Row(
        folders_made.copies_to_learn_from,
        {"train": 13, "test": 10},
        [
            "may come into two splits, such as 'train/cat/0000.png' and 'train/cat/again.png'",
            "may come into two splits, such as 'train/dog/like0.png' and 'train/dog/like1.png'",
        ],
    ),
    "patients in two splits": Row(
        folders_made.patients,
        {"train": 48, "validation": 36},
        [
            "4 names shared by images that are in two splits",
            "person6_cat_0.png",
            "'person6_cat' is one",
        ],
    ),
    "films": Row(
        folders_made.films,
        {"all": 40},
        ["5 names shared by images", r"data.groups = { pattern = '^(.*\d.*)[-_. (]+"],
    ),
    "copies of Roboflow": Row(
        folders_made.roboflow_copies,
        {"all": 36},
        ["6 names shared", r"data.groups = { pattern = '^(.+)\.rf\.' }"],
    ),
    "a class that only the test has": Row(
        folders_made.foreign_class,
        {"train": 10, "validation": 10, "test": 10},
        ["test has the class 'owl', which train has not", "final test will be refused"],
    ),
    "few validation images": Row(
        folders_made.small_validation,
        {"train": 10, "validation": 8},
        ["class 'cat' has 3 validation images", "balanced_accuracy"],
    ),
    "test images without labels": Row(
        folders_made.of_a_contest,
        {"train": 10, "test": 0},
        ["4 files outside", "test has no image of class 'cat', 'dog': the final test"],
    ),
    "splits in the names of folders, which data.splits names": Row(
        folders_made.splits_in_names,
        {"train": 20, "test": 10},
        [f"3 files {LOOSE}"],
        splits=SplitsSection(train=["seg_train/seg_train"], test=["seg_test/seg_test"]),
    ),
    "folds": Row(
        folders_made.folds,
        {"train": 15, "validation": 10, "test": 10},
        [
            "train is fold_2, fold_10; validation is fold_0; test is fold_1",
            f"10 files {LOOSE}",
        ],
        splits=folders_made.FOLDS,
    ),
    "folds without a test": Row(
        folders_made.folds,
        {"train": 20},
        [f"25 files {LOOSE}"],
        splits=SplitsSection(train=["fold_0", "fold_1"]),
    ),
    "masks": Row(folders_made.with_masks, {"all": 10}, labels="masks"),
    "masks without an image": Row(
        folders_made.lone_masks, {"all": 7}, [f"3 files {LONE_MASKS}"], labels="masks"
    ),
    "masks with 16 bits": Row(
        folders_made.deep_masks,
        {"all": 9},
        ["1 unreadable", "the value 24002: classes are 0 to 1, and 255 none: 'images/3.png'"],
        labels="masks",
    ),
    "a mask in colours": Row(
        folders_made.one_wrong_mask, {"all": 9}, ["1 unreadable", "its mask is RGB"], labels="masks"
    ),
    "masks in splits, the same images in both": Row(
        lambda root: folders_made.masks_in(root, "train", "val"),
        {"train": 10, "validation": 10},
        ["10 images with copies of the same pixels in two splits"],
        labels="masks",
    ),
    "masks in folds": Row(
        lambda root: folders_made.masks_in(root, "fold_0", "fold_1", "fold_2"),
        {"train": 20, "validation": 10},
        labels="masks",
        splits=MASKED_FOLDS,
    ),
    "boxes of COCO, two images in both splits": Row(
        folders_made.copied_boxes,
        {"train": 6, "validation": 3},
        ["2 images with copies of the same pixels in two splits"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of COCO, one file for two splits": Row(
        folders_made.one_file_of_boxes_for_two_splits,
        {"train": 6, "validation": 6},
        ["6 files in two splits at once, such as 'images/0.png': scores"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of COCO as other systems write them": Row(
        folders_made.boxes_from_windows,
        {"train": 6},
        ["2 images without a box", "1 file that no annotations name, 'train/unnamed.png'"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of YOLO as archives have them": Row(
        folders_made.as_downloaded,
        {"train": 8, "validation": 8},
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO, listed in a file": Row(
        folders_made.listed_with_spaces,
        {"train": 8, "validation": 8, "test": 8},
        ["1 file that a file lists in vain, 'images/my own/gone.png'"],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO": Row(
        materials.discs,
        {"train": 8, "validation": 8, "test": 8},
        [
            "1 class, 24 images with boxes (train: 8, validation: 8, test: 8)",
            "boxes: 26 pixels in the median, 13.1 at the network's input of 32",
            "8 files in two splits at once, such as 'images/val/01.png': scores",
        ],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO, one folder to learn from and to score on": Row(
        folders_made.one_folder_for_two_splits,
        {"train": 8, "validation": 8, "test": 8},
        ["8 files in two splits at once, such as 'images/train/00.png': scores"],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_what_is_read_and_what_is_said(tmp_path: Path, row: Row) -> None:
    if row.source.startswith("yolo"):
        pytest.importorskip("yaml", reason="PyYAML, which ultralytics brings, is not installed")
    root = tmp_path / "d"
    row.make(root)
    section = row.section(root)
    inventory = of(section, row.labels)
    assert inventory is not None
    assert {split: sum(each.values()) for split, each in inventory.counts.items()} == row.counts
    for word in row.words:
        assert word in "\n".join(inventory.described())
    "\n".join(inventory.described()).encode()  # it can be printed
    assert of(section, row.labels) == inventory  # from the cache
    # ultralytics reads its images itself
    if inventory.unreadable or row.source.startswith("yolo"):
        return
    dataset = loading.load(section, device="cpu", task=TASKS[TASK_OF[row.labels]])
    learnt = row.counts.get("train", LEARNT * row.counts.get("all", 0))
    own = learnt + row.counts.get("validation", 0)
    assert len(dataset.train) + len(dataset.validation) == round(own)


@pytest.mark.parametrize(("more", "alike"), [(2, True), (20, False)])
def test_few_validation_images_of_equal_classes_hide_no_class(
    tmp_path: Path, more: int, alike: bool
) -> None:
    folders_made.classes(tmp_path)
    folders_made.fill(tmp_path / "dog", more, 900)
    (few,) = folders_made.of_kind(take(str(tmp_path)), "few_of_class")
    assert ("balanced_accuracy" in few) is not alike


def test_images_that_only_look_alike_are_no_near_copies(tmp_path: Path) -> None:
    folders_made.classes(tmp_path / "noise")
    (tmp_path / "flat/cat").mkdir(parents=True)
    (tmp_path / "flat/dog").mkdir()
    for number in range(5):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / f"flat/cat/{number}.png")
        Image.new("RGB", (9, 9), (0, 0, 90 + number)).save(tmp_path / f"flat/dog/{number}.png")
    for folder in ("noise", "flat"):
        assert not folders_made.of_kind(take(str(tmp_path / folder)), "near_copies")


def test_names_that_number_the_images_of_a_class_share_nothing(tmp_path: Path) -> None:
    folders_made.numbered(tmp_path / "d")
    assert not folders_made.of_kind(take(str(tmp_path / "d")), "shared_names")


@pytest.mark.parametrize("make", [folders_made.films, folders_made.roboflow_copies])
def test_the_groups_that_are_offered_keep_a_name_together(tmp_path: Path, make: Make) -> None:
    root = tmp_path / "d"
    make(root)
    shared = folders_made.of_kind(take(str(root)), "shared_names")[0]
    groups = GroupsSection(pattern=shared.split("'")[-2])
    dataset = loading.load(DataSection(name=f"folder:{root}", size=8, groups=groups), device="cpu")
    names = {split: dataset.manifest.splits[split].names for split in dataset.manifest.splits}
    assert groups.pattern is not None
    origins = [
        {re.findall(groups.pattern, PurePosixPath(name).name)[0] for name in each}
        for each in names.values()
        if each is not None
    ]
    assert len(origins) == 2
    assert not origins[0] & origins[1]
    assert not folders_made.of_kind(take(str(root), groups=groups), "shared_names")


def test_a_folder_without_a_readable_image_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "d"
    folders_made.splits(root, "train", "val")
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"20 images .*empty file"):
        take(str(root))


def test_copies_that_groups_keep_together_are_no_caution(tmp_path: Path) -> None:
    folders_made.classes(tmp_path / "d")
    shutil.copy(tmp_path / "d/cat/0000.png", tmp_path / "d/cat/again.png")
    assert folders_made.of_kind(take(str(tmp_path / "d")), "copies")
    assert not folders_made.of_kind(
        take(str(tmp_path / "d"), groups=GroupsSection(pattern="(.*)")), "copies"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda root: folders_made.splits(root, "train", "val", "valid"),
            "several folders for validation",
        ),
        (
            lambda root: folders_made.splits(root, "fold_0", "fold_1"),
            r"fold_0/., .fold_1/.: splits, or classes\?.* say with data.splits",
        ),
        (
            lambda root: folders_made.splits(root, "train") or folders_made.classes(root),
            "splits, or classes",
        ),
        (
            folders_made.splits_in_names,
            "seg_test/.*If splits, say with data.splits",
        ),
        (
            lambda root: folders_made.classes(root / "photos"),
            "1 class folder .'photos'.*give the folder that holds them",
        ),
        (
            lambda root: folders_made.fill(root, 5, 0) or (root / "l.csv").write_text("x"),
            "a CSV file .* --task classification, .* regression",
        ),
        (
            lambda root: (
                folders_made.fill(root / "images", 5, 0) or folders_made.fill(root / "masks", 5, 0)
            ),
            "segmentation",
        ),
    ],
)
def test_what_can_be_read_in_two_ways_is_a_question(tmp_path: Path, make: Make, said: str) -> None:
    root = tmp_path / "d"
    make(root)
    folders_made.is_refused(root, said)


def test_a_validation_split_without_class_folders_is_said_before_it_is_refused(
    tmp_path: Path,
) -> None:
    root = tmp_path / "d"
    folders_made.without_class_folders(root)
    said = "\n".join(take(str(root)).described())
    assert "4 files outside" in said
    assert "class 'cat', 'dog'" in said
    with pytest.raises(DataError, match="has no image"):
        loading.load(DataSection(name=f"folder:{root}", size=8), device="cpu")


def test_a_class_written_in_another_unicode_form_is_named(tmp_path: Path) -> None:
    folders_made.two_forms(tmp_path / "d")
    with pytest.raises(DataError, match="another Unicode form"):
        loading.load(DataSection(name=f"folder:{tmp_path / 'd'}", size=8), device="cpu")


def test_near_copies_that_are_not_sought_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "MOST_IMAGES_COMPARED", 10)
    folders_made.classes(tmp_path / "d")
    (said,) = folders_made.of_kind(take(str(tmp_path / "d")), "near_copies")
    assert "not among these 20" in said


def test_a_folder_for_each_film_groups_its_images(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(8):
        folders_made.fill(root / ("cat", "dog")[number % 2] / f"film{number}", 5, 100 * number)
    (said,) = folders_made.of_kind(take(str(root)), "shared_names")
    assert "data.groups = { pattern = '^([^/]+)/' }" in said
    groups = GroupsSection(pattern="^([^/]+)/")
    dataset = loading.load(DataSection(name=f"folder:{root}", size=8, groups=groups), device="cpu")
    names = [dataset.manifest.splits[split].names for split in ("train", "validation")]
    films = [{name.split("/")[1] for name in each} for each in names if each is not None]
    assert not films[0] & films[1]

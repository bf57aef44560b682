"""Folders as people have them: what is read of each, what is left out, and what is said."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import materials
import numpy as np
import pytest
from PIL import Image

from nas_attn import data
from nas_attn.data.inventory import LONE_MASKS, UNNAMED, of, take
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection, GroupsSection, SplitsSection
from nas_attn.tables import Kind
from nas_attn.tasks import TASKS

Make = Callable[[Path], object]


def picture(seed: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 255, (20, 20, 3)).astype("uint8")
    )


def fill(folder: Path, count: int, first: int, ending: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number).save(folder / f"{number:04}.{ending}")


def classes(root: Path, count: int = 10, first: int = 0) -> None:
    fill(root / "cat", count, first)
    fill(root / "dog", count, first + 500)


def splits(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        classes(root / name, 5, 1000 * number)


def other_programs(root: Path) -> None:
    """What systems and programs leave behind, at any depth."""
    classes(root)
    for inside in ("__MACOSX/cat", "cat/.ipynb_checkpoints", "dog/@eaDir/x", ".git/cat"):
        fill(root / inside, 3, 7000)
    (root / "cat/Thumbs.db").write_bytes(b"x")
    (root / "cat/._0000.png").write_bytes(b"x")


def links(root: Path) -> None:
    classes(root)
    for number in range(4):
        os.symlink("../nowhere", root / "cat" / f"link{number}.jpg")
    os.symlink("..", root / "dog/around")  # a loop


def others(root: Path) -> None:
    classes(root)
    fill(root, 2, 8000)
    (root / "dog/notes.txt").write_text("x")


def truncated(root: Path) -> None:
    classes(root)
    fill(root / "dog", 2, 9000, "jpg")
    for path in (root / "dog").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:300])


def floats(root: Path) -> None:
    classes(root)
    Image.fromarray(np.linspace(0, 1, 400, dtype="float32").reshape(20, 20)).save(
        root / "cat/float.tif"
    )


def twelve_bits(root: Path) -> None:
    """In files of 16, whose white is 4,095."""
    for number, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        random = np.random.default_rng(number)
        for image in range(10):
            values = random.integers(0, 4096, (20, 20)).astype(np.uint16)
            values[0, 0] = 4095
            Image.fromarray(values).save(root / name / f"{image}.png")


def leaking(root: Path) -> None:
    splits(root, "train", "val")
    shutil.copytree(root / "val", root / "test")


def contradicting(root: Path) -> None:
    classes(root)
    picture(0).save(root / "dog/as-bmp.bmp")  # the same pixels in another file


def unequal(root: Path) -> None:
    fill(root / "cat", 100, 0)
    fill(root / "dog", 4, 500)


def lacking(root: Path) -> None:
    splits(root, "train", "val", "test")
    shutil.rmtree(root / "test/dog")


def smooth(seed: int) -> Image.Image:
    """A picture with shapes, as photographs have them: noise has none that scaling keeps."""
    return picture(seed).resize((6, 6)).resize((80, 80), Image.Resampling.BICUBIC)


def scaled_copies(root: Path) -> None:
    """The first three images of train are in val, smaller and as JPEG."""
    for split, first in (("train", 0), ("val", 100)):
        for name, more in (("cat", 0), ("dog", 500)):
            (root / split / name).mkdir(parents=True)
            for number in range(first + more, first + more + 5):
                smooth(number).save(root / split / name / f"{number}.png")
    for number in range(3):
        small = smooth(number).resize((50, 50), Image.Resampling.BICUBIC)
        small.save(root / "val/cat" / f"small{number}.jpg", quality=85)


def foreign_class(root: Path) -> None:
    splits(root, "train", "val", "test")
    fill(root / "test/owl", 3, 7000)


def small_validation(root: Path) -> None:
    splits(root, "train", "val")
    for number in range(1000, 1002):
        (root / f"val/cat/{number:04}.png").unlink()


def not_utf8(root: Path) -> None:
    classes(root)
    os.rename(root / "cat/0001.png", os.fsencode(root / "cat") + b"/caf\xe9.png")


def with_masks(root: Path, *, mode: str = "L", size: tuple[int, int] = (20, 30)) -> None:
    """Images of 30x20 in their files, to be shown as 20x30; masks of another mode or size."""
    (root / "masks").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "classes.txt").write_text("ground\nroad\n", "utf-8-sig")
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(10):
        image = picture(number).resize((30, 20))
        image.save(root / f"images/{number}.png", exif=turned)
        mask = np.zeros((size[1], size[0]), np.uint8)
        mask[:, : size[0] // 2] = 1
        Image.fromarray(mask).convert(mode).save(root / f"masks/{number}.png")


def lone_masks(root: Path) -> None:
    with_masks(root)
    for number in range(3):
        (root / f"images/{number}.png").unlink()


def one_wrong_mask(root: Path) -> None:
    with_masks(root)
    Image.new("RGB", (20, 30)).save(root / "masks/3.png")


def white_masks(root: Path) -> None:
    """Of two classes, black and white."""
    with_masks(root)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * np.uint8(255)).save(path)


def masks_in(root: Path, *folders: str) -> None:
    for folder in folders:
        with_masks(root / folder)
    shutil.copy(root / folders[0] / "classes.txt", root)


def copied_boxes(root: Path) -> None:
    materials.coco(root, train=6, val=3)
    for number in range(2):
        shutil.copy(root / f"train/{number}.png", root / f"val/{number}.png")


def variants(root: Path) -> None:
    """The same classes in colour and in grey, as in PlantVillage."""
    for name in ("colour", "grey"):
        classes(root / name, first=1000 * (name == "grey"))


def class_in_a_class(root: Path) -> None:
    classes(root)
    fill(root / "cat/dog", 3, 7000)


def stacks(root: Path) -> None:
    """Of microscopes and films."""
    classes(root)
    for number, name in enumerate(("cat/stack.tif", "dog/film.gif")):
        pages = [picture(9000 + 10 * number + page) for page in range(4)]
        pages[0].save(root / name, save_all=True, append_images=pages[1:])


def without_class_folders(root: Path) -> None:
    """As ImageNet's validation images are in its archive."""
    splits(root, "train")
    fill(root / "val", 4, 3000)


def of_a_contest(root: Path) -> None:
    """Test images without labels."""
    splits(root, "train")
    fill(root / "test", 4, 3000)


def splits_in_names(root: Path) -> None:
    """As the archives of Intel's images unfold."""
    classes(root / "seg_train/seg_train")
    classes(root / "seg_test/seg_test", 5, 3000)
    fill(root / "seg_pred/seg_pred", 3, 7000)


def edit_yaml(root: Path, old: str, new: str) -> None:
    described = root / "data.yaml"
    described.write_text(described.read_text().replace(old, new))


def as_downloaded(root: Path) -> None:
    """As archives of Roboflow are: the paths of the YAML begin with two dots too many."""
    materials.discs(root)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split).mkdir(exist_ok=True)
            (root / kind / split).rename(root / split / kind)
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../val/images\nnc: 1\nnames: [disc]\n"
    )


def listed_with_spaces(root: Path) -> None:
    """A file lists the training images, with one that is not there."""
    materials.discs(root)
    for kind in ("images", "labels"):
        (root / kind / "train").rename(root / kind / "my own")
    names = sorted(path.name for path in (root / "images/my own").iterdir())
    lines = [f"./images/my own/{name}" for name in [*names, "gone.png"]]
    (root / "train.txt").write_text("\ufeff" + "\n".join(lines) + "\n", "utf-8")
    edit_yaml(root, "train: images/train", "train: train.txt")


def labels_elsewhere(root: Path) -> None:
    """Two beside their images, and two that other systems wrote."""
    materials.discs(root)
    labels = sorted((root / "labels/train").iterdir())
    for path in labels[:2]:
        path.rename(root / "images/train" / path.name)
    for path in labels[2:4]:
        path.rename(path.with_suffix(".TXT"))
    picture(1).save(root / "images/train/moving.gif")


def boxes_from_windows(root: Path) -> None:
    """Backslashes, a byte-order mark, images without a box, and one that no file names."""
    materials.coco(root, train=6)
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = f"train\\{image['file_name']}"
    content["annotations"] = content["annotations"][:4]
    path.write_text(json.dumps(content), "utf-8-sig")
    picture(1).save(root / "train/unnamed.png")


def one_folder_for_two_splits(root: Path) -> None:
    materials.discs(root)
    edit_yaml(root, "val: images/val", "val: images/train")


def one_file_of_boxes_for_two_splits(root: Path) -> None:
    materials.coco(root, train=6)
    annotations = root / "annotations"
    (root / "train").rename(root / "images")
    shutil.copy(annotations / "instances_train.json", annotations / "instances_val.json")


def folds(root: Path) -> None:
    """Five folds; the last one is in no split of FOLDS, and one of train lacks a class."""
    splits(root, "fold_0", "fold_1", "fold_2", "fold_10", "fold_11")
    shutil.rmtree(root / "fold_10/dog")


FOLDS = SplitsSection(train=["fold_2", "fold_10"], validation=["fold_0"], test=["fold_1"])
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
    "a folder for each class": Row(classes, {"all": 20}),
    "splits by other names": Row(
        lambda root: splits(root, "Training", "TEST"), {"train": 10, "test": 10}
    ),
    "a split called dev": Row(
        lambda root: splits(root, "train", "dev"), {"train": 10, "validation": 10}
    ),
    "files of other programs": Row(other_programs, {"all": 20}),
    "links": Row(links, {"all": 20}, ["4 files behind a broken link"]),
    "other files": Row(others, {"all": 20}, ["2 files outside the class folders", ".txt"]),
    "a class called train": Row(
        lambda root: fill(root / "train", 10, 90) or classes(root), {"all": 30}, ["3 classes"]
    ),
    "truncated files": Row(truncated, {"all": 20}, ["2 unreadable", "22 images"]),
    "values without a known white": Row(floats, {"all": 20}, ["1 unreadable", "no known white"]),
    "twelve bits": Row(twelve_bits, {"all": 20}, ["bits: 12 of 16 in use, so 4,095 is white"]),
    "equal splits": Row(
        leaking, {"train": 10, "validation": 10, "test": 10}, ["10 images", "two splits"]
    ),
    "an image in two classes": Row(
        contradicting, {"all": 21}, ["cat/0000.png' and 'dog/as-bmp.bmp", "two classes"]
    ),
    "a small class": Row(unequal, {"all": 104}, ["'dog' has 4 images", "balanced_accuracy"]),
    "a test that lacks a class": Row(
        lacking,
        {"train": 10, "validation": 10, "test": 5},
        ["test has no image of class 'dog'"],
    ),
    "names that are not UTF-8": Row(not_utf8, {"all": 20}),
    "images that were scaled and saved again": Row(
        scaled_copies,
        {"train": 10, "validation": 13},
        ["3 images nearly equal", "'train/cat/0.png' and 'val/cat/small0.jpg'"],
    ),
    "a class that only the test has": Row(
        foreign_class,
        {"train": 10, "validation": 10, "test": 10},
        ["test has the class 'owl', which train has not", "final test will be refused"],
    ),
    "few validation images": Row(
        small_validation,
        {"train": 10, "validation": 8},
        ["class 'cat' has 3 validation images", "balanced_accuracy"],
    ),
    "classes below folders of variants": Row(
        variants, {"all": 40}, ["'colour', 'grey' have the same folders in them, 'cat', 'dog'"]
    ),
    "a class in another one": Row(
        class_in_a_class, {"all": 23}, ["images in 'cat/dog' count as 'cat'"]
    ),
    "files with several images": Row(
        stacks, {"all": 22}, ["2 files with several pages", "'cat/stack.tif', 'dog/film.gif'"]
    ),
    "test images without labels": Row(
        of_a_contest,
        {"train": 10, "test": 0},
        ["4 files outside", "test has no image of class 'cat', 'dog': the final test"],
    ),
    "splits in the names of folders, which data.splits names": Row(
        splits_in_names,
        {"train": 20, "test": 10},
        [f"3 files {UNNAMED}"],
        splits=SplitsSection(train=["seg_train/seg_train"], test=["seg_test/seg_test"]),
    ),
    "folds": Row(
        folds,
        {"train": 15, "validation": 10, "test": 10},
        [
            "train is fold_2, fold_10; validation is fold_0; test is fold_1",
            f"10 files {UNNAMED}",
        ],
        splits=FOLDS,
    ),
    "folds without a test": Row(
        folds,
        {"train": 20},
        [f"25 files {UNNAMED}"],
        splits=SplitsSection(train=["fold_0", "fold_1"]),
    ),
    "masks": Row(with_masks, {"all": 10}, labels="masks"),
    "masks without an image": Row(
        lone_masks, {"all": 7}, [f"3 files {LONE_MASKS}"], labels="masks"
    ),
    "a mask in colours": Row(
        one_wrong_mask, {"all": 9}, ["1 unreadable", "its mask is RGB"], labels="masks"
    ),
    "masks in splits, the same images in both": Row(
        lambda root: masks_in(root, "train", "val"),
        {"train": 10, "validation": 10},
        ["10 images with copies of the same pixels in two splits"],
        labels="masks",
    ),
    "masks in folds": Row(
        lambda root: masks_in(root, "fold_0", "fold_1", "fold_2"),
        {"train": 20, "validation": 10},
        labels="masks",
        splits=MASKED_FOLDS,
    ),
    "boxes of COCO, two images in both splits": Row(
        copied_boxes,
        {"train": 6, "validation": 3},
        ["2 images with copies of the same pixels in two splits"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of COCO, one file for two splits": Row(
        one_file_of_boxes_for_two_splits,
        {"train": 6, "validation": 6},
        ["6 files in two splits at once, such as 'images/0.png' in train and validation"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of COCO as other systems write them": Row(
        boxes_from_windows,
        {"train": 6},
        ["2 images of train without a box", "1 file that no annotations name, 'train/unnamed.png'"],
        labels="boxes",
        source="coco:{}",
    ),
    "boxes of YOLO as archives have them": Row(
        as_downloaded,
        {"train": 8, "validation": 8},
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO, listed in a file": Row(
        listed_with_spaces,
        {"train": 8, "validation": 8, "test": 8},
        ["1 unreadable", "'images/my own/gone.png'"],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO, labels at other places": Row(
        labels_elsewhere,
        {"train": 8, "validation": 8, "test": 8},
        [
            "4 files that may be labels of train not read ('images/train/00.txt'",
            "4 images of train without a box",
            "1 file that ultralytics does not read, 'images/train/moving.gif'",
        ],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO": Row(
        materials.discs,
        {"train": 8, "validation": 8, "test": 8},
        [
            "1 class, train: 8 images, validation: 8 images, test: 8 images with boxes",
            "8 files in two splits at once, such as 'images/val/01.png' in validation and test",
        ],
        labels="boxes",
        source="yolo:{}/data.yaml",
    ),
    "boxes of YOLO, one folder to learn from and to score on": Row(
        one_folder_for_two_splits,
        {"train": 8, "validation": 8, "test": 8},
        ["8 files in two splits at once, such as 'images/train/00.png' in train and validation"],
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
        assert word in inventory.text()
    inventory.text().encode()  # it can be printed
    assert of(section, row.labels) == inventory  # from the cache
    # ultralytics reads its images itself
    if inventory.unreadable or row.source.startswith("yolo"):
        return
    dataset = data.load(section, device="cpu", task=TASKS[TASK_OF[row.labels]])
    learnt = row.counts.get("train", LEARNT * row.counts.get("all", 0))
    own = learnt + row.counts.get("validation", 0)
    assert len(dataset.train) + len(dataset.validation) == round(own)


def test_images_that_only_look_alike_are_no_near_copies(tmp_path: Path) -> None:
    classes(tmp_path / "noise")
    (tmp_path / "flat/cat").mkdir(parents=True)
    (tmp_path / "flat/dog").mkdir()
    for number in range(5):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / f"flat/cat/{number}.png")
        Image.new("RGB", (9, 9), (0, 0, 90 + number)).save(tmp_path / f"flat/dog/{number}.png")
    for folder in ("noise", "flat"):
        assert "nearly" not in take(str(tmp_path / folder)).text()


def test_copies_that_groups_keep_together_are_no_caution(tmp_path: Path) -> None:
    classes(tmp_path / "d")
    shutil.copy(tmp_path / "d/cat/0000.png", tmp_path / "d/cat/again.png")
    assert "copies" in take(str(tmp_path / "d")).text()
    assert "copies" not in take(str(tmp_path / "d"), grouped=True).text()


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """The folder of FOLDS."""
    folds(tmp_path / "d")
    return tmp_path / "d"


def test_images_of_folds_are_named_with_their_fold(divided: Path) -> None:
    section = DataSection(name=f"folder:{divided}", size=8, splits=FOLDS)
    dataset = data.load(section, device="cpu")
    test = dataset.read_test("a test of the folds")
    assert (len(dataset.train), len(dataset.validation), len(test)) == (15, 10, 10)
    listing = dataset.manifest.splits["train"]
    assert listing.names is not None
    assert {name.partition("/")[0] for name in listing.names} == {"fold_2", "fold_10"}
    picture(77).save(divided / "fold_10/cat/new.png")
    changes = data.load(section, device="cpu").manifest.changes(dataset.manifest)
    assert changes.added == ["fold_10/cat/new.png"]


def test_without_folds_for_them_validation_is_split_off_and_there_is_no_test(divided: Path) -> None:
    splits_given = SplitsSection(train=["fold_0", "fold_1", "fold_2"])
    dataset = data.load(
        DataSection(name=f"folder:{divided}", size=8, splits=splits_given), device="cpu"
    )
    assert (len(dataset.train), len(dataset.validation)) == (24, 6)
    with pytest.raises(DataError, match=r"data\.splits\.test"):
        dataset.read_test("there is none")


def test_groups_may_be_in_two_folds_of_one_split_only(divided: Path) -> None:
    groups = GroupsSection(pattern=r"^(...)")
    section = DataSection(name=f"folder:{divided}", size=8, splits=FOLDS, groups=groups)
    picture(91).save(divided / "fold_2/cat/xyz1.png")
    picture(92).save(divided / "fold_10/cat/xyz2.png")
    # those of each fold are numbered on from another thousand
    for fold in ("fold_0", "fold_1", "fold_2"):
        for path in (divided / fold / "dog").iterdir():
            path.rename(path.with_name(f"{fold[-1]}d{path.name}"))
        for path in (divided / fold / "cat").glob("0*.png"):
            path.rename(path.with_name(f"{fold[-1]}c{path.name}"))
    assert len(data.load(section, device="cpu").train) == 17
    picture(93).save(divided / "fold_0/cat/xyz3.png")
    with pytest.raises(DataError, match=r"group 'xyz' .*'fold_(0|2|10)/.*' and 'fold_"):
        data.load(section, device="cpu")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": ["fold_7"]}, "'fold_7', which is no folder"),
        ({"train": ["fold_0"], "validation": ["fold_10"]}, "fold_10/dog' has no image"),
    ],
)
def test_splits_that_are_not_there_are_named(
    divided: Path, given: dict[str, list[str]], said: str
) -> None:
    section = DataSection(
        name=f"folder:{divided}", size=8, splits=SplitsSection.model_validate(given)
    )
    with pytest.raises(DataError, match=said):
        data.load(section, device="cpu")


def two_forms(root: Path) -> None:
    for split, form in (("train", "NFC"), ("val", "NFD")):
        fill(root / split / unicodedata.normalize(form, "é"), 4, 0)  # type: ignore[arg-type]
        fill(root / split / "dog", 4, 90)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: splits(root, "train", "val", "valid"), "several folders for validation"),
        (lambda root: splits(root, "fold_0", "fold_1"), 'data.splits, like .*"fold_1"'),
        (lambda root: splits(root, "train") or classes(root), "splits, or classes"),
        (splits_in_names, 'seg_test/.* are they splits.* train = ."seg_train/seg_train".'),
        (lambda root: classes(root / "photos"), "give the folder inside, folder:.*photos"),
        (lambda root: fill(root, 5, 0) or (root / "l.csv").write_text("x"), "5 images .*'l.csv'"),
        (lambda root: fill(root / "images", 5, 0) or fill(root / "masks", 5, 0), "segmentation"),
        (lambda root: fill(root / "Cat", 5, 0) or classes(root), "Unicode form or case"),
    ],
)
def test_what_can_be_read_in_two_ways_is_a_question(tmp_path: Path, make: Make, said: str) -> None:
    root = tmp_path / "d"
    make(root)
    with pytest.raises(DataError, match=said):
        take(str(root))
    with pytest.raises(DataError, match=said):
        data.load(DataSection(name=f"folder:{root}", size=8), device="cpu")


def test_a_validation_split_without_class_folders_is_said_before_it_is_refused(
    tmp_path: Path,
) -> None:
    root = tmp_path / "d"
    without_class_folders(root)
    said = take(str(root)).text()
    assert "4 files outside the class folders" in said
    assert "validation has no image of class 'cat', 'dog': the search will be refused" in said
    with pytest.raises(DataError, match="has no image"):
        data.load(DataSection(name=f"folder:{root}", size=8), device="cpu")


@pytest.mark.parametrize("outside", ["../other", "/tmp", "fold_0/../fold_1", ".hidden"])
def test_splits_name_folders_in_the_folder(divided: Path, outside: str) -> None:
    (divided / ".hidden").mkdir()
    (divided.parent / "other").mkdir()
    with pytest.raises(DataError, match="no folder in"):
        take(str(divided), splits=SplitsSection(train=[outside]))


def test_a_class_written_in_another_unicode_form_is_named(tmp_path: Path) -> None:
    two_forms(tmp_path / "d")
    with pytest.raises(DataError, match="another Unicode form"):
        data.load(DataSection(name=f"folder:{tmp_path / 'd'}", size=8), device="cpu")


def masked(root: Path) -> data.Dataset:
    section = DataSection(name=f"folder:{root}", size=20, broken_images="skip")
    return data.load(section, device="cpu", task=TASKS["segmentation"])


def test_masks_turn_with_their_images(tmp_path: Path) -> None:
    with_masks(tmp_path / "as-shown", size=(20, 30))
    with_masks(tmp_path / "as-stored", size=(30, 20))
    _, shown = next(masked(tmp_path / "as-shown").train.stored(1))
    _, stored = next(masked(tmp_path / "as-stored").train.stored(1))
    assert shown[0, :, :9].all()  # the left half
    assert stored[0, :9].all()  # the left half of the file is the upper half when it is turned
    assert not stored[0, 11:].any()


def test_a_class_that_no_mask_has_is_said_before_it_is_refused(tmp_path: Path) -> None:
    white_masks(tmp_path / "d")
    section = DataSection(name=f"folder:{tmp_path / 'd'}", size=20)
    inventory = of(section, "masks")
    assert inventory is not None
    assert "no mask has a pixel of class 'road'; the value 255" in inventory.text()
    with pytest.raises(DataError, match="no pixel of class 'road'"):
        masked(tmp_path / "d")


def test_what_lies_in_the_place_of_a_mask_is_named(tmp_path: Path) -> None:
    with_masks(tmp_path / "d")
    for path in (tmp_path / "d/masks").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(DataError, match=r"have no mask: .*'\d.jpg' is none of them"):
        masked(tmp_path / "d")


@pytest.mark.parametrize(
    ("how", "said"),
    [({"mode": "RGB"}, "its mask is RGB"), ({"size": (33, 77)}, "its mask is 33x77")],
)
def test_masks_that_do_not_fit_are_named(tmp_path: Path, how: dict[str, object], said: str) -> None:
    with_masks(tmp_path / "d", **how)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        masked(tmp_path / "d")

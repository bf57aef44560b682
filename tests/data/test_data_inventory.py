"""Folders as people have them: what is read of each, what is left out, and what is said."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import materials
import numpy as np
import pytest
from PIL import Image

from nas_attn import data
from nas_attn.data.inventory import LONE_MASKS, UNNAMED, of, take, take_masked
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection, GroupsSection, SplitsSection
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


@pytest.mark.parametrize(
    ("make", "counts", "words"),
    [
        (classes, {"all": 20}, []),
        (lambda root: splits(root, "Training", "TEST"), {"train": 10, "test": 10}, []),
        (lambda root: splits(root, "train", "dev"), {"train": 10, "validation": 10}, []),
        (other_programs, {"all": 20}, []),
        (links, {"all": 20}, ["4 files behind a broken link"]),
        (others, {"all": 20}, ["2 files outside the class folders", ".txt"]),
        (lambda root: fill(root / "train", 10, 90) or classes(root), {"all": 30}, ["3 classes"]),
        (truncated, {"all": 20}, ["2 unreadable", "22 images"]),
        (floats, {"all": 20}, ["1 unreadable", "no known white"]),
        (leaking, {"train": 10, "validation": 10, "test": 10}, ["10 images", "two splits"]),
        (contradicting, {"all": 21}, ["cat/0000.png' and 'dog/as-bmp.bmp", "two classes"]),
        (unequal, {"all": 104}, ["'dog' has 4 images", "balanced_accuracy"]),
        (
            lacking,
            {"train": 10, "validation": 10, "test": 5},
            ["test has no image of class 'dog'"],
        ),
        (not_utf8, {"all": 20}, []),
        (
            scaled_copies,
            {"train": 10, "validation": 13},
            ["3 images nearly equal", "'train/cat/0.png' and 'val/cat/small0.jpg'"],
        ),
        (
            foreign_class,
            {"train": 10, "validation": 10, "test": 10},
            ["test has the class 'owl', which train has not", "final test will be refused"],
        ),
        (
            small_validation,
            {"train": 10, "validation": 8},
            ["class 'cat' has 3 validation images", "balanced_accuracy"],
        ),
    ],
)
def test_what_is_read_and_what_is_said(
    tmp_path: Path, make: Make, counts: dict[str, int], words: list[str]
) -> None:
    root = tmp_path / "d"
    make(root)
    inventory = take(str(root))
    assert {split: sum(of.values()) for split, of in inventory.counts.items()} == counts
    for word in words:
        assert word in inventory.text()
    inventory.text().encode()  # it can be printed
    assert take(str(root)) == inventory  # from the cache
    section = DataSection(name=f"folder:{root}", size=8, broken_images="skip")
    if not inventory.unreadable:
        dataset = data.load(section, device="cpu")
        own = counts.get("train", counts.get("all", 0) * 0.8) + counts.get("validation", 0)
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


def test_copies_among_images_with_masks_and_boxes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        with_masks(tmp_path / "masked" / split)
    shutil.copy(tmp_path / "masked/train/classes.txt", tmp_path / "masked")
    inventory = take_masked(str(tmp_path / "masked"))
    assert inventory.counts == {"train": {"": 10}, "validation": {"": 10}}
    assert "10 images with copies of the same pixels in two splits" in inventory.text()

    materials.coco(tmp_path / "boxed", train=6, val=3)
    for number in range(2):
        copied = tmp_path / f"boxed/train/{number}.png"
        shutil.copy(copied, tmp_path / f"boxed/val/{number}.png")
    boxed = of(DataSection(name=f"coco:{tmp_path / 'boxed'}"), "boxes")
    assert boxed is not None
    assert boxed.counts == {"train": {"": 6}, "validation": {"": 3}}
    assert "2 images with copies of the same pixels in two splits" in boxed.text()


FOLDS = SplitsSection(train=["fold_2", "fold_10"], validation=["fold_0"], test=["fold_1"])


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """Five folds; the last one is in no split of FOLDS, and one of train lacks a class."""
    splits(tmp_path / "d", "fold_0", "fold_1", "fold_2", "fold_10", "fold_11")
    shutil.rmtree(tmp_path / "d/fold_10/dog")
    return tmp_path / "d"


def test_folds_are_read_as_the_recipe_divides_them(folds: Path) -> None:
    inventory = take(str(folds), splits=FOLDS)
    counts = {split: sum(of.values()) for split, of in inventory.counts.items()}
    assert counts == {"train": 15, "validation": 10, "test": 10}
    assert len(inventory.left_out[UNNAMED]) == 10
    assert "train is fold_2, fold_10; validation is fold_0; test is fold_1" in inventory.text()
    section = DataSection(name=f"folder:{folds}", size=8, splits=FOLDS)
    dataset = data.load(section, device="cpu")
    test = dataset.read_test("a test of the folds")
    assert (len(dataset.train), len(dataset.validation), len(test)) == (15, 10, 10)
    listing = dataset.manifest.splits["train"]
    assert listing.names is not None
    assert {name.partition("/")[0] for name in listing.names} == {"fold_2", "fold_10"}
    # of train, validation and test alike
    picture(77).save(folds / "fold_10/cat/new.png")
    changes = data.load(section, device="cpu").manifest.changes(dataset.manifest)
    assert changes.added == ["fold_10/cat/new.png"]


def test_without_folds_for_them_validation_is_split_off_and_there_is_no_test(folds: Path) -> None:
    splits_given = SplitsSection(train=["fold_0", "fold_1", "fold_2"])
    dataset = data.load(
        DataSection(name=f"folder:{folds}", size=8, splits=splits_given), device="cpu"
    )
    assert (len(dataset.train), len(dataset.validation)) == (24, 6)
    with pytest.raises(DataError, match=r"data\.splits\.test"):
        dataset.read_test("there is none")


def test_groups_may_be_in_two_folds_of_one_split_only(folds: Path) -> None:
    groups = GroupsSection(pattern=r"^(...)")
    section = DataSection(name=f"folder:{folds}", size=8, splits=FOLDS, groups=groups)
    picture(91).save(folds / "fold_2/cat/xyz1.png")
    picture(92).save(folds / "fold_10/cat/xyz2.png")
    # those of each fold are numbered on from another thousand
    for fold in ("fold_0", "fold_1", "fold_2"):
        for path in (folds / fold / "dog").iterdir():
            path.rename(path.with_name(f"{fold[-1]}d{path.name}"))
        for path in (folds / fold / "cat").glob("0*.png"):
            path.rename(path.with_name(f"{fold[-1]}c{path.name}"))
    assert len(data.load(section, device="cpu").train) == 17
    picture(93).save(folds / "fold_0/cat/xyz3.png")
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
    folds: Path, given: dict[str, list[str]], said: str
) -> None:
    section = DataSection(
        name=f"folder:{folds}", size=8, splits=SplitsSection.model_validate(given)
    )
    with pytest.raises(DataError, match=said):
        data.load(section, device="cpu")


def test_folds_with_masks(tmp_path: Path) -> None:
    for fold in ("fold_0", "fold_1", "fold_2"):
        with_masks(tmp_path / "d" / fold)
    shutil.copy(tmp_path / "d/fold_0/classes.txt", tmp_path / "d")
    given = SplitsSection(train=["fold_0", "fold_2"], validation=["fold_1"])
    inventory = take_masked(str(tmp_path / "d"), splits=given)
    assert inventory.counts == {"train": {"": 20}, "validation": {"": 10}}
    section = DataSection(name=f"folder:{tmp_path / 'd'}", size=20, splits=given)
    dataset = data.load(section, device="cpu", task=TASKS["segmentation"])
    assert (len(dataset.train), len(dataset.validation)) == (20, 10)


def two_forms(root: Path) -> None:
    for split, form in (("train", "NFC"), ("val", "NFD")):
        fill(root / split / unicodedata.normalize(form, "é"), 4, 0)
        fill(root / split / "dog", 4, 90)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: splits(root, "train", "val", "valid"), "several folders for validation"),
        (lambda root: splits(root, "fold_0", "fold_1"), 'data.splits, like .*"fold_1"'),
        (lambda root: splits(root, "train") or classes(root), "splits, or classes"),
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


def test_a_class_written_in_another_unicode_form_is_named(tmp_path: Path) -> None:
    two_forms(tmp_path / "d")
    with pytest.raises(DataError, match="another Unicode form"):
        data.load(DataSection(name=f"folder:{tmp_path / 'd'}", size=8), device="cpu")


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


@pytest.mark.parametrize(
    ("how", "said"),
    [({"mode": "RGB"}, "its mask is RGB"), ({"size": (33, 77)}, "its mask is 33x77")],
)
def test_masks_that_do_not_fit_are_named(tmp_path: Path, how: dict[str, object], said: str) -> None:
    with_masks(tmp_path / "d", **how)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        masked(tmp_path / "d")


def test_masks_without_an_image_are_counted(tmp_path: Path) -> None:
    with_masks(tmp_path / "d")
    for number in range(3):
        (tmp_path / f"d/images/{number}.png").unlink()
    inventory = take_masked(str(tmp_path / "d"))
    assert inventory.images == 7
    assert len(inventory.left_out[LONE_MASKS]) == 3
    assert len(masked(tmp_path / "d").train)

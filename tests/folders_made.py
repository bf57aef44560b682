"""Folders as people have them, in good order and in none."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import materials
import numpy as np
import pytest
from PIL import Image

from nas_attn.data import loading
from nas_attn.data.inventory import Inventory, Remark
from nas_attn.data.looks import of
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, SplitsSection


def is_refused(root: Path, said: str) -> None:
    """Looks whether this is said both by the inventory of a folder and where its images are
    loaded.
    """
    with pytest.raises(DataError, match=said):
        take(str(root))
    with pytest.raises(DataError, match=said):
        loading.load(DataSection(name=f"folder:{root}", size=8), device="cpu")


def take(path: str, **section: Any) -> Inventory:
    """The inventory of a folder with a folder for each class."""
    inventory = of(DataSection(name=f"folder:{path}", **section), "classes")
    assert inventory is not None
    return inventory


def of_kind(inventory: Inventory, kind: str) -> list[str]:
    """The inventory's remarks of this kind."""
    remarks = [remark for remark in inventory.cautions if isinstance(remark, Remark)]
    return [remark.text for remark in remarks if remark.kind == kind]


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


def no_images(root: Path) -> None:
    """Files that are called images, as downloads and telephones leave them."""
    classes(root)
    (root / "cat/empty.jpg").write_bytes(b"")
    (root / "cat/page.jpg").write_text("\n<!DOCTYPE html><html>404</html>")
    (root / "cat/telephone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(90))
    for name in ("a", "b"):
        (root / f"dog/{name}.png").write_text("version https://git-lfs.github.com/spec/v1\n")


def see_through(root: Path) -> None:
    """Transparent all over, so that nothing is left of their colours."""
    classes(root)
    for number in range(3):
        image = picture(9000 + number).convert("RGBA")
        image.putalpha(0)
        image.save(root / f"cat/clear{number}.png")


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


def copies_to_learn_from(root: Path) -> None:
    """The validation images are drawn from train."""
    splits(root, "train", "test")
    shutil.copy(root / "train/cat/0000.png", root / "train/cat/again.png")
    for number, side in enumerate((80, 50)):
        image = smooth(8000).resize((side, side), Image.Resampling.BICUBIC)
        image.save(root / f"train/dog/like{number}.png")


def named(folder: Path, names: Sequence[str], first: int) -> None:
    """An image of each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, first):
        picture(number).save(folder / name)


def patients(root: Path) -> None:
    """Several images of each; two patients are in two splits."""
    for place, (split, persons) in enumerate({"train": range(8), "val": range(6, 12)}.items()):
        for other, name in enumerate(("cat", "dog")):
            names = [f"person{p}_{name}_{3 * place + k}.png" for p in persons for k in range(3)]
            named(root / split / name, names, 10000 * place + 1000 * other)


def films(root: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        names = [f"clip{clip:02}-frame{frame:04}.png" for clip in range(5) for frame in range(4)]
        named(root / name, names, 1000 * number)


def roboflow_copies(root: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        names = [f"{k}_jpg.rf.{10 * k + copy:06x}.png" for k in range(6) for copy in range(3)]
        named(root / name, names, 1000 * number)


def numbered(root: Path) -> None:
    """Of one class, or of none, as most people number images."""
    for number, name in enumerate(("cat", "dog")):
        names = [f"{name}_{image}.png" for image in range(6)]
        names += [f"n0208562{number}_{image}.png" for image in range(6)]
        named(root / name, names, 1000 * number)


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


def class_not_utf8(root: Path) -> None:
    classes(root)
    os.rename(root / "cat", os.fsencode(root) + b"/k\xe4tze")


def with_masks(root: Path, *, mode: str = "L", size: tuple[int, int] = (30, 20)) -> None:
    """Images of 30x20, and masks, perhaps of another mode or size."""
    (root / "masks").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "classes.txt").write_text("ground\nroad\n", "utf-8-sig")
    for number in range(10):
        image = picture(number).resize((30, 20))
        image.save(root / f"images/{number}.png")
        mask = np.zeros((size[1], size[0]), np.uint8)
        mask[:, : size[0] // 2] = 1
        Image.fromarray(mask).convert(mode).save(root / f"masks/{number}.png")


def lone_masks(root: Path) -> None:
    with_masks(root)
    for number in range(3):
        (root / f"images/{number}.png").unlink()


def one_wrong_mask(root: Path) -> None:
    with_masks(root)
    Image.new("RGB", (30, 20)).save(root / "masks/3.png")


def deep_masks(root: Path) -> None:
    """In files of 16 bits; one has the number of an instance."""
    with_masks(root)
    for path in sorted((root / "masks").iterdir()):
        values = np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(values + np.uint16(24001 * (path.stem == "3"))).save(path)


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
    """Five folds; one of those in `FOLDS` lacks a class."""
    splits(root, "fold_0", "fold_1", "fold_2", "fold_10", "fold_11")
    shutil.rmtree(root / "fold_10/dog")


FOLDS = SplitsSection(train=["fold_2", "fold_10"], validation=["fold_0"], test=["fold_1"])
"""Of `folds`, all but `fold_11`."""


def two_forms(root: Path) -> None:
    for split, form in (("train", "NFC"), ("val", "NFD")):
        fill(root / split / unicodedata.normalize(form, "é"), 4, 0)  # type: ignore[arg-type]
        fill(root / split / "dog", 4, 90)

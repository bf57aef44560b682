"""Boxes in COCO's form: where they are found, that they stay on what they are round, and what is
wrong as one sentence.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import coco
from PIL import Image
from torch import Tensor

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.errors import DataError, NasAttnWarning
from nas_attn.recipe.recipe import Augment, CocoSection, DataSection
from nas_attn.recipe.tasks import TASKS

SIDE = 96


@pytest.fixture
def things(tmp_path: Path) -> Path:
    coco(tmp_path / "things", train=12, val=4, test=4)
    return tmp_path / "things"


def load(folder: Path, **settings: Any) -> Dataset:
    return loading.load(
        DataSection(name=f"coco:{folder}", size=SIDE, **settings),
        device="cpu",
        task=TASKS["detection"],
    )


def edited(folder: Path, edit: Callable[[dict[str, Any]], object], split: str = "train") -> None:
    path = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def shown(image: Tensor) -> tuple[int, list[int]]:
    """Class and corners of the red or blue thing in a picture."""
    red, blue = (image[c] - image[2 - c] > 0.45 for c in (0, 2))
    there = red if red.sum() > blue.sum() else blue
    rows, columns = (
        there.any(1).nonzero().flatten().tolist(),
        there.any(0).nonzero().flatten().tolist(),
    )
    return (2 if red.sum() > blue.sum() else 1), [
        columns[0],
        rows[0],
        columns[-1] + 1,
        rows[-1] + 1,
    ]


def on_their_things(x: Tensor, y: Tensor, *, within: float) -> None:
    assert x.shape[1:] == (3, SIDE, SIDE)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1.0001
    for image, (box,) in zip(x, y, strict=True):
        label, corners = shown(image)
        assert int(box[0]) == label
        assert box[1:].tolist() == pytest.approx(corners, abs=within)


def test_boxes_are_round_their_things_however_images_are_scaled_mirrored_and_cropped(
    things: Path,
) -> None:
    found = load(things)
    assert found.classes == ("blue", "red"), "in order of the categories' ids"
    assert (len(found.train), len(found.validation), found.input_shape) == (12, 4, (3, SIDE, SIDE))
    on_their_things(*next(found.validation.batches(4)), within=1.01)
    augment = [Augment(name="flip"), Augment(name="crop", padding=4)]
    batches = list(found.train.epoch(6, seed=1, epoch=2, augment=augment))
    for x, y in batches:
        on_their_things(x, y, within=1.01)
    again = list(found.train.epoch(6, seed=1, epoch=2, augment=augment, first_batch=1))
    assert all(torch.equal(a, b) for a, b in zip(batches[1], again[0], strict=True))
    assert len(found.read_test("a test")) == 4


def test_where_common_programs_lay_their_files_is_known(things: Path) -> None:
    usual = load(things)
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        (things / f"{name}").mkdir(exist_ok=True)
        if name != split:
            shutil.move(things / split, things / "gone")
            shutil.copytree(things / "gone", things / name, dirs_exist_ok=True)
        shutil.move(
            things / "annotations" / f"instances_{split}.json",
            things / name / "_annotations.coco.json",
        )
    assert boxes_of(load(things).validation).equal(boxes_of(usual.validation))
    (things / "annotations" / "train.json").write_text(
        (things / "train" / "_annotations.coco.json").read_text()
    )
    named = CocoSection(train="annotations/train.json", validation="valid/_annotations.coco.json")
    assert boxes_of(load(things, coco=named).train).equal(boxes_of(usual.train))


def boxes_of(split: Split) -> Tensor:
    assert split.boxes is not None
    return split.boxes


def test_crowds_are_kept_apart_and_what_sums_up_others_is_no_class(things: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["bbox"][2] = 0
        content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
        for kind in content["categories"][1:]:
            kind["supercategory"] = "things"

    edited(things, edit)
    with pytest.warns(NasAttnWarning, match=r"1 boxes of "):
        found = load(things)
    assert found.classes == ("blue", "red")
    assert boxes_of(found.train)[0, 0, 0] == -1, "a crowd of the first class"
    assert not boxes_of(found.train)[1].any()


def test_what_exporters_write_instead_of_numbers_and_zeros_is_read(things: Path) -> None:
    usual = load(things).train

    def edit(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = f"image-{image['id']}"
        for box in content["annotations"]:
            box["image_id"] = f"image-{box['image_id']}"
            box["iscrowd"] = None

    edited(things, edit)
    found = load(things).train
    assert boxes_of(found).equal(boxes_of(usual))


def test_ids_may_be_numbers_in_one_place_and_text_in_the_other(things: Path) -> None:
    usual = load(things).train

    def edit(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = str(image["id"])

    edited(things, edit)
    assert boxes_of(load(things).train).equal(boxes_of(usual))


def test_a_backslash_is_between_folders(things: Path) -> None:
    usual = load(things).train
    shutil.move(things / "train", things / "scan")
    (things / "train").mkdir()
    shutil.move(things / "scan", things / "train/scan")

    def edit(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = f"scan\\{image['file_name']}"

    edited(things, edit)
    assert boxes_of(load(things).train).equal(boxes_of(usual))


def test_a_box_that_is_there_twice_counts_once_and_is_said(things: Path) -> None:
    usual = load(things).train
    edited(
        things,
        lambda c: c["annotations"].extend(dict(a, id=900 + a["id"]) for a in c["annotations"][:3]),
    )
    with pytest.warns(NasAttnWarning, match="3 boxes of .* twice, counted once"):
        found = load(things).train
    assert boxes_of(found).equal(boxes_of(usual))


def test_one_file_under_two_ids_stays_on_one_side_of_a_split(tmp_path: Path) -> None:
    coco(tmp_path / "things", train=12)

    def edit(content: dict[str, Any]) -> None:
        again = [dict(image, id=1000 + image["id"]) for image in content["images"]]
        boxes = [
            dict(box, id=1000 + box["id"], image_id=1000 + box["image_id"])
            for box in content["annotations"]
        ]
        content["images"] += again
        content["annotations"] += boxes

    edited(tmp_path / "things", edit)
    found = load(tmp_path / "things")
    assert found.manifest is not None
    sides = [set(split.names.tolist()) for split in found.manifest.splits.values()]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def _gone(content: dict[str, Any]) -> None:
    content["images"][0]["file_name"] = "none.png"


def _larger(content: dict[str, Any]) -> None:
    content["images"][3]["width"] = 60


def _of_another_computer(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image["file_name"] = f"C:\\\\data\\{image['file_name']}"


def _in_capitals(content: dict[str, Any]) -> None:
    content["images"][3]["file_name"] = "3.PNG"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            lambda c: c["categories"].append({"id": 9, "name": "green"}),
            "has no box or image of category 'green' to learn from",
        ),
        (
            lambda c: c["annotations"][2].update(image_id=5),
            "annotations.2: .*no image 5",
        ),
        (lambda c: c["annotations"][2].update(category_id=5), "no category 5"),
        (
            lambda c: c["annotations"][2].update(bbox=[40, 0, 30, 9]),
            r"9.0\] is not within its image of 48x34",
        ),
        (lambda c: c["annotations"][2].update(bbox=[1, 2]), r"annotations\.2: .*bbox = "),
        (
            lambda c: c["annotations"][2].pop("bbox"),
            r"annotations\.2: .bbox. is missing.*bbox = \[left, top, width, height\]",
        ),
        (lambda c: c.pop("images"), "images: .images. is missing"),
        (lambda c: c["images"][1].pop("width"), r"images\.1: .width. is missing"),
        (lambda c: c["images"].append(c["images"][0]), "two images with the same id"),
        (lambda c: c["categories"].append(c["categories"][0]), "two categories with the same id"),
        (_of_another_computer, r"name the images' folder in data\.coco\.images"),
        (_in_capitals, r"1 of 12 images .*, '3\.PNG'"),
        (_gone, r"1 of 12 images .*, 'none\.png': .*data\.coco\.images"),
        (
            _larger,
            (
                r"1 image of .* cannot be read at the size that its annotations say, the first is"
                r" 'train/3\.png'"
            ),
        ),
    ],
)
def test_what_is_wrong_with_annotations_is_one_sentence(things: Path, edit: Any, said: str) -> None:
    edited(things, edit)
    with pytest.raises(DataError, match=said) as caught:
        load(things)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(things: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'.*nowhere' does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.coco\.train = 'x\.json': '.*' does not exist"):
        load(things, coco=CocoSection(train="x.json"))
    with pytest.raises(DataError, match=r"12 of 12 images .*x'.*data\.coco\.images"):
        load(things, coco=CocoSection(images="x"))
    shutil.copy(
        things / "annotations" / "instances_train.json",
        things / "annotations" / "instances_train2.json",
    )
    with pytest.raises(DataError, match=r"train, .*data\.coco\.train"):
        load(things)
    (things / "annotations" / "instances_train2.json").unlink()
    (things / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 12 images .*train', '2\.png'"):
        load(things)
    Image.new("RGB", (48, 34)).save(things / "train" / "2.png")
    annotations = things / "annotations" / "instances_train.json"
    annotations.write_text(annotations.read_text(), "utf-16")
    with pytest.raises(
        DataError, match=r"instances_train\.json' cannot be read as COCO's JSON in UTF-8"
    ):
        load(things)
    (things / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_train\.json' .*COCO"):
        load(things)
    (things / "annotations" / "instances_train.json").unlink()
    with pytest.raises(DataError, match=r"data\.coco\.train"):
        load(things)
    with pytest.raises(DataError, match=r"'mnist' .*coco:FOLDER"):
        loading.load(DataSection(name="mnist"), device="cpu", task=TASKS["detection"])


def test_boxes_of_a_class_that_only_validation_has_are_said(things: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 77, "name": "kite"})
        content["annotations"][0]["category_id"] = 77

    edited(things, add, "val")
    with pytest.warns(NasAttnWarning, match=r"left out 1 boxes of .* of 'kite'"):
        load(things)

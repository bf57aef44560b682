"""How images become the network's input: what is proposed for a folder, what is said of it, and what
reaches the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Nas
from folders_made import take
from PIL import Image

from nas_attn.backbones import build
from nas_attn.data import loading
from nas_attn.data.decoding import Cut, Source, decode
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.looks import of
from nas_attn.errors import DataError
from nas_attn.recipe.reading import backbone_section, load_recipe
from nas_attn.recipe.recipe import DataSection, TrainingSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.training.parameters import LearningRates
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

Size = tuple[int, int]


def folder(root: Path, sizes: Sequence[Size]) -> Path:
    """Two classes, each with an image of every (width, height), in noise that no two share."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number, (width, height) in enumerate(sizes):
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("sizes", "size", "fit"),
    [
        ([(side, side) for side in range(24, 33)], 32, "cut"),
        ([(16, 16)] * 4, 32, "cut"),
        ([(6, 8)] * 4, 32, "cut"),
        ([(40, 45)] * 4, 40, "cut"),
        ([(320, 240)] * 4, 64, "cut"),
        ([(640, 64)] * 4, (32, 288), "resize"),
        ([(50, 150)] * 4, (144, 48), "resize"),
        ([(300, 100), (100, 300)] * 3, 64, "letterbox"),
        ([(300, 100)] * 4 + [(100, 300)] * 2, 64, "letterbox"),
    ],
)
def test_what_is_proposed_fits_the_images(
    tmp_path: Path, sizes: Sequence[Size], size: object, fit: str
) -> None:
    assert take(str(folder(tmp_path / "d", sizes))).proposed(64) == (size, fit)


def test_init_writes_what_fits_and_the_search_takes_it(
    tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "strips", [(640, 64)] * 4)
    there = ("--data", "folder:strips", "--backbone", "resnet8")
    done = nas("init", "s.toml", *there)
    assert "640 x 64 pixels" in done.out
    data = load_recipe("s.toml").data
    assert (data.size, data.fit) == ((32, 288), "resize")
    assert loading.load(data, device="cpu").input_shape == (3, 32, 288)
    cut = of(data.model_copy(update={"size": 64, "fit": "cut"}), "classes")
    assert cut is not None
    assert "10% of the median image" in "\n".join(cut.described())


def stripes(path: Path) -> Path:
    """Left to right: red, green, blue, in an image three times as wide as high."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    for channel in range(3):
        pixels[:, 20 * channel : 20 * channel + 20, channel] = 255
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("cut", "brightest"),
    [
        (Cut(24, 24), "111"),
        (Cut(24, 24, "resize"), "012"),
        (Cut(10, 30, "resize"), "012"),
        (Cut(10, 30, "cut"), "012"),
        (Cut(24, 24, "letterbox"), "012"),
    ],
)
def test_only_a_cut_leaves_something_out(tmp_path: Path, cut: Cut, brightest: str) -> None:
    made = decode(Source(stripes(tmp_path / "stripes.png")), cut)
    assert made.shape == (3, cut.height, cut.width)
    columns = [2, cut.width // 2, cut.width - 3]
    assert "".join(str(made[:, 3, column].argmax()) for column in columns) == brightest


def test_nothing_counts_beside_an_image_in_a_letterbox(tmp_path: Path) -> None:
    stripes(tmp_path / "image.png")
    mask = np.zeros((20, 60), np.uint8)
    mask[:, 40:] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    source = Source(tmp_path / "image.png", tmp_path / "mask.png", 2)
    made = decode(source, Cut(24, 24, "letterbox"))
    blue = made[2, :8] > 200
    assert np.array_equal(made[3, :8][:, [2, 12, 21]], np.tile([0, 0, 1], (8, 1)))
    assert np.array_equal(made[3, :8] == 1, blue)
    assert (made[3, 8:] == NOT_COUNTED).all()


class Strips(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        if number >= len(self):
            raise IndexError
        return np.full((20, 60 + number, 3), 30 * number, np.uint8), number % 2


def strips(split: str) -> Strips | None:
    return None if split == "validation" else Strips()


def test_a_data_set_of_ones_own_is_fitted_too() -> None:
    section = DataSection(name=f"{__name__}:strips", size=(10, 30), fit="resize", workers=1)
    assert loading.load(section, device="cpu").input_shape == (3, 10, 30)


@pytest.mark.parametrize(
    ("section", "task", "words"),
    [
        (
            {"name": "folder:d", "size": (8, 24), "options": {"resize": 30}},
            "classification",
            r"data\.options\.resize .* remove it",
        ),
        ({"name": "digits", "size": (32, 64)}, "detection", "one number"),
        ({"name": "digits", "fit": "resize"}, "detection", "no data.fit"),
        ({"name": "digits", "fit": "resize"}, "classification", r"data\.fit does not apply"),
    ],
)
def test_what_has_no_such_shape_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
    task: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "d", [(60, 20)] * 5)
    with pytest.raises(DataError, match=words):
        loading.load(DataSection(**section), device="cpu", task=TASKS[task])


def boxes(root: Path, size: Size, side: float) -> Path:
    """COCO's form: four boxes in each image."""
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for number in range(4):
            Image.new("RGB", size, (number, 40, 90)).save(root / split / f"{number}.png")
            name = {"file_name": f"{number}.png", "width": size[0], "height": size[1]}
            images.append({"id": number, **name})
            for place in range(4):
                box = [place * side, 3.0, side, side]
                rows.append({"id": len(rows), "image_id": number, "category_id": 1, "bbox": box})
        content = {
            "images": images,
            "annotations": rows,
            "categories": [{"id": 1, "name": "car"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("size", "side", "proposed", "small"),
    [
        ((600, 400), 100.0, 320, False),
        # 16 pixels at the input
        ((1000, 600), 24.0, 672, False),
        ((1000, 600), 12.0, 1024, False),
        # no input is large enough
        ((2400, 1800), 14.0, 320, True),
    ],
)
def test_boxes_decide_the_side_of_a_detectors_input(
    tmp_path: Path,
    nas: Nas,
    monkeypatch: pytest.MonkeyPatch,
    size: Size,
    side: float,
    proposed: int,
    small: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "cars", size, side)
    there = ("--task", "detection", "--data", "coco:cars", "--target", "scratch")
    backbone = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    done = nas("init", "s.toml", *there, "--backbone", backbone)
    assert load_recipe("s.toml").data.size == proposed
    said = re.search(r"boxes: (\d+) pixels in the median, ([\d.]+) at .* input of (\d+)", done.out)
    assert said is not None
    assert [float(number) for number in said.groups()] == pytest.approx(
        [side, side * proposed / max(size), proposed], abs=0.5
    )
    # in a tile of 280 pixels, 14 become 16 in an input of 320
    assert ("cut the images into tiles of 280 pixels" in done.out) is small


def near_infrared(kind: str, image: np.ndarray[Any, Any]) -> Image.Image:
    return Image.fromarray(image, "RGBX" if kind == "tif" else "RGBA")


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_a_fourth_band_is_not_dropped_or_blended_without_a_word(
    tmp_path: Path, ending: str
) -> None:
    random = np.random.default_rng(0)
    for number, name in enumerate(("crop", "soil")):
        (tmp_path / "fields" / name).mkdir(parents=True)
        for image in range(4):
            bands = random.integers(60, 180, (20, 20, 4), dtype=np.uint8)
            bands[..., 3] += 20 * number
            path = tmp_path / "fields" / name / f"{image}.{ending}"
            near_infrared(ending, bands).save(path)
    inventory = take(str(tmp_path / "fields"))
    assert "data.channels = 4 reads all bands as they are" in "\n".join(inventory.described())
    assert inventory.bands == 4


def test_cut_out_things_have_no_fourth_band(tmp_path: Path) -> None:
    pixels = np.full((20, 20, 4), 255, np.uint8)
    pixels[:, :9, 3] = 0
    pixels[0, 0] = 0
    # a soft edge
    pixels[:, 9, 3] = 120
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for number in range(4):
            pixels[0, 0, 0] += 1
            Image.fromarray(pixels).save(tmp_path / "d" / name / f"{number}.png")
    inventory = take(str(tmp_path / "d"))
    assert "data.channels" not in "\n".join(inventory.described())
    assert inventory.bands is None


class Bands(torch.utils.data.Dataset[Any]):
    """What tells the classes apart is in the fifth of five bands."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> Any:
        if number >= len(self):
            raise IndexError
        bands = np.full((20, 24, 5), 90, np.uint8)
        bands[..., 4] = 30 + 150 * (number % 2)
        return bands, number % 2


def bands(split: str) -> Bands | None:
    return None if split == "validation" else Bands()


@pytest.mark.parametrize(("size", "fit"), [(None, "cut"), (16, "cut"), (16, "letterbox")])
def test_a_network_learns_from_all_bands(size: int | None, fit: Any) -> None:
    section = DataSection(name=f"{__name__}:bands", size=size, fit=fit, workers=1)
    dataset = loading.load(section, device="cpu")
    assert dataset.input_shape == (5, *((20, 24) if size is None else (16, 16)))
    torch.manual_seed(0)
    network = build(backbone_section("resnet8"), input_shape=dataset.input_shape, classes=2)
    training = TrainingSection(rungs=[4], batch_size=8)
    trainer = Trainer(training, dataset, device="cpu", threads=1)
    (score,) = trainer.fit(network, seed=0, rungs=[4], rates=LearningRates(0.05))
    assert score.metrics["accuracy"] == 1


def test_a_copy_whose_sides_were_rounded_is_a_near_copy(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        folder(tmp_path / split, [(640, 320)] * 3)
    coarse = random.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    scene = Image.fromarray(coarse).resize((640, 320), Image.Resampling.BICUBIC)
    scene.save(tmp_path / "train/cat/scene.png")
    scene.resize((333, 167)).save(tmp_path / "val/cat/small.png")
    said = "\n".join(take(str(tmp_path)).described())
    assert "1 image nearly equal to one of another split, such as 'train/cat/scene.png'" in said


def test_strips_that_differ_along_them_are_no_near_copies(tmp_path: Path) -> None:
    """They have bars at other places, between the same margins."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "strips" / name).mkdir(parents=True)
        for number in range(8):
            strip = np.full((64, 640), 250, np.uint8)
            bars = np.where(random.permutation(np.arange(160) % 2), 0, 90).repeat(4)
            strip[12:52] = bars
            Image.fromarray(strip).save(tmp_path / "strips" / name / f"{number}.png")
    assert "nearly equal" not in "\n".join(take(str(tmp_path / "strips")).described())
    # a copy, scaled and saved again
    with Image.open(tmp_path / "strips/cat/0.png") as first:
        first.resize((480, 48)).save(tmp_path / "strips/cat/again.jpg")
    assert "1 image nearly equal" in "\n".join(take(str(tmp_path / "strips")).described())


def test_init_and_search_take_the_only_side_in_place_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "wide", [(96 + number, 40) for number in range(8)])
    pytest.importorskip("timm")
    own = ["--backbone", "timm:efficientformerv2_s0", "--target", "scratch"]
    said = nas("init", "wide", *own).out
    assert "size: 224, since timm:efficientformerv2_s0 is built for it" in said
    data = load_recipe("wide.toml").data
    # a square that keeps all of each image
    assert (data.size, data.fit) == (224, "letterbox")
    day = ["--time", "5d", "--target", "1", "--dry-run"]
    said = nas("search", "wide", *own, *day).out
    assert "at 224 × 224 pixels, the only size that it takes" in said.replace("\n", " ")
    ended = nas("search", "wide", *own, *day, "--set", "data.size=64")
    assert "takes images of 224 x 224 pixels only" in ended.error


@pytest.mark.parametrize(("side", "size", "resize"), [(288, 224, 256), (96, 128, 146)])
def test_init_and_search_take_the_input_that_weights_are_made_for(
    side: int, size: int, resize: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas
) -> None:
    """Of a file, too; of smaller images, half as much at least."""
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "photos", [(side, side)] * 8)
    lite = "timm:tf_efficientnet_lite0"
    torch.save(
        build(backbone_section(lite), input_shape=(3, 32, 32), classes=10).state_dict(), "own.pt"
    )
    given = ("--data", "folder:photos", "--backbone", lite, "--target", "own.pt")
    said = nas("init", "s.toml", *given).out
    assert "'own.pt'" in said
    assert ("data.size = 224" in said) == (size < 224)
    recipe = load_recipe("s.toml")
    assert (recipe.data.size, recipe.data.mean, recipe.data.std) == (size, [0.5] * 3, [0.5] * 3)
    section = data_of(TASKS["classification"]).section(recipe)
    assert section.options == {"interpolation": "bicubic", "resize": resize}
    dataset = loading.load(section, device="cpu")
    assert dataset.input_shape == (3, size, size)
    images, _ = next(iter(dataset.train.batches(4)))
    assert images.abs().max() <= 1
    # the same without what `init` writes, and another size keeps the share that is cut out
    changes = {"data": {"name": "folder:photos"}}
    bare = load_recipe("s.toml", overrides=changes)
    found = data_of(TASKS["classification"]).section(bare)
    assert (found.size, found.mean, found.options["resize"]) == (224, [0.5] * 3, 256)
    smaller = load_recipe("s.toml", overrides={"data.size": 112})
    assert data_of(TASKS["classification"]).section(smaller).options["resize"] == 128

"""What people bring along: photographs, published files, a model, a module and an evaluator of
their own. All tiny.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from nas_attn.data.digits import DIGIT_NAMES, OPTIONS, box_of, chosen_options, draw_masked
from nas_attn.recipe.recipe import DataSection

COLOURS = {"cat": (200, 90, 60), "dog": (60, 120, 200), "owl": (90, 190, 90)}


def photographs(
    folder: Path, *, of_each: int = 16, side: int = 24, misleading: float = 0.0
) -> None:
    """One folder per class of JPEG files: noise around a colour, so that two epochs learn
    something.

    Args:
        misleading: share of images with a colour drawn at random, so that no network is right in
            all.
    """
    random, drawn = np.random.default_rng(0), np.random.default_rng(1)
    for name, own in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(of_each):
            noise = random.normal(0, 60, (side, side + number % 5, 3))  # not all of one size
            colour = (
                list(COLOURS.values())[drawn.integers(len(COLOURS))]
                if drawn.random() < misleading
                else own
            )
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.jpg", quality=90)


def masks(folder: Path, *, count: int = 24, side: int = 16) -> None:
    """Images with a bright part, masks that say where it is, and the two classes' names."""
    random = np.random.default_rng(0)
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True)
    (folder / "classes.txt").write_text("ground\nroad\n")
    for number in range(count):
        mask = np.zeros((side, side), dtype=np.uint8)
        mask[:, : random.integers(4, side - 2)] = 1
        pixels = np.clip(70 + 110 * mask[..., None] + random.normal(0, 40, (side, side, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{number}.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


def coco(folder: Path, **counts: int) -> None:
    """Photographs with a red or a blue thing in each, and COCO's annotations of where it is; by
    default for train and val.
    """
    random = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for split, count in (counts or {"train": 24, "val": 8}).items():
        (folder / split).mkdir()
        images, boxes = [], []
        for number in range(count):
            wide, high = 48, 32 + number % 9
            width, height = (int(side) for side in random.integers(8, 20, 2))
            left, top = (
                int(random.integers(0, wide - width)),
                int(random.integers(0, high - height)),
            )
            pixels = np.clip(random.normal(90, 20, (high, wide, 3)), 0, 255).astype(np.uint8)
            pixels[top : top + height, left : left + width] = (
                (220, 40, 40) if number % 2 else (40, 60, 230)
            )
            Image.fromarray(pixels).save(folder / split / f"{number}.png")
            images.append(
                {"id": 100 + number, "file_name": f"{number}.png", "width": wide, "height": high}
            )
            place = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
            boxes.append(
                {
                    "id": number,
                    "image_id": 100 + number,
                    "category_id": 7 if number % 2 else 3,
                    **place,
                }
            )
        kinds = [{"id": 7, "name": "red"}, {"id": 3, "name": "blue"}]
        content = {"images": images, "annotations": boxes, "categories": kinds}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def discs(folder: Path, task: str = "detect", *, count: int = 8) -> Path:
    """Images with a disc each as Ultralytics reads them, labelled for one of its tasks: the data
    YAML, or a classifier's folder.
    """
    random = np.random.default_rng(0)
    for number in range(2 * count):
        part, name = ("train", "val")[number % 2], f"{number:02}"
        x, y, r = random.uniform([0.3, 0.3, 0.15], [0.7, 0.7, 0.25])
        down, right = np.mgrid[:64, :64] / 64
        inside = (right - x) ** 2 + (down - y) ** 2 < r**2
        at = (
            folder / part / f"class{number // 2 % 2}"
            if task == "classify"
            else folder / "images" / part
        )
        at.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(255 * inside[..., None], 3, 2).astype(np.uint8)).save(
            at / f"{name}.png"
        )
        around = f"{x - r} {y - r} {x + r} {y - r} {x + r} {y + r} {x - r} {y + r}"
        box = f"{x} {y} {2 * r} {2 * r}"
        labels = {"detect": box, "pose": box + 17 * f" {x} {y} 2", "segment": around, "obb": around}
        if task in labels:
            (folder / "labels" / part).mkdir(parents=True, exist_ok=True)
            (folder / "labels" / part / f"{name}.txt").write_text(f"0 {labels[task]}\n")
    splits = (
        f"path: {folder}\ntrain: images/train\nval: images/val\ntest: images/val\nnames: [disc]\n"
    )
    (folder / "data.yaml").write_text(splits + "kpt_shape: [17, 3]\n" * (task == "pose"))
    return folder if task == "classify" else folder / "data.yaml"


def digits_with_boxes(folder: Path, *, seed: int = 0, **options: int) -> Path:
    """The data set `digits` as Ultralytics reads it: the data YAML.

    Args:
        options: those of `digits`, the number of images of each split among them.
    """
    chosen = chosen_options(DataSection(name="digits", options={**options}), OPTIONS)
    parts = {"train": "train", "val": "validation", "test": "test"}
    for part, split in parts.items():
        images, masks, _ = draw_masked(seed, split, chosen)
        for inside in ("images", "labels"):
            (folder / inside / part).mkdir(parents=True, exist_ok=True)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            path = folder / "images" / part / f"{number:06}.png"
            Image.fromarray(image).convert("RGB").save(path)
            label, left, top, right, bottom = box_of(mask)
            box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            line = " ".join([str(label - 1), *(f"{value / len(mask):.6f}" for value in box)])
            (folder / "labels" / part / f"{number:06}.txt").write_text(f"{line}\n", "ascii")
    described = "".join(f"{part}: images/{part}\n" for part in parts)
    path = folder / "data.yaml"
    path.write_text(f"path: {folder.resolve()}\n{described}names: {list(DIGIT_NAMES)}\n", "utf-8")
    return path


def fashion_mnist(folder: Path, *, train: int = 120, test: int = 30) -> None:
    """The four files of Fashion-MNIST in their published format, with a few images, where
    torchvision looks for them.
    """
    random = np.random.default_rng(0)
    folder = folder / "FashionMNIST/raw"
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (folder / f"{part}-{what}-ubyte").write_bytes(head + array.tobytes())


MODEL = '''\
"""A network of one's own."""
from torch import nn


def layer(channels_in, channels, stride):
    convolution = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


def build(classes, in_channels, width=4):
    return nn.Sequential(
        layer(in_channels, width, 1), layer(width, 2 * width, 2), layer(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes),
    )
'''

MODULE = '''\
"""An attention module of one's own."""
import torch
from torch import nn


class Spotlight(nn.Module):
    """Each channel times a learned factor of its mean."""

    def __init__(self, channels, *, power: float = 1.0, init="paper"):
        super().__init__()
        self.power = power
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 0.0 if init == "identity" else 0.1))

    def forward(self, x):
        return x * (1 + self.weight * x.mean((2, 3), keepdim=True).abs() ** self.power)
'''

EVALUATOR = '''\
"""A training and a metric of one's own."""
import os
import time

import torch
from torch import nn


def images(count, seed):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 16, 16, generator=random)
    labels = torch.arange(count) % 3
    return x + labels[:, None, None, None], labels


def evaluate(model, run):
    if run.rung:
        model.load_state_dict(torch.load(run.folder / "last.pt", weights_only=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, labels = images(48, 0)
    torch.manual_seed(run.seed)
    for _ in range(run.new_epochs):
        model.train()
        for batch in torch.randperm(len(x)).split(8):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
        time.sleep(float(os.environ.get("EPOCH_SECONDS", "0")))
    torch.save(model.state_dict(), run.folder / "last.pt")
    x, labels = images(60, 1)
    with torch.no_grad():
        return {"f1": (model.eval()(x).argmax(1) == labels).float().mean().item()}
'''


OWN_RECIPE = """\
name = "own"
objectives = ["f1", "params"]
backbone = { name = "mine:build" }
data = { name = "external", input_shape = [3, 16, 16], classes = 3 }
training = { evaluator = "judge:evaluate", start = "scratch", rungs = [1, 2] }
search = { trials = 9, confirm_seeds = 1 }
[space]
name = "own"
choices."spotlight:Spotlight" = { power = [1.0, 2.0] }
choices.se = { reduction = [4, 2] }
choices.gam = { reduction = [4], groups = [2] }
"""


def everything_of_ones_own(folder: Path) -> None:
    """`mine.py`, `spotlight.py`, `judge.py` and `own.toml` of the texts above."""
    for name, text in (
        ("mine.py", MODEL),
        ("spotlight.py", MODULE),
        ("judge.py", EVALUATOR),
        ("own.toml", OWN_RECIPE),
    ):
        (folder / name).write_text(text, "utf-8")

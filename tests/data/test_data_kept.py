"""Splits, orders and digests of each source as they were when studies began: a change of how
files are read changes none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.recipe.recipe import Augment, DataSection, GroupsSection
from nas_attn.recipe.tasks import TASKS

SIDE = 8
FLIP = [Augment(name="flip"), Augment.model_validate({"name": "crop", "padding": 1})]


def picture(path: Path, seed: int) -> None:
    """Of the input's size, so that no library scales it, in a file that none compresses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def flat(root: Path) -> dict[str, Any]:
    for number in range(45):
        name = f"{'cat' if number % 3 else 'dog'}/p{number // 3:02}_{number:03}.bmp"
        picture(root / name, number)
    return {"name": f"folder:{root}"}


def grouped(root: Path) -> dict[str, Any]:
    return {**flat(root), "groups": GroupsSection(pattern="^(p[0-9]+)_")}


def divided(root: Path) -> dict[str, Any]:
    for number in range(45):
        split = ("train", "train", "val", "test")[number // 3 % 4]
        picture(root / split / "abc"[number % 3] / f"{number:03}.bmp", number)
    return {"name": f"folder:{root}", "train_subset": 12}


def masked(root: Path) -> dict[str, Any]:
    (root / "masks").mkdir(parents=True)
    (root / "classes.txt").write_text("background\nroad\n")
    for number in range(20):
        picture(root / f"images/{number:03}.bmp", number)
        mask = np.random.default_rng(100 + number).integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(mask).save(root / f"masks/{number:03}.png", compress_level=0)
    return {"name": f"folder:{root}"}


def numbered(root: Path) -> dict[str, Any]:
    lines = ["image,age,split"]
    for number in range(30):
        picture(root / f"{number:03}.bmp", number)
        lines.append(f"{number:03}.bmp,{number * 1.5},{('train', 'train', 'val')[number % 3]}")
    (root / "labels.csv").write_text("\n".join(lines))
    return {"name": f"folder:{root}"}


def boxed(root: Path) -> dict[str, Any]:
    for number in range(20):
        picture(root / f"images/{number:03}.bmp", number)
    images = [
        {"id": number, "file_name": f"{number:03}.bmp", "width": SIDE, "height": SIDE}
        for number in range(20)
    ]
    boxes = [
        {"id": number, "image_id": number // 2, "category_id": 1 + number % 2}
        | {"bbox": [number % 4, 1, 3, 4], "iscrowd": int(number == 7)}
        for number in range(40)
    ]
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    content = {"images": images, "annotations": boxes, "categories": names}
    (root / "train.json").write_text(json.dumps(content))
    return {"name": f"coco:{root}"}


def drawn(root: Path) -> dict[str, Any]:
    del root
    return {"name": "digits", "options": {"train": 60, "validation": 40, "test": 40}}


SOURCES: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "flat": ("classification", flat),
    "grouped": ("classification", grouped),
    "divided": ("classification", divided),
    "masked": ("segmentation", masked),
    "numbered": ("regression", numbered),
    "boxed": ("detection", boxed),
    "drawn": ("classification", drawn),
}


def of_split(split: Split) -> str:
    """Images and labels, in order."""
    digest = hashlib.blake2b(digest_size=6)
    for images, y in split.stored(7):
        digest.update(images.contiguous().numpy().tobytes())
        digest.update(y.contiguous().numpy().tobytes())
    return digest.hexdigest()


def of_epoch(split: Split) -> str:
    """Batches as they are trained on, in bytes again: what processors round does not count."""
    digest = hashlib.blake2b(digest_size=6)
    scale = torch.tensor(split.std)[:, None, None] * 255
    shift = torch.tensor(split.mean)[:, None, None] * 255
    for x, y in split.epoch(4, seed=3, epoch=2, augment=FLIP):
        digest.update((x * scale + shift).round().to(torch.int16).contiguous().numpy().tobytes())
        digest.update(y.contiguous().numpy().tobytes())
    return digest.hexdigest()


def seen(dataset: Dataset) -> dict[str, str]:
    assert dataset.manifest is not None
    said = {
        "classes": " ".join(dataset.classes),
        "digest": dataset.digest,
        "manifest": dataset.manifest.digest,
        "train": of_split(dataset.train),
        "validation": of_split(dataset.validation),
        "epoch": of_epoch(dataset.train),
        "seed 5": of_split(dataset.of_seed(5).validation),
    }
    if not dataset.missing_test:
        said["test"] = of_split(dataset.open_test())
    return said


KEPT: dict[str, dict[str, str]] = {
    "flat": {
        "classes": "cat dog",
        "digest": "f7948928dc3e11d6",
        "manifest": "b1ed87ae03bc918a112698b2da916311",
        "train": "ca512a0f9178",
        "validation": "5ac1ef26a5a3",
        "epoch": "ab676f87e3c2",
        "seed 5": "457057014e83",
        "test": "9a355f88b51e",
    },
    "grouped": {
        "classes": "cat dog",
        "digest": "4168fd65e16913ec",
        "manifest": "73e21f868b55b48937ea24bd2570b824",
        "train": "7abaa921957d",
        "validation": "2f9500538a8f",
        "epoch": "26acc4c06734",
        "seed 5": "e55cf0c67e26",
        "test": "37c233013cf8",
    },
    "divided": {
        "classes": "a b c",
        "digest": "ccd9e0ce6531315c",
        "manifest": "c34a2c52a587f4a9d4ca99d74256ed9e",
        "train": "937893487137",
        "validation": "62e7c582df70",
        "epoch": "fe147a3cb2e8",
        "seed 5": "62e7c582df70",
        "test": "1bc6631912f7",
    },
    "masked": {
        "classes": "background road",
        "digest": "bd131b22fd42d797",
        "manifest": "6f5a14181fac4aca82dbd9ab36e9093b",
        "train": "930e1e95b58b",
        "validation": "c0389ffee215",
        "epoch": "4b9815ac321a",
        "seed 5": "e890d65fc0be",
        "test": "0bde2dc09383",
    },
    "numbered": {
        "classes": "age",
        "digest": "1e24df80f51fba3b",
        "manifest": "17dc6b2176f6ca6e325fc515f7ae370e",
        "train": "013f6d9078ee",
        "validation": "5cd7456dc6ae",
        "epoch": "aea722bde8cc",
        "seed 5": "5cd7456dc6ae",
    },
    "boxed": {
        "classes": "cat dog",
        "digest": "c719f6d6402a2e06",
        "manifest": "75fc0d0fcf0aadfc10c6e893cb34d6b5",
        "train": "3f2451822161",
        "validation": "d1f1fd851b0a",
        "epoch": "55d81990fdc0",
        "seed 5": "a3bc9cdfe763",
    },
    "drawn": {
        "classes": "0 1 2 3 4 5 6 7 8 9",
        "digest": "048c95b9c0e5ab47",
        "manifest": "6b0b343153ef1554206f11bfa4dbd367",
        "train": "a2257be66ed5",
        "validation": "f9caa892bcd6",
        "epoch": "b783fba7de81",
        "seed 5": "f9caa892bcd6",
        "test": "d404e2860971",
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_the_same_splits_and_batches_as_ever(source: str, tmp_path: Path) -> None:
    task, make = SOURCES[source]
    section = DataSection(size=SIDE if source != "drawn" else None, seed=4, **make(tmp_path / "d"))
    dataset = loading.load(section, device="cpu", task=TASKS[task])
    assert seen(dataset) == KEPT[source]

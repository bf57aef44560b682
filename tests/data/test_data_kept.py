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


def tagged(root: Path) -> dict[str, Any]:
    lines = ["image,red,blue,rare"]
    for number in range(45):
        picture(root / f"p{number // 3:02}_{number:03}.bmp", number)
        bits = number % 2, number // 2 % 2, int(number < 4)
        lines.append(",".join([f"p{number // 3:02}_{number:03}.bmp", *map(str, bits)]))
    (root / "labels.csv").write_text("\n".join(lines))
    return {"name": f"folder:{root}", "groups": GroupsSection(pattern="^(p[0-9]+)_")}


def listed(root: Path) -> dict[str, Any]:
    given = tagged(root)
    cells = ["red;blue", "", "green", "blue"]
    lines = [f"{path.name},{cells[k % 4]}" for k, path in enumerate(sorted(root.glob("*.bmp")))]
    (root / "labels.csv").write_text("\n".join(["image,tags", *lines]))
    return {"name": given["name"]}


def tags_of_boxes(root: Path) -> dict[str, Any]:
    given = boxed(root)
    content = json.loads((root / "train.json").read_text())
    content["annotations"] = [box for box in content["annotations"] if box["id"] % 3]
    (root / "train.json").write_text(json.dumps(content))
    return given


def named(root: Path) -> dict[str, Any]:
    """Classes by a table, and patients by a column of it."""
    tagged(root)
    lines = [
        f"{path.name},{k % 3 + 2},{k // 5}" for k, path in enumerate(sorted(root.glob("*.bmp")))
    ]
    (root / "labels.csv").write_text("\n".join(["image,class,patient", *lines]))
    table = {"file": "labels.csv", "columns": ["class"]}
    return {"name": f"folder:{root}", "table": table, "groups": GroupsSection(column="patient")}


def boxed_splits(root: Path) -> dict[str, Any]:
    """With more boxes in an image of validation than in any of training."""
    boxed(root)
    content = json.loads((root / "train.json").read_text())
    for split, first, last in (("train", 0, 12), ("val", 12, 16), ("test", 16, 20)):
        part = {
            **content,
            "images": content["images"][first:last],
            "annotations": [b for b in content["annotations"] if first <= b["image_id"] < last],
        }
        if split == "val":
            more = [{**box, "id": 99 + box["id"]} for box in part["annotations"]]
            part["annotations"] += [{**box, "bbox": [0, 0, 2, 2]} for box in more]
        (root / f"{split}.json").write_text(json.dumps(part))
    return {"name": f"coco:{root}"}


def masked_splits(root: Path) -> dict[str, Any]:
    for split in ("fold_0", "fold_1", "fold_2"):
        masked(root / split)
    (root / "classes.txt").write_text("background\nroad\n")
    splits = {"train": ["fold_0", "fold_2"], "validation": ["fold_1"]}
    return {"name": f"folder:{root}", "splits": splits}


def banded(root: Path) -> dict[str, Any]:
    for number in range(20):
        (root / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE, 5))
        np.save(root / "ab"[number % 2] / f"{number:03}.npy", values.astype(np.uint16))
    return {"name": f"folder:{root}", "channels": 5}


class Own(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> Any:
        values = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        box = {"boxes": [[number % 4, 1.0, 5.0, 6.0]] * (number % 3), "labels": [1] * (number % 3)}
        return Image.fromarray(values), box if number % 5 else {"boxes": [], "labels": []}


def own(split: str) -> Own | None:
    return None if split == "validation" else Own()


def own_boxes(root: Path) -> dict[str, Any]:
    del root
    return {"name": f"{__name__}:own", "workers": 1}


SOURCES: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "flat": ("classification", flat),
    "grouped": ("classification", grouped),
    "divided": ("classification", divided),
    "masked": ("segmentation", masked),
    "numbered": ("regression", numbered),
    "boxed": ("detection", boxed),
    "drawn": ("classification", drawn),
    "tagged": ("multi-label", tagged),
    "listed": ("multi-label", listed),
    "tags of boxes": ("multi-label", tags_of_boxes),
    "named": ("classification", named),
    "boxed splits": ("detection", boxed_splits),
    "masked splits": ("segmentation", masked_splits),
    "banded": ("classification", banded),
    "own boxes": ("detection", own_boxes),
    "drawn masks": ("segmentation", drawn),
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
    "tagged": {
        "classes": "red blue rare",
        "digest": "7b37cd6f4d652989",
        "manifest": "39e20c2f093fd8da30122e43425e79b4",
        "train": "6572c6cf489a",
        "validation": "9c61c573188c",
        "epoch": "03e24a363e1a",
        "seed 5": "4df0de1cbe11",
        "test": "9142064321db",
    },
    "listed": {
        "classes": "blue green red",
        "digest": "2c724b055a40260f",
        "manifest": "c28283bddabbaf208e6bd31fb2872cb1",
        "train": "0bcf96e19fe1",
        "validation": "b11b79fa973b",
        "epoch": "f7ff5c4406d4",
        "seed 5": "2c5152203f7d",
        "test": "6b74b8de7250",
    },
    "tags of boxes": {
        "classes": "cat dog",
        "digest": "f6eb9d1cbd10e056",
        "manifest": "efd72f5c0296d2335db4c7a74923679f",
        "train": "1aa579ecfdb7",
        "validation": "b3457d51de65",
        "epoch": "20b0ac8f596d",
        "seed 5": "1bfd6ac76e2d",
    },
    "named": {
        "classes": "2 3 4",
        "digest": "9e7ab35d4bb16518",
        "manifest": "111458ab7683c966ff3fea886c36577a",
        "train": "02079b7ce5dc",
        "validation": "4824c8812f28",
        "epoch": "d0fcd62c29bc",
        "seed 5": "efc4752092e8",
        "test": "1e992ca0179d",
    },
    "boxed splits": {
        "classes": "cat dog",
        "digest": "f75a02314ebc35ba",
        "manifest": "dfc4969d67e55b5fd6bba737a380efd2",
        "train": "fe6bb9309396",
        "validation": "0642dd100b5c",
        "epoch": "58e3bfd2912b",
        "seed 5": "0642dd100b5c",
        "test": "d4a13c58e902",
    },
    "masked splits": {
        "classes": "background road",
        "digest": "0a37ba257eefedf6",
        "manifest": "24a1e167c2623e1ac56c5b965a2b9177",
        "train": "fbfc4eea08b4",
        "validation": "56c6f6ed91cc",
        "epoch": "5ab89bd69695",
        "seed 5": "56c6f6ed91cc",
    },
    "banded": {
        "classes": "a b",
        "digest": "3310d1cea0203356",
        "manifest": "c764efff55cf5575e32b86f5076b664b",
        "train": "3848951dbeae",
        "validation": "64c3446d32a0",
        "epoch": "808328de6b44",
        "seed 5": "64f403a7509f",
        "test": "eee067847c99",
    },
    "own boxes": {
        "classes": "1",
        "digest": "7d42771437504465",
        "manifest": "c861e4e5c42c9aae06fb79dba7bc541c",
        "train": "f35322b9c49b",
        "validation": "bb82cb6c9e77",
        "epoch": "5dea5f7f1159",
        "seed 5": "521139feef61",
        "test": "a76de7c70b73",
    },
    "drawn masks": {
        "classes": "background 0 1 2 3 4 5 6 7 8 9",
        "digest": "75c54b8581d10d4e",
        "manifest": "3e9763df4fff3ae875f7258f8c7739b2",
        "train": "7266b4ed6dc5",
        "validation": "31191a86bfac",
        "epoch": "bf25981965aa",
        "seed 5": "31191a86bfac",
        "test": "c488bff476cb",
    },
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_gives_the_same_splits_and_batches_as_ever(source: str, tmp_path: Path) -> None:
    task, make = SOURCES[source]
    size = None if source.startswith("drawn") else SIDE
    given = {"size": size, "seed": 4, **make(tmp_path / "d")}
    section = DataSection.model_validate(given)
    dataset = loading.load(section, device="cpu", task=TASKS[task])
    assert seen(dataset) == KEPT[source]

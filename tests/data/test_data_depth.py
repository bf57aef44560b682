"""Images with 10 to 16 bits: one range for all of them, that of the training images."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import folders_made
import numpy as np
import pytest
import torch
from made_study import recipe
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset as OurDataset
from nas_attn.data.decoding import Cut, decode
from nas_attn.data.depth import largest_value
from nas_attn.data.taking import take
from nas_attn.errors import DataError
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tasks import TASKS

SIDE = 8


def save_png(path: Path, values: NDArray[np.uint16]) -> None:
    """A PNG of 16 bits, which Pillow does not write: grey (H, W), with transparency (H, W, 2), or in
    colours (H, W, 3).
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2}[values[0, 0].size]
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def save_tiff(path: Path, values: NDArray[np.uint16], *, extra: int = 0) -> None:
    """A TIFF of 16 bits; in colours, or inks (H, W, 4), uncompressed, one strip. `extra`: of four,
    the last is transparency, with which the others are multiplied (1), or are not (2).
    """
    if values.ndim == 2:
        Image.fromarray(values).save(path)
        return
    height, width = values.shape[:2]
    content = values.astype("<u2").tobytes()
    bits_at = 8 + len(content)
    samples = values.shape[2]
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, samples, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 5 if samples == 4 and not extra else 2),
        (273, 4, 1, 8),
        (277, 3, 1, samples),
        (278, 3, 1, height),
        (279, 4, 1, len(content)),
    ]
    if extra:
        tags.append((338, 3, 1, extra))
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    head = b"II*\0" + struct.pack("<I", bits_at + 2 * samples)
    path.write_bytes(head + content + struct.pack("<H", 16) * samples + directory)


Save = Callable[[Path, NDArray[np.uint16]], None]
SAVED: list[tuple[str, Save]] = [("png", save_png), ("tif", save_tiff)]


def scans(root: Path, brightest: int, ending: str, save: Save, *shape: int) -> None:
    """Flat images of two classes, `dark` at a quarter of the range and `light` at all of it."""
    for name, level in (("dark", brightest // 4), ("light", brightest)):
        (root / name).mkdir(parents=True)
        for number in range(10):
            values = np.full((SIDE, SIDE, *shape), level - number, np.uint16)
            save(root / name / f"{number}.{ending}", values)


def load(root: Path, **settings: object) -> OurDataset:
    section = DataSection(name=f"folder:{root}", size=SIDE, **settings)  # type: ignore[arg-type]
    return loading.load(section, device="cpu")


@pytest.mark.parametrize(("ending", "save"), SAVED)
@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("brightest", [1023, 4095, 65535])
def test_white_is_the_largest_value_of_the_training_images(
    tmp_path: Path, ending: str, save: Save, shape: tuple[int, ...], brightest: int
) -> None:
    scans(tmp_path / "d", brightest, ending, save, *shape)
    dataset = load(tmp_path / "d")
    stored = dataset.train.first(99)
    light = stored[dataset.train.labels == 1]
    dark = stored[dataset.train.labels == 0]
    assert light.min() >= 252
    assert 60 <= dark.min() <= dark.max() <= 64
    assert dataset.bits == brightest.bit_length()


@pytest.mark.parametrize(("ending", "save"), SAVED)
def test_images_that_use_all_bits_are_as_they_always_were(
    tmp_path: Path, ending: str, save: Save
) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE)).astype(np.uint16)
    save(tmp_path / f"grey.{ending}", values)
    made = decode(tmp_path / f"grey.{ending}", SIDE)
    assert (made == (values >> 8).astype(np.uint8)).all()
    colours = np.random.default_rng(1).integers(0, 4096, (SIDE, SIDE, 3)).astype(np.uint16)
    save(tmp_path / f"colours.{ending}", colours)
    made = decode(tmp_path / f"colours.{ending}", Cut(SIDE, SIDE, bits=12))
    assert (made.transpose(1, 2, 0) == colours >> 4).all()


def test_grey_with_transparency_and_inks_have_their_lower_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 4096, (SIDE, SIDE, 2)).astype(np.uint16)
    values[..., 1] = 4095
    save_png(tmp_path / "grey.png", values)
    assert largest_value(tmp_path / "grey.png") == 4095
    made = decode(tmp_path / "grey.png", Cut(SIDE, SIDE, bits=12))
    assert (made == values[..., 0] >> 4).all()

    inks = random.integers(0, 4096, (SIDE, SIDE, 4)).astype(np.uint16)
    inks[..., 3] = 0
    save_tiff(tmp_path / "inks.tif", inks)
    assert largest_value(tmp_path / "inks.tif") == inks.max()
    made = decode(tmp_path / "inks.tif", Cut(SIDE, SIDE, bits=12))
    assert (made.transpose(1, 2, 0) == 255 - (inks[..., :3] >> 4)).all()


@pytest.mark.parametrize("extra", [1, 2])
def test_colours_with_transparency_have_their_lower_bits(tmp_path: Path, extra: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE, 4)).astype(np.uint16)
    values[..., 3] = 4095
    save_tiff(tmp_path / "clear.tif", values, extra=extra)
    assert largest_value(tmp_path / "clear.tif") == 4095
    made = decode(tmp_path / "clear.tif", Cut(SIDE, SIDE, bits=12))
    assert (made.transpose(1, 2, 0) == values[..., :3] >> 4).all()


def test_half_transparent_colours_that_are_multiplied_with_it_are_half_white(
    tmp_path: Path,
) -> None:
    values = np.full((SIDE, SIDE, 4), 1024, np.uint16)
    values[..., 3] = 2048
    save_tiff(tmp_path / "half.tif", values, extra=1)
    made = decode(tmp_path / "half.tif", Cut(SIDE, SIDE, bits=12))
    # a quarter of the light is the image's own, half is white behind it
    assert np.abs(made.astype(int) - 191).max() <= 2


def test_the_range_is_that_of_training_and_larger_values_are_white(tmp_path: Path) -> None:
    scans(tmp_path / "d/train", 4095, "png", save_png)
    scans(tmp_path / "d/val", 65535, "png", save_png)
    dataset = load(tmp_path / "d")
    assert dataset.bits == 12
    assert (dataset.validation.first(99) == 255).all()


def test_the_range_is_part_of_what_is_kept_and_of_the_digest(tmp_path: Path) -> None:
    scans(tmp_path / "d", 4095, "png", save_png)
    twelve, again, as_before = (
        load(tmp_path / "d"),
        load(tmp_path / "d"),
        load(tmp_path / "d", bits=16),
    )
    assert torch.equal(twelve.train.first(99), again.train.first(99))
    assert as_before.train.first(99).max() == 15
    assert twelve.digest == again.digest != as_before.digest


def test_images_of_8_bits_need_no_range(tmp_path: Path) -> None:
    for name, level in (("dark", 60), ("light", 200)):
        (tmp_path / "d" / name).mkdir(parents=True)
        for number in range(10):
            values = np.full((SIDE, SIDE, 3), level - number, np.uint8)
            Image.fromarray(values).save(tmp_path / "d" / name / f"{number}.png")
    found, fixed = load(tmp_path / "d"), load(tmp_path / "d", bits=16)
    assert torch.equal(found.train.first(99), fixed.train.first(99))
    assert found.digest == fixed.digest


def test_scans_that_differ_in_their_lower_bits_are_no_copies(tmp_path: Path) -> None:
    scans(tmp_path / "d", 255, "png", save_png)
    inventory = take(str(tmp_path / "d"))
    assert not folders_made.of_kind(inventory, "copies")
    assert not folders_made.of_kind(inventory, "near_copies")


def test_a_study_from_before_keeps_its_range() -> None:
    table = json.loads(recipe().to_json())
    del table["data"]["bits"]
    assert frozen_recipe(json.dumps(table), where="a study").data.bits == 16
    assert frozen_recipe(recipe().to_json(), where="a study").data.bits == "auto"


def test_masks_and_boxes_are_read_by_the_same_range(tmp_path: Path) -> None:
    root = tmp_path / "masked"
    for inside in ("images", "masks"):
        (root / inside).mkdir(parents=True)
    (root / "classes.txt").write_text("ground\nroad\n")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : SIDE // 2] = 1
    for number in range(8):
        save_png(root / f"images/{number}.png", np.full((SIDE, SIDE), 4095 - number, np.uint16))
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    section = DataSection(name=f"folder:{root}", size=SIDE)
    masked = loading.load(section, device="cpu", task=TASKS["segmentation"])
    assert masked.train.first(9).min() >= 255

    boxed = tmp_path / "boxed"
    boxed.mkdir()
    box = {"category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 0}
    size = {"width": SIDE, "height": SIDE}
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", **size} for n in range(8)],
        "annotations": [{"id": n, "image_id": n, **box} for n in range(8)],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (boxed / "train.json").write_text(json.dumps(content))
    for number in range(8):
        save_png(boxed / f"{number}.png", np.full((SIDE, SIDE), 4095 - number, np.uint16))
    section = DataSection(name=f"coco:{boxed}", size=SIDE)
    found = loading.load(section, device="cpu", task=TASKS["detection"])
    assert found.train.first(9).min() >= 255


class Scans(Dataset[tuple[Image.Image, int]]):
    def __init__(self, brightest: int, count: int = 12) -> None:
        self.levels = [brightest - 40 * number for number in range(count)]

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        values = np.full((SIDE, SIDE), self.levels[number], np.uint16)
        return Image.fromarray(values), number % 2


def own_scans(split: str) -> Scans | None:
    return Scans(4095) if split == "train" else None


class Wide(Scans):
    def __getitem__(self, number: int) -> tuple[NDArray[np.uint16], int]:  # type: ignore[override]
        return np.full((SIDE, SIDE), self.levels[number], np.uint16), number % 2


def own_arrays(split: str) -> Scans | None:
    return Wide(4095) if split == "train" else None


def test_a_data_set_of_ones_own_has_one_range_too() -> None:
    section = DataSection(name=f"{__name__}:own_scans")
    dataset = loading.load(section, device="cpu")
    assert dataset.bits == 12
    assert dataset.train.first(99).max() >= 250
    with pytest.raises(DataError, match=r"to 4095: give bytes"):
        loading.load(DataSection(name=f"{__name__}:own_arrays"), device="cpu")

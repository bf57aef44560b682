"""Photographs that EXIF data turn: their boxes and masks lie on what they were drawn round,
whichever the program that drew them looked at, or a person is told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageOps

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tasks import TASKS

DrawnOn = Literal["stored", "shown"]
WIDE = (48, 32)
SQUARE = (40, 40)
SIDE = 48
BACK = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
SAME_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    7: Image.Transpose.TRANSVERSE,
}


@dataclass(frozen=True)
class Photo:
    """A picture with a red thing, and what its labels are drawn on."""

    orientation: int
    drawn_on: DrawnOn = "shown"
    # as it is shown
    size: tuple[int, int] = WIDE

    def save(self, path: Path) -> Image.Image:
        """Saves the picture; returns the thing's mask, as it was drawn."""
        width, height = self.size
        mask = np.zeros((height, width), np.uint8)
        mask[2 : height // 2, 3 : width // 2 + 2] = 1
        shown = np.full((height, width, 3), 60, np.uint8)
        shown[mask == 1] = (255, 0, 0)
        stored = self._stored(Image.fromarray(shown))
        exif = Image.Exif()
        exif[0x0112] = self.orientation
        stored.save(path, exif=exif, quality=95)
        with Image.open(path) as opened:
            assert ImageOps.exif_transpose(opened).size == self.size
        drawn = Image.fromarray(mask)
        return drawn if self.drawn_on == "shown" else self._stored(drawn)

    def _stored(self, shown: Image.Image) -> Image.Image:
        turn = (BACK | SAME_BACK).get(self.orientation)
        return shown if turn is None else shown.transpose(turn)


UPRIGHT = Photo(1)


def coco(folder: Path, ending: str = "jpg", **splits: Sequence[Photo]) -> DataSection:
    for split, photos in splits.items():
        (folder / split).mkdir(parents=True)
        rows: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "red"}],
        }
        for number, photo in enumerate(photos, 1):
            name = f"{number}.{ending}"
            mask = photo.save(folder / split / name)
            left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
            image = {"id": number, "file_name": name, "width": mask.width, "height": mask.height}
            box = {"bbox": [left, top, right - left, bottom - top], "category_id": 1}
            rows["images"].append(image)
            rows["annotations"].append({"id": number, "image_id": number, **box})
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return DataSection(name=f"coco:{folder}", size=SIDE)


def masks(folder: Path, ending: str = "jpg", **splits: Sequence[Photo]) -> DataSection:
    folder.mkdir()
    (folder / "classes.txt").write_text("ground\nred\n")
    for split, photos in splits.items():
        for inside in ("images", "masks"):
            (folder / split / inside).mkdir(parents=True)
        for number, photo in enumerate(photos):
            mask = photo.save(folder / split / f"images/{number}.{ending}")
            mask.save(folder / split / f"masks/{number}.png")
    return DataSection(name=f"folder:{folder}", size=32)


def load(section: DataSection) -> Dataset:
    task = "detection" if section.name.startswith("coco:") else "segmentation"
    return loading.load(section, device="cpu", task=TASKS[task])


def on_their_things(dataset: Dataset) -> bool:
    """Whether the labels of all splits lie on what is red."""
    splits = [dataset.train, dataset.validation]
    if not dataset.missing_test:
        splits.append(dataset.read_test("a test of its labels"))
    return all(map(_on_its_things, splits))


def _on_its_things(split: Split) -> bool:
    ((images, y),) = split.stored(len(split))
    red = (images[:, 0] > 128) & (images[:, 1] < 100)
    if y.ndim == 3 and y.shape[1:] == red.shape[1:]:
        return bool(((y == 1) == red).float().mean() > 0.9)
    for there, (box,) in zip(red, y.tolist(), strict=True):
        rows = there.any(1).nonzero().flatten().tolist()
        columns = there.any(0).nonzero().flatten().tolist()
        corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        if box[1:] != pytest.approx(corners, abs=2):
            return False
    return True


@pytest.mark.parametrize("make", [coco, masks])
def test_labels_lie_on_their_things(tmp_path: Path, make: Any) -> None:
    upright = [UPRIGHT] * 3
    assert on_their_things(load(make(tmp_path / "photos", train=upright, val=upright)))


@pytest.mark.parametrize("make", [coco, masks])
@pytest.mark.parametrize(
    "turned", [Photo(3), Photo(2), Photo(6), Photo(6, "stored"), Photo(8, "shown", SQUARE)]
)
def test_a_turned_image_with_labels_is_refused_with_the_way_out(
    tmp_path: Path, make: Any, turned: Photo
) -> None:
    section = make(tmp_path / "photos", train=[UPRIGHT, turned], val=[UPRIGHT])
    with pytest.raises(DataError, match="mogrify -auto-orient"):
        load(section)

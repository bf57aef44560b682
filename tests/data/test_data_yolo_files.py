"""Labels as ultralytics reads them: what it would leave out, or read otherwise, is said before."""

from __future__ import annotations

from pathlib import Path

import materials
import numpy as np
import pytest
from PIL import Image

from nas_attn.data.inventory import Inventory
from nas_attn.data.looks import of
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection

pytest.importorskip("yaml", reason="PyYAML, which ultralytics brings, is not installed")

BOX = "0 0.5 0.5 0.2 0.2"


def taken(root: Path) -> Inventory:
    inventory = of(DataSection(name=f"yolo:{root / 'data.yaml'}"), "boxes")
    assert inventory is not None
    return inventory


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    materials.discs(tmp_path / "d", count=8)
    yaml = tmp_path / "d/data.yaml"
    yaml.write_text(yaml.read_text().replace("test: images/val\n", ""))
    return tmp_path / "d"


@pytest.mark.parametrize("width", ["0", "-0.0005"])
def test_boxes_without_an_area_have_no_size(discs: Path, width: str) -> None:
    for path in (discs / "labels").rglob("*.txt"):
        path.write_text(f"0 0.5 0.5 {width} 0.2")
    inventory = taken(discs)
    assert inventory.boxes is None
    assert inventory.proposed(640) == (640, "cut")


def test_labels_that_lie_elsewhere_are_looked_for_by_name(discs: Path) -> None:
    (discs / "labels").rename(discs / "annotations")
    with pytest.raises(DataError, match=r"no image of train .*labels.train.00.txt'"):
        taken(discs)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("names: [disc]", "", "names no classes"),
        ("val: images/val\n", "", "has no 'val'"),
        ("val: images/val\n", "val: images/valid\n", "images.valid' for val, where no image is"),
    ],
)
def test_what_is_wrong_with_the_yaml_is_one_sentence(
    discs: Path, old: str, new: str, said: str
) -> None:
    described = discs / "data.yaml"
    described.write_text(described.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        taken(discs)


def test_the_path_of_another_computer_is_named(discs: Path) -> None:
    described = discs / "data.yaml"
    elsewhere = described.read_text().replace(f"path: {discs}", "path: /content/datasets/discs")
    described.write_text(elsewhere)
    with pytest.raises(DataError, match=r"images/train' is there: remove 'path: /content"):
        taken(discs)
    # ultralytics downloads it
    described.write_text(f"{elsewhere}download: https://example.org/discs.zip\n")
    assert of(DataSection(name=f"yolo:{described}"), "boxes") is None


def test_a_path_relative_to_the_working_folder(
    discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(discs)
    yaml = discs / "data.yaml"
    lines = [line for line in yaml.read_text().splitlines() if not line.startswith("path:")]
    yaml.write_text("\n".join(["path: .", *lines]))
    assert taken(discs).counts["train"] == {"": 8}


def test_deep_images_are_to_be_saved_with_8_bits(discs: Path) -> None:
    for path in (discs / "images").rglob("*.png"):
        grey = np.asarray(Image.open(path).convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 16).save(path)
    said = "\n".join(taken(discs).described())
    assert "save them as RGB with 8 bits" in said
    assert "data.channels" not in said

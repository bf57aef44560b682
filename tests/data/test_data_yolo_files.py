"""Labels as ultralytics reads them: what it would leave out, or read otherwise, is said before."""

from __future__ import annotations

from pathlib import Path

import materials
import pytest

from nas_attn.data.inventory import Inventory
from nas_attn.data.taking import of
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection

pytest.importorskip("yaml", reason="PyYAML, which ultralytics brings, is not installed")

TRIANGLE = "0 0.2 0.2 0.6 0.2 0.4 0.6"
# of three images that are left out, and of one that is not
TEXTS = ("7 0.5 0.5 0.2 0.2", "0 1.5 0.5 0.2 0.2", "0 0.5 0.5 0.2", "")
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 0.5 0.5 0.2 0.2", "line 1 of its labels has the class 1, but the classes are 0 to 0"),
        (f"{BOX}\n-1 0.5 0.5 0.2 0.2", "line 2 of its labels has the class -1"),
        ("0 1.5 0.5 0.2 0.2", "leaves the image"),
        ("0 32 32 10 10", "leaves the image"),
        ("0 0.5 nan 0.2 0.2", "leaves the image"),
        ("0 0.5 0.5 0.2", "has 4 numbers: a box has 5"),
        ("disc 0.5 0.5 0.2 0.2", "is no row of numbers"),
        (f"{TRIANGLE}\n{BOX}", "its labels mix boxes and polygons"),
    ],
)
def test_an_image_that_ultralytics_would_leave_out_is_named(
    discs: Path, text: str, why: str
) -> None:
    (discs / "labels/train/02.txt").write_text(text)
    inventory = taken(discs)
    assert inventory.counts["train"] == {"": 7}
    assert list(inventory.unreadable) == ["images/train/02.png"]
    assert why in "\n".join(inventory.described())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 image of train without a box ('images/train/02.png')"),
        (TRIANGLE, "1 polygon in the labels of train"),
        (f"{BOX}\n{BOX}", "1 label of train twice, counted once"),
    ],
)
def test_labels_that_mean_something_else_are_said(discs: Path, text: str, said: str) -> None:
    (discs / "labels/train/02.txt").write_text(text)
    inventory = taken(discs)
    assert not inventory.unreadable
    assert said in "\n".join(inventory.described())


def test_a_box_of_a_pose_is_whole(discs: Path) -> None:
    described = discs / "data.yaml"
    described.write_text(f"{described.read_text()}kpt_shape: [1, 2]\n")
    for path in (discs / "labels").rglob("*.txt"):
        path.write_text(f"{BOX} 0.4 0.4")
    (discs / "labels/train/02.txt").write_text("0 0.5 0.5")
    inventory = taken(discs)
    assert list(inventory.unreadable) == ["images/train/02.png"]
    assert "line 1 of its labels has 3 numbers" in "\n".join(inventory.described())


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
        ("names: [disc]", "names: [disc]\nnc: 3", "says nc: 3, but names 1 classes"),
        ("names: [disc]", "names:\n  1: disc\n  2: ring", "numbers its classes '1', '2'"),
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


def test_labels_that_are_all_wrong_are_refused_at_once(discs: Path) -> None:
    for path in (discs / "labels").rglob("*.txt"):
        path.write_text("0,0.5,0.5,0.2,0.2")
    with pytest.raises(DataError, match=r"16 images .*line 1 of its labels"):
        taken(discs)


def test_a_path_relative_to_the_working_folder(
    discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(discs)
    yaml = discs / "data.yaml"
    lines = [line for line in yaml.read_text().splitlines() if not line.startswith("path:")]
    yaml.write_text("\n".join(["path: .", *lines]))
    assert taken(discs).counts["train"] == {"": 8}


@pytest.mark.extras("ultralytics")
def test_ultralytics_leaves_out_the_same_images(discs: Path) -> None:
    from ultralytics.data import utils

    for number, text in enumerate(TEXTS):
        (discs / f"labels/train/{2 * number:02}.txt").write_text(text)
    unreadable = taken(discs).unreadable
    for image in sorted((discs / "images/train").iterdir()):
        label = discs / "labels/train" / f"{image.stem}.txt"
        found = utils.verify_image_label((str(image), str(label), "", False, 1, 0, 0, False))
        left_out = found[0] is None
        assert left_out == (f"images/train/{image.name}" in unreadable)

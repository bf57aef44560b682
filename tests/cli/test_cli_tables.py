"""A folder of images with a table, from `init` to the exported file: several labels, numbers."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Nas
from PIL import Image, ImageDraw

from nas_attn.answer.reading import answer
from nas_attn.recipe.reading import load_recipe
from nas_attn.report.pictures import maps
from nas_attn.storage import opening

IMAGES = 60
QUICK = [
    *("--set", "training.rungs=[1]", "--set", "search.baselines=bare", "--set", "data.size=16"),
    *("--set", "search.confirm_seeds=0", "--set", "latency.tolerance=0.9"),
    *("--set", "backbone.width=4", "--workers", "1", "--threads", "1"),
]


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images with a circle, a square, both or none; how bright they are, from 1,000 on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").mkdir()
    rows: list[list[object]] = [["image", "circle", "square", "brightness"]]
    for number in range(IMAGES):
        ground = 40 + 3 * number
        image = Image.new("RGB", (16, 16), (ground, ground, ground))
        pen = ImageDraw.Draw(image)
        if number % 2:
            pen.ellipse((1, 1, 7, 7), fill="red")
        if number // 2 % 2:
            pen.rectangle((8, 8, 14, 14), fill="blue")
        image.save(tmp_path / f"shapes/{number:02}.png")
        rows.append([f"{number:02}.png", number % 2, number // 2 % 2, 1000 + ground / 10])
    with (tmp_path / "shapes/labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "shapes"


def columns(shapes: Path, *names: str) -> None:
    """Leaves only these columns in the table."""
    with (shapes / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (shapes / "labels.csv").open("w", newline="") as file:
        written = csv.DictWriter(file, ["image", *names], extrasaction="ignore")
        written.writeheader()
        written.writerows(rows)


def program(path: str) -> torch.nn.Module:
    return torch.export.load(path).module()


def photographs(shapes: Path, card: str) -> torch.Tensor:
    """All images as the exported file takes them."""
    given = json.loads(Path(card).read_text())["input"]
    files = sorted(shapes.glob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files]) / 255
    mean, std = (np.array(given[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    return torch.from_numpy((pixels - mean) / std).float()


def mapped() -> list[list[str]]:
    """What stands under the maps of the search's last network, by image."""
    opened = opening.open_study("shapes", "sqlite:///nas_attn.db")
    now = answer(opened.store).now
    found = maps(opened, now.candidates[-1])
    rows = [[line for one in row for line in one.lines] for row in found.images]
    assert all("class" in row for row in rows)
    return rows


# 10 s; tests/training/tasks asks each part of every task: proposal, training, exported file
@pytest.mark.slow
def test_several_labels_from_init_to_the_exported_file(shapes: Path, nas: Nas) -> None:
    columns(shapes, "circle", "square")
    said = nas("init", "shapes", "--backbone", "resnet8", "--target", "scratch").out
    assert "task: multi-label, since 'labels.csv' has 0 or 1 in 'circle', 'square'" in said
    recipe = load_recipe("shapes.toml")
    assert (recipe.task.name, recipe.objectives) == ("multi-label", ["mean_ap", "latency"])
    quick = [*QUICK, "--set", "target.epochs=1", "--trials", "2"]
    # the folder is searched as init proposes
    own = ["--backbone", "resnet8", "--target", "scratch"]
    found = nas("search", "shapes", *own, *quick, "--json").json
    assert found["objectives"] == ["mean_ap", "latency"]
    for candidate in found["candidates"]:
        for score in candidate["scores"]:
            assert score["metrics"].keys() >= {"mean_ap", "macro_f1", "loss"}
    page = Path("shapes.html").read_text("utf-8")
    assert "images by label: circle 30, square 30; 15 have several, 15 none" in page
    # from the least labels to the most
    assert {row[0] for row in mapped()} >= {"no label", "circle, square"}
    more = nas("resume", "shapes", "--trials", "3", "--workers", "1", "--threads", "1", "--json")
    assert len(more.json["candidates"]) == 3
    nas("export", "shapes", "--placement", "1", "--format", "torch", "--output", "net.pt2")
    agreed = nas("validate-export", "net.pt2", "--json").json
    assert agreed["agrees"]
    card = json.loads(Path("net.pt2.json").read_text())
    assert card["output"] == {"shape": ["N", 2], "what": "logits", "classes": ["circle", "square"]}
    assert "before sigmoid. Labels in order: circle, square." in Path("net.pt2.md").read_text()
    assert program("net.pt2")(photographs(shapes, "net.pt2.json")).shape == (IMAGES, 2)
    assert "07.png" not in Path("net.pt2.json").read_text()
    moved = shapes.rename(shapes.with_name("moved"))
    assert nas("validate-export", "net.pt2", "--root", str(moved), "--json").json["agrees"]


@pytest.mark.parametrize("target", [["--target", "scratch"], ["--target", "weights"]])
def test_images_of_numbers_are_not_mirrored_unasked(
    shapes: Path, nas: Nas, target: list[str]
) -> None:
    columns(shapes, "brightness")
    backbone = "resnet8" if "scratch" in target else "torchvision:resnet18"
    assert "augment: none" in nas("init", "shapes", "--backbone", backbone, *target).out
    assert load_recipe("shapes.toml").target_training.augment == []
    taken = nas("init", "shapes", "--backbone", backbone, *target, "--force", "--yes").out
    assert "augment: none" in taken
    assert "--trials" not in taken


# 10 s each, as several labels above; test_target_scores.py has the units
@pytest.mark.slow
@pytest.mark.parametrize("format_", ["torch", "weights"])
def test_numbers_from_init_to_a_file_that_gives_them_in_their_units(
    shapes: Path, nas: Nas, format_: str
) -> None:
    columns(shapes, "brightness")
    said = nas("init", "shapes", "--backbone", "resnet8", "--target", "scratch").out
    assert "task: regression, since 'labels.csv' has numbers in 'brightness'" in said
    quick = [*QUICK, "--set", "target.epochs=3", "--set", "training.rungs=[3]", "--trials", "2"]
    found = nas("search", "shapes.toml", *quick, "--json").json
    assert found["objectives"] == ["mae", "latency"]
    page = Path("shapes.html").read_text("utf-8")
    worst = page[page.index("network is off most") :]
    assert re.search(r"brightness [\d.]+<br>.*off by [\d.]+<", worst)
    numbers = [float(row[0].removeprefix("brightness ")) for row in mapped()]
    # from the smallest to the largest
    assert len(set(numbers)) == 4
    more = nas("resume", "shapes", "--trials", "3", "--workers", "1", "--threads", "1", "--json")
    assert len(more.json["candidates"]) == 3
    ending = {"torch": "pt2", "weights": "pt"}[format_]
    nas("export", "shapes", "--placement", "1", "--format", format_, "--output", f"net.{ending}")
    agreed = nas("validate-export", f"net.{ending}", "--json").json
    assert agreed["agrees"]
    # a bare mean is off by four and a half
    assert 0 < agreed["mae"] < 20
    card = json.loads(Path(f"net.{ending}.json").read_text())
    units = {name: card["output"].pop(name) for name in ("scale", "shift")}
    assert card["output"] == {"shape": ["N", 1], "what": "numbers", "classes": ["brightness"]}
    assert 1000 < units["shift"][0] < 1020
    lines = Path(f"net.{ending}.md").read_text().partition("## Use")[2]
    # a network learns standard deviations, and its weights give them
    assert (str(units["scale"]) in lines) == (format_ == "weights")
    if format_ == "torch":
        given = program("net.pt2")(photographs(shapes, "net.pt2.json"))
        assert given.shape == (IMAGES, 1)
        # in the units of the table, and not in standard deviations
        assert (given - 1010).abs().max() < 60


def test_a_wrong_table_is_said_by_init_and_ends_the_search_in_one_sentence(
    shapes: Path, nas: Nas
) -> None:
    table = shapes / "labels.csv"
    table.write_text(table.read_text().replace("07.png,1,1", "07.png,1,x"))
    columns(shapes, "circle", "square")
    ended = nas("init", "shapes", "--backbone", "resnet8", "--task", "multi-label")
    assert ended.status == 0
    assert "line 9: 'x' in the column 'square' is neither 0 nor 1" in ended.out
    ended = nas("search", "shapes.toml", *QUICK, "--set", "target.epochs=1")
    assert ended.status == 2
    assert "line 9: 'x' in the column 'square'" in ended.error


def test_a_folder_is_searched_as_init_proposes_for_an_hour_if_nobody_has_to_choose(
    shapes: Path, nas: Nas
) -> None:
    own = ["--backbone", "resnet8", "--target", "scratch", "--dry-run"]
    ended = nas("search", "shapes", *own)
    assert ended.status == 2
    assert "'circle', 'square', 'brightness'" in ended.error
    assert "nas-attn init shapes --column circle" in ended.error
    chosen = ["--set", 'data.table.columns=["brightness"]', "--set", "backbone.width=4"]
    planned = nas("search", "shapes", *own, *chosen, "--json").json
    assert planned["time"]["seconds"] == 3600
    columns(shapes, "brightness")
    ended = nas("search", "shapes", *own, "--set", "backbone.width=4")
    assert "task: regression, since 'labels.csv' has numbers in 'brightness'" in ended.err
    assert "columns: 'brightness'" in ended.out


def test_init_learns_the_columns_that_it_is_given(shapes: Path, nas: Nas) -> None:
    own = ["--backbone", "resnet8", "--target", "scratch"]
    said = nas("init", "shapes", *own, "--column", "brightness").out
    assert "task: regression" in said
    recipe = load_recipe("shapes.toml")
    assert recipe.data.table is not None
    assert recipe.data.table.columns == ["brightness"]

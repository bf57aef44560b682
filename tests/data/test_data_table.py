"""Folders of images with a table: a class, several labels, or numbers of each image."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas_attn.cli.init import proposed_task
from nas_attn.data import loading, looks
from nas_attn.data.dataset import Dataset, Split
from nas_attn.errors import DataError, RecipeError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import DataSection, GroupsSection
from nas_attn.recipe.sections import TableSection
from nas_attn.recipe.tables import Kind
from nas_attn.recipe.task import Task

IMAGES = 40
HEAD = ["image", "red", "blue"]
TASKS: dict[Kind, Task] = {"tags": tasks.TASKS["multi-label"], "numbers": tasks.TASKS["regression"]}


def name_of(number: int) -> str:
    return f"p{number // 4}_{number:02}.png"


def pictures(folder: Path, numbers: Sequence[int] = range(IMAGES)) -> None:
    """Images whose brightness is their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 3, (8, 8, 3))
        Image.fromarray((noise + 5 * number).astype(np.uint8)).save(folder / name_of(number))


def table(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def bits(number: int) -> tuple[int, int]:
    """Labels of an image: every fourth has none."""
    return number % 2, number // 2 % 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pictures(tmp_path / "photos/images")
    rows = [[f"images/{name_of(n)}", *bits(n)] for n in range(IMAGES)]
    table(tmp_path / "photos/labels.csv", [HEAD, *rows])
    return tmp_path / "photos"


def load(root: Path, kind: Kind = "tags", source: str = "folder", **section: Any) -> Dataset:
    given = DataSection(name=f"{source}:{root}", size=8, resplit=False, **section)
    return loading.load(given, device="cpu", task=TASKS[kind])


def numbers_of(split: Split) -> list[int]:
    """The images of a split by their brightness."""
    return (split.first(len(split)).float().mean((1, 2, 3)) // 5).long().tolist()


def targets_of(split: Split) -> list[Any]:
    assert split.targets is not None
    return split.targets.tolist()


def parts(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.validation, dataset.read_test("a test")]


def refused(root: Path, kind: Kind = "tags", **section: Any) -> str:
    """The one sentence with which images are refused, loaded or looked at."""
    said = []
    for look in (
        load,
        lambda *a, **k: looks.of(DataSection(name=f"folder:{root}", **section), kind),
    ):
        with pytest.raises(DataError) as caught:
            look(root, kind, **section)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


def test_labels_of_columns_belong_to_their_images_in_each_split(root: Path) -> None:
    dataset = load(root)
    assert dataset.classes == ("red", "blue")
    assert [len(part) for part in parts(dataset)] == [26, 6, 8]
    for part in parts(dataset):
        assert targets_of(part) == [list(map(float, bits(n))) for n in numbers_of(part)]
    assert sorted(n for part in parts(dataset) for n in numbers_of(part)) == list(range(IMAGES))
    x, y = next(dataset.train.batches(5))
    assert (tuple(x.shape), tuple(y.shape)) == ((5, 3, 8, 8), (5, 2))


@pytest.mark.parametrize(
    ("sign", "names"),
    [
        (";", ("a red", "blue")),
        ("|", ("a red", "blue")),
        (",", ("a red", "blue")),
        (" ", ("blue", "red")),
    ],
)
def test_labels_of_a_list_are_parted_by_the_sign_that_occurs_in_it(
    root: Path, sign: str, names: tuple[str, ...]
) -> None:
    words = sorted(names, key=lambda name: "blue" in name)
    rows = []
    for number in range(IMAGES):
        own = [word for word, bit in zip(words, bits(number), strict=True) if bit]
        rows.append(
            [f"images/{name_of(number)}", f"{sign} ".join(own) if sign != " " else " ".join(own)]
        )
    table(root / "labels.csv", [["image", "labels"], *rows])
    dataset = load(root)
    assert dataset.classes == names
    swapped = names[0] == "blue"
    for number, found in zip(numbers_of(dataset.train), targets_of(dataset.train), strict=True):
        assert found == list(map(float, bits(number)[::-1] if swapped else bits(number)))


@pytest.mark.parametrize(
    "named", ["{}.png", "images/{}.png", "{}", "images\\{}.png", "./images/{}.png"]
)
def test_images_are_found_by_path_or_name_with_or_without_an_ending(root: Path, named: str) -> None:
    rows = [[n, named.format(name_of(n)[:-4]), 2.5 * n, "x"] for n in range(IMAGES)]
    # as pandas writes an index, and as German programs write tables
    table(root / "labels.csv", [["", "file", "age", "who"], *rows], delimiter=";")
    dataset = load(root, "numbers", table=TableSection(columns=["age"]))
    assert dataset.classes == ("age",)
    assert targets_of(dataset.train) == [[2.5 * n] for n in numbers_of(dataset.train)]
    assert dataset.moments is not None
    assert dataset.moments[0].item() == pytest.approx(np.mean(targets_of(dataset.train)))
    assert dataset.moments[1].item() == pytest.approx(np.std(targets_of(dataset.train)))


def test_splits_come_from_a_column(root: Path) -> None:
    of = {0: "train", 1: "Train", 2: "val", 3: "test"}
    rows = [[name_of(n), of[n // 2 % 4], *bits(n)] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "split", "red", "blue"], *rows])
    dataset = load(root)
    for number, part in enumerate(parts(dataset)):
        assert {max(0, n // 2 % 4 - 1) for n in numbers_of(part)} == {number}
    table(
        root / "labels.csv",
        [["image", "split", "red", "blue"], *[r for r in rows if r[1] != "test"]],
    )
    assert "give some images of 'labels.csv' to the test" in load(root).missing_test
    rows[3][1] = "both"
    table(root / "labels.csv", [["image", "split", "red", "blue"], *rows])
    assert "line 5 is in no split" in refused(root)


def test_splits_come_from_tables_that_are_called_after_them(root: Path) -> None:
    (root / "labels.csv").unlink()
    for name, numbers in {"train": range(24), "val": range(24, 32), "test": range(32, 40)}.items():
        table(root / f"{name}.csv", [HEAD, *[[name_of(n), *bits(n)] for n in numbers]])
    assert [numbers_of(part)[0] for part in parts(load(root))] == [0, 24, 32]


def test_splits_come_from_the_folders_of_the_images(root: Path) -> None:
    for name, numbers in {"train": range(28), "val": range(28, 40)}.items():
        pictures(root / name, numbers)
    for path in (root / "images").iterdir():
        path.unlink()
    table(root / "labels.csv", [HEAD, *[[name_of(n), *bits(n)] for n in range(IMAGES)]])
    dataset = load(root)
    assert [len(dataset.train), len(dataset.validation)] == [28, 12]
    assert "has no test split" in dataset.missing_test


def test_groups_stay_together(root: Path) -> None:
    dataset = load(root, groups=GroupsSection(pattern="(p[0-9]+)_"))
    homes = [{number // 4 for number in numbers_of(part)} for part in parts(dataset)]
    assert not homes[0] & homes[1]
    assert not homes[1] & homes[2]


def test_a_changed_label_is_another_data_set_and_is_told(root: Path) -> None:
    before = load(root)
    rows = [[name_of(n), *(bits(n) if n else (1, 1))] for n in range(IMAGES)]
    table(root / "labels.csv", [HEAD, *rows])
    after = load(root)
    assert before.manifest is not None
    assert after.manifest is not None
    said = after.manifest.described_changes(before.manifest.text)
    assert "1 image changed" in said


def test_an_inventory_counts_labels_and_tells_of_numbers(root: Path) -> None:
    pictures(root / "more", [IMAGES])
    section = DataSection(name=f"folder:{root}")
    inventory = looks.of(section, "tags")
    assert inventory is not None
    lines = inventory.described()
    assert lines[0] == "2 labels, 40 images, 0 unreadable"
    assert "images by label: red 20, blue 20; 10 have several, 10 none" in lines
    assert "not read: 1 file that the table does not name, 'more/p10_40.png'" in lines
    inventory = looks.of(section, "numbers")
    assert inventory is not None
    assert inventory.described()[0] == "2 columns, 40 images, 0 unreadable"
    assert any("red from 0 to 1 (mean 0.5)" in line for line in inventory.described())


BAD_CELLS = [
    pytest.param("tags", "2", "line 4: '2' in the column 'red' is neither 0 nor 1", id="two"),
    pytest.param("tags", "", "line 4: '' in the column 'red' is neither", id="missing label"),
    pytest.param(
        "numbers", "about 3", "line 4: 'about 3' in the column 'red' is no number", id="text"
    ),
    pytest.param("numbers", "", "line 4: '' in the column 'red' is no number", id="missing number"),
    pytest.param("numbers", "nan", "line 4: 'nan' in the column 'red' is no number", id="nan"),
]


@pytest.mark.parametrize(("kind", "cell", "said"), BAD_CELLS)
def test_a_wrong_cell_is_refused_with_its_line_and_column(
    root: Path, kind: Kind, cell: str, said: str
) -> None:
    rows: list[list[object]] = [[name_of(n), *bits(n)] for n in range(IMAGES)]
    rows[2][1] = cell
    table(root / "labels.csv", [HEAD, *rows])
    assert said in refused(root, kind)


def test_what_is_the_same_for_all_images_is_refused(root: Path) -> None:
    table(root / "labels.csv", [HEAD, *[[name_of(n), 3, n] for n in range(IMAGES)]])
    with pytest.raises(DataError, match="has the value 3 of 'red' for all of its images"):
        load(root, "numbers")


WRONG_TABLES = [
    pytest.param([HEAD], "no line below its first", id="no lines"),
    pytest.param([["image"], [name_of(0)]], "has no column beside 'image'", id="no labels"),
    pytest.param(
        [HEAD, [name_of(0), 1]], "line 2 has 2 cells, and its first line 3", id="short line"
    ),
    pytest.param([["image", "red", "red"], [name_of(0), 1, 1]], "two columns 'red'", id="twice"),
    pytest.param([HEAD, ["gone.png", 1, 0]], "line 2: 'gone.png' is not in", id="gone"),
    pytest.param([[name_of(0), 1, 0]] * 2, "begins with an image", id="no header"),
    pytest.param([HEAD, [name_of(0), 1, 0], [name_of(0), 1, 1]], "again", id="image twice"),
]


@pytest.mark.parametrize(("rows", "said"), WRONG_TABLES)
def test_a_wrong_table_is_refused_in_one_sentence(
    root: Path, rows: list[list[object]], said: str
) -> None:
    table(root / "labels.csv", rows)
    with pytest.raises(DataError, match=said):
        load(root)
    refused(root)


def test_a_folder_without_a_table_or_with_several_is_refused(root: Path) -> None:
    table(root / "other.csv", [HEAD, [name_of(0), 1, 0]])
    assert "several tables, 'labels.csv', 'other.csv': name one in data.table.file" in refused(root)
    assert load(root, table=TableSection(file="labels.csv")).classes == ("red", "blue")
    (root / "other.csv").unlink()
    (root / "labels.csv").unlink()
    assert "has no table of its images: name one" in refused(root)
    assert "cannot be read" in refused(root, table=TableSection(file="labels.csv"))


def test_a_column_that_is_not_there_is_refused(root: Path) -> None:
    said = refused(root, table=TableSection(columns=["rad"]))
    assert "has no column 'rad'" in said
    assert "'red'" in said


def test_a_table_is_refused_where_no_task_reads_it() -> None:
    data = {"name": "folder:photos", "table": {"file": "labels.csv"}}
    network = {"name": "torchvision:lraspp_mobilenet_v3_large"}
    content = {"name": "s", "space": "small", "backbone": network, "data": data}
    content["task"] = {"name": "segmentation"}
    with pytest.raises(RecipeError, match=r"data\.table is for classification, multi-label"):
        recipe_from(content, where="a test")


def coco(root: Path, *, boxed: bool, test: bool = True) -> None:
    """Annotations of images with the categories 7 and 3, with boxes or without."""
    for split, numbers in {"train": range(20), "val": range(20, 30), "test": range(30, 40)}.items():
        if split == "test" and not test:
            continue
        pictures(root / split, numbers)
        marks = [(n, c) for n in numbers for c, bit in zip((7, 3), bits(n), strict=True) if bit]
        box = {"bbox": [1, 1, 4, 4]} if boxed else {}
        sides = {"width": 8, "height": 8} if boxed else {}
        content = {
            "images": [{"id": n, "file_name": name_of(n), **sides} for n in numbers],
            "annotations": [
                {"id": at, "image_id": n, "category_id": c, **box}
                for at, (n, c) in enumerate(marks)
            ],
            "categories": [{"id": 7, "name": "red"}, {"id": 3, "name": "blue"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("boxed", [False, True])
def test_categories_of_coco_are_labels_of_their_images(tmp_path: Path, *, boxed: bool) -> None:
    coco(tmp_path, boxed=boxed)
    dataset = load(tmp_path, source="coco")
    # in the order of their numbers
    assert dataset.classes == ("blue", "red")
    assert [len(part) for part in parts(dataset)] == [20, 10, 10]
    for part in parts(dataset):
        assert targets_of(part) == [list(map(float, bits(n)[::-1])) for n in numbers_of(part)]
    inventory = looks.of(DataSection(name=f"coco:{tmp_path}"), "tags")
    assert inventory is not None
    assert any("10 have several, 10 none" in line for line in inventory.described())


def test_coco_without_a_test_split_says_so(tmp_path: Path) -> None:
    coco(tmp_path, boxed=False, test=False)
    assert "name them in data.coco.test" in load(tmp_path, source="coco").missing_test


def test_a_task_is_proposed_by_what_the_data_have(root: Path) -> None:
    def proposed() -> tuple[str, str]:
        return proposed_task(f"folder:{root}")[:2]

    assert proposed() == ("multi-label", "'labels.csv' has 0 or 1 in 'red', 'blue'")
    rows: list[list[object]] = [[name_of(n), 1.5 * n] for n in range(IMAGES)]
    rows[3][1] = "?"
    table(root / "labels.csv", [["image", "age"], *rows])
    assert proposed() == ("regression", "'labels.csv' has numbers in 'age'")
    table(root / "labels.csv", [["image", "tags"], [name_of(0), "red;blue"], [name_of(1), ""]])
    assert proposed()[0] == "multi-label"
    # texts that do not recur
    table(root / "labels.csv", [["image", "class"], [name_of(0), "red"], [name_of(1), "blue"]])
    assert proposed() == ("classification", "")
    rows = [[name_of(n), ("red", "blue")[n % 2]] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "class"], *rows])
    assert proposed() == ("classification", "'labels.csv' has a class of each image in 'class'")
    # folders of classes are classes, whatever lies beside them
    for name in ("cat", "dog"):
        pictures(root / "classes" / name, range(3))
    table(root / "classes/ages.csv", [["image", "age"], ["cat/p0_00.png", 3]])
    assert proposed_task(f"folder:{root / 'classes'}")[:2] == ("classification", "")
    pictures(root / "masked/images", range(2))
    pictures(root / "masked/masks", range(2))
    assert proposed_task(f"folder:{root / 'masked'}")[0] == "segmentation"
    coco(root / "boxed", boxed=True)
    assert proposed_task(f"coco:{root / 'boxed'}")[0] == "detection"
    coco(root / "tagged", boxed=False)
    assert proposed_task(f"coco:{root / 'tagged'}")[0] == "multi-label"


WORDS = ["red blue", "blue", "red green", "green blue", ""]
BREEDS = ["German shepherd", "golden retriever", "labrador retriever"]


@pytest.mark.parametrize(
    ("cells", "are_lists"),
    [
        (WORDS, True),
        ([cell.replace(" ", ", ") for cell in WORDS], True),
        ([cell.replace(" ", "|") for cell in WORDS], True),
        # written by Python
        ([str(cell.split()) for cell in WORDS], True),
        # a class of two words, notes, names, boxes
        (BREEDS, False),
        ([f"scan {n} of today" for n in range(IMAGES)], False),
        ([f"Doe{n}, John" for n in range(IMAGES)], False),
        ([f"[{n}.0, {2 * n}.5, 30.25]" for n in range(1, IMAGES + 1)], False),
    ],
)
def test_labels_in_a_cell_are_known_by_recurring_in_other_company(
    root: Path, cells: list[str], *, are_lists: bool
) -> None:
    rows = [[name_of(n), cells[n % len(cells)]] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "tags"], *rows])
    proposal = proposed_task(f"folder:{root}")
    if not are_lists:
        assert proposal.task == "classification"
        return
    assert proposal.task == "multi-label"
    assert load(root).classes == ("blue", "green", "red")


def test_columns_that_tell_nothing_are_left_out_and_said(root: Path) -> None:
    rows = [[n, name_of(n), 1.5 * n, f"note {n}"] for n in range(IMAGES)]
    table(root / "labels.csv", [["id", "image", "age", "note"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, proposal.columns, proposal.choice) == ("regression", ("age",), "")
    assert "not learnt: 'id', 'note'" in proposal.why
    # unless it is wanted
    assert list(proposed_task(f"folder:{root}", columns=["id"]).columns) == ["id"]
    with pytest.raises(
        DataError, match="neither classes, 0 and 1, lists of labels nor numbers in 'note'"
    ):
        proposed_task(f"folder:{root}", columns=["note"])
    with pytest.raises(DataError, match="no column 'weight'"):
        proposed_task(f"folder:{root}", columns=["weight"])
    with pytest.raises(RecipeError, match="--column age"):
        proposed_task(f"folder:{root}", "segmentation", ["age"])


@pytest.mark.parametrize(
    ("head", "row", "taken"),
    [
        (["age", "weight"], lambda n: (1.5 * n, 2.5 * n), ["age", "weight"]),
        (["male", "age"], lambda n: (n % 2, 1.5 * n), ["age"]),
        (["red", "blue", "length"], lambda n: (*bits(n), 1.5 * n), ["red", "blue"]),
        (["tags", "length"], lambda n: ("red;blue", 1.5 * n), ["tags"]),
        (["length", "breed"], lambda n: (1.5 * n, BREEDS[n % 3]), ["length"]),
    ],
)
def test_other_columns_that_may_be_learnt_are_told(
    root: Path, head: list[str], row: Callable[[int], tuple[object, ...]], taken: list[str]
) -> None:
    table(root / "labels.csv", [["image", *head], *([name_of(n), *row(n)] for n in range(IMAGES))])
    proposal = proposed_task(f"folder:{root}")
    assert all(f"'{name}'" in proposal.choice for name in head)
    # none: all
    assert list(proposal.columns or head) == taken
    # nobody asks whoever has said it
    assert not proposed_task(f"folder:{root}", columns=taken).choice


def test_a_class_of_each_image_is_read_from_a_column(root: Path) -> None:
    rows = [[name_of(n), BREEDS[n % 3], n] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "breed", "note"], *rows])
    section = DataSection(
        name=f"folder:{root}", size=8, resplit=False, table=TableSection(columns=["breed"])
    )
    dataset = loading.load(section, device="cpu")
    assert dataset.classes == tuple(BREEDS)
    for part in parts(dataset):
        assert part.labels.tolist() == [n % 3 for n in numbers_of(part)]
    inventory = looks.of(section, "classes")
    assert inventory is not None
    assert inventory.counts == {"all": dict(zip(BREEDS, (14, 13, 13), strict=True))}
    table(root / "labels.csv", [["image", "breed", "note"], *rows, [name_of(0), BREEDS[1], 0]])
    with pytest.raises(
        DataError, match=r"line 42 has the image 'p0_00.png' again.*another split, class"
    ):
        loading.load(section, device="cpu")


@pytest.mark.parametrize(
    ("values", "task"),
    [(lambda n: n % 5, "classification"), (lambda n: n % 5 + 0.5, "regression")],
)
def test_whole_numbers_that_recur_are_classes_and_it_is_said(
    root: Path, values: Callable[[int], float], task: str
) -> None:
    rows = [[name_of(n)[:-4], values(n)] for n in range(IMAGES)]
    table(root / "labels.csv", [["id_code", "diagnosis"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert proposal.task == task
    assert ("--task regression" in proposal.why) == (task == "classification")
    assert proposed_task(f"folder:{root}", "regression").task == "regression"


def test_cells_of_which_nobody_knows_are_left_out_and_counted(root: Path) -> None:
    """As in CheXpert, where -1 is uncertain and an empty cell is not mentioned."""
    edema = [("0", "1", "-1.0", "")[n % 4] for n in range(IMAGES)]
    nodule = [("1.0", "0.0", "-1")[n % 3] for n in range(IMAGES)]
    edema[5] = nodule[5] = ""
    rows = [[name_of(n), edema[n], nodule[n]] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "edema", "nodule"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.unknown)) == ("multi-label", ["", "-1"])
    assert "cells with '', '-1' count as unknown" in proposal.why
    section = DataSection.model_validate({"name": f"folder:{root}", "unknown": ["", -1]})
    assert section.unknown == ["", "-1"]
    dataset = load(root, unknown=section.unknown)
    for part in parts(dataset):
        assert part.targets is not None
        for n, row in zip(numbers_of(part), part.targets.tolist(), strict=True):
            cells = [edema[n], nodule[n]]
            wanted = [float(c) if c in ("0", "1", "0.0", "1.0") else math.nan for c in cells]
            assert row == pytest.approx(wanted, nan_ok=True)
    inventory = looks.of(section, "tags")
    assert inventory is not None
    lines = inventory.described()
    unknown = sum(c in ("-1.0", "") for c in edema) - sum(nothing_known(edema, nodule))
    assert any(f"unknown of them: edema {unknown}, nodule" in line for line in lines)
    left = f"{sum(nothing_known(edema, nodule))} files of which nothing is known"
    assert any(left in line for line in lines)
    assert "line 4: '-1.0' in the column 'edema'" in refused(root, unknown=[""])
    assert "line 5: '' in the column 'edema'" in refused(root, unknown=["-1"])


def nothing_known(*columns: list[str]) -> list[bool]:
    return [
        all(cell in ("", "-1", "-1.0") for cell in cells) for cells in zip(*columns, strict=True)
    ]


def test_an_image_without_a_class_is_left_out(root: Path) -> None:
    names = ["" if n % 10 == 3 else BREEDS[n % 3] for n in range(IMAGES)]
    table(
        root / "labels.csv", [["image", "breed"], *([name_of(n), names[n]] for n in range(IMAGES))]
    )
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.unknown)) == ("classification", [""])
    where = TableSection(columns=["breed"])
    section = DataSection(name=f"folder:{root}", size=8, table=where, unknown=[""])
    dataset = loading.load(section, device="cpu")
    assert dataset.classes == tuple(BREEDS)
    found = [n for part in parts(dataset) for n in numbers_of(part)]
    assert sorted(found) == [n for n in range(IMAGES) if names[n]]
    inventory = looks.of(section, "classes")
    assert inventory is not None
    assert inventory.images == IMAGES - names.count("")
    with pytest.raises(DataError, match=r"data\.unknown is for the cells"):
        loading.load(DataSection(name=f"folder:{root}", unknown=[""]), device="cpu")


def test_lines_of_one_image_are_put_together_for_labels(root: Path) -> None:
    lines = [
        [name_of(n), name]
        for n in range(IMAGES)
        for name, bit in zip(("red", "blue"), bits(n), strict=True)
        if bit
    ]
    table(root / "labels.csv", [["image", "finding"], *lines])
    proposal = proposed_task(f"folder:{root}")
    assert proposal[:1] == ("multi-label",)
    dataset = load(root)
    assert dataset.classes == ("blue", "red")
    for part in parts(dataset):
        assert targets_of(part) == [list(map(float, bits(n)[::-1])) for n in numbers_of(part)]
    assert sum(len(part) for part in parts(dataset)) == len({line[0] for line in lines})


def test_decimal_commas_are_read(root: Path) -> None:
    rows = [[name_of(n), f"{n},5"] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "age"], *rows], delimiter=";")
    dataset = load(root, "numbers")
    assert targets_of(dataset.train) == [[n + 0.5] for n in numbers_of(dataset.train)]


def test_a_comma_of_thousands_is_not_taken_for_a_decimal_one(root: Path) -> None:
    rows = [[name_of(n), "1,234" if n == 3 else 2.5 * n] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "price"], *rows])
    assert "'1,234' in the column 'price' is no number" in refused(root, "numbers")
    rows = [[name_of(n), f"{n + 1},250"] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "price"], *rows], delimiter=";")
    dataset = load(root, "numbers")
    assert targets_of(dataset.train) == [[n + 1.25] for n in numbers_of(dataset.train)]


def test_labels_of_true_and_false_are_bits(root: Path) -> None:
    rows = [[name_of(n), *map(bool, bits(n))] for n in range(IMAGES)]
    table(root / "labels.csv", [HEAD, *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.columns)) == ("multi-label", [])
    dataset = load(root)
    assert dataset.classes == ("red", "blue")
    assert targets_of(dataset.train) == [list(bits(n)) for n in numbers_of(dataset.train)]


@pytest.mark.parametrize(
    "written", [str.upper, lambda name: f"{name[:-4]}.JPG", lambda name: f"data/raw/images/{name}"]
)
def test_images_are_found_in_other_letters_endings_and_folders(
    root: Path, written: Callable[[str], str]
) -> None:
    rows = [[written(name_of(n)), 1.5 * n] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "age"], *rows])
    dataset = load(root, "numbers")
    assert targets_of(dataset.train) == [[1.5 * n] for n in numbers_of(dataset.train)]


def test_one_file_is_never_two_images(root: Path) -> None:
    folders = ["a" if n % 2 else "b" for n in range(IMAGES)]
    rows = [[f"{folder}/{name_of(n // 2)}", *bits(n)] for n, folder in enumerate(folders)]
    table(root / "labels.csv", [HEAD, *rows])
    assert f"'a/{name_of(0)}' is 'images/{name_of(0)}', as is 'b/{name_of(0)}'" in refused(root)
    # where other names are whole, none is found elsewhere
    rows = [[f"images/{name_of(n)}", *bits(n)] for n in range(1, IMAGES)]
    table(root / "labels.csv", [HEAD, *rows, [f"others/{name_of(0)}", 0, 1]])
    assert f"'others/{name_of(0)}' is not in" in refused(root)


def test_the_column_of_images_is_the_one_that_names_most(root: Path) -> None:
    pictures(root)
    for number in (0, 1):
        (root / f"p0_0{number}.png").rename(root / f"{number}.png")
    for path in (root / "images").iterdir():
        path.unlink()
    files = ["0.png", "1.png", *(name_of(n) for n in range(2, IMAGES))]
    rows = [[(n + 1) % 2, file] for n, file in enumerate(files)]
    table(root / "labels.csv", [["label", "file"], *rows])
    dataset = load(root)
    assert dataset.classes == ("label",)
    assert targets_of(dataset.train) == [[float((n + 1) % 2)] for n in numbers_of(dataset.train)]


def test_what_has_no_labels_is_left_out_and_said(root: Path) -> None:
    (root / "labels.csv").unlink()
    table(root / "train.csv", [HEAD, *[[name_of(n), *bits(n)] for n in range(30)]])
    table(root / "test.csv", [["image"], *[[name_of(n)] for n in range(30, 40)]])
    table(root / "sample_submission.csv", [HEAD, *[[name_of(n), 0, 0] for n in range(30, 40)]])
    dataset = load(root)
    assert len(dataset.train) + len(dataset.validation) == 30
    assert "give some images of 'train.csv' to the test" in dataset.missing_test
    inventory = looks.of(DataSection(name=f"folder:{root}"), "tags")
    assert inventory is not None
    assert "test has nothing in 'red', 'blue'" in "\n".join(inventory.described())


@pytest.mark.parametrize("name", ["patient_id", "SceneName", "clip"])
@pytest.mark.parametrize("values", [lambda n: f"P{n // 4:03}", lambda n: 1000 + 7 * (n // 4)])
def test_a_column_of_patients_or_scenes_groups_and_is_not_learnt(
    root: Path, name: str, values: Callable[[int], object]
) -> None:
    rows = [[values(n), 20 + n // 4, name_of(n), *bits(n)] for n in range(IMAGES)]
    table(root / "labels.csv", [[name, "age", "image", "red", "blue"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.columns), proposal.group) == (
        "multi-label",
        ["red", "blue"],
        name,
    )
    learnt = TableSection(columns=["red", "blue"])
    dataset = load(root, table=learnt, groups=GroupsSection(column=name))
    homes = [{number // 4 for number in numbers_of(part)} for part in parts(dataset)]
    assert not homes[0] & homes[1]
    assert not homes[1] & homes[2]
    # whoever has no groups is told
    inventory = looks.of(DataSection(name=f"folder:{root}", table=learnt), "tags")
    assert inventory is not None
    assert f'data.groups = {{ column = "{name}" }}' in "\n".join(inventory.described())


def test_codes_that_recur_keep_images_together_whatever_their_column_is_called(root: Path) -> None:
    rows = [[name_of(n), f"A{n // 4:03}", *bits(n)] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "ref", "red", "blue"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, proposal.group) == ("multi-label", "ref")
    dataset = load(root, groups=GroupsSection(column="ref"))
    assert dataset.classes == ("red", "blue")
    homes = [{number // 4 for number in numbers_of(part)} for part in parts(dataset)]
    assert not homes[0] & homes[1]


@pytest.mark.parametrize("name", ["animal", "scene", "lesion", "person_id", "case", "patient"])
def test_the_only_column_that_can_be_learnt_is_no_group(root: Path, name: str) -> None:
    rows = [[name_of(n), BREEDS[n % 3]] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", name], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.columns), proposal.group) == ("classification", [name], "")


def test_classes_with_the_name_of_a_group_are_learnt_beside_an_age(root: Path) -> None:
    rows = [[name_of(n), BREEDS[n % 3], 20 + n] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", "animal", "age_years"], *rows])
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, list(proposal.columns), proposal.group) == (
        "classification",
        ["animal"],
        "",
    )


def test_what_is_known_of_a_patient_is_not_proposed_beside_a_finding(root: Path) -> None:
    head = ["image_name", "patient_id", "sex", "age_approx", "anatom_site", "target"]
    rows = [
        [
            name_of(n)[:-4],
            f"IP_{n // 3}",
            "male" if n % 2 else "female",
            40 + n,
            "torso",
            n % 5 == 0,
        ]
        for n in range(IMAGES)
    ]
    table(root / "labels.csv", [head, *[[*row[:-1], int(bool(row[-1]))] for row in rows]])
    proposal = proposed_task(f"folder:{root}")
    assert list(proposal.columns) == ["target"]
    assert proposal.group == "patient_id"


def test_a_table_that_names_no_image_is_refused_with_a_cell(root: Path) -> None:
    table(root / "labels.csv", [["id", "value"], ["p0_00_red", 1], ["p0_00_blue", 0]])
    with pytest.raises(DataError, match="'p0_00_red' is not in"):
        proposed_task(f"folder:{root}")


@pytest.mark.parametrize("seed", range(10))
def test_rare_labels_are_in_training_whatever_the_seed(root: Path, seed: int) -> None:
    """Ten labels of three images each: divided without regard to them, a third of all divisions
    leaves one of them without an image to learn from.
    """
    rare = [f"rare{k}" for k in range(10)]
    rows = [[name_of(n), *(int(n // 3 == k) for k in range(10))] for n in range(IMAGES)]
    table(root / "labels.csv", [["image", *rare], *rows])
    dataset = load(root, seed=seed)
    sums = np.array(targets_of(dataset.train)).sum(0)
    assert sums.min() >= 1
    assert [len(part) for part in parts(dataset)] == pytest.approx([26, 6, 8], abs=2)
    few = load(root, seed=seed, train_subset=16)
    assert len(few.train) == pytest.approx(16, abs=2)
    assert np.array(targets_of(few.train)).sum(0).min() >= 1

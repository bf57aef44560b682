"""A study has one data set: whatever changes in it between two commands is refused, with numbers."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Nas
from materials import coco, photographs

from nas_attn.data import loading
from nas_attn.data.manifest import Manifest
from nas_attn.errors import DataError
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.tasks import TASKS
from nas_attn.searching.prepare import beginning, checks
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.training.images import known_images

URL = "sqlite:///study.db"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos", of_each=8, side=16)
    return tmp_path


def recipe(**data: object) -> Recipe:
    table = {
        "name": "pets",
        "space": "small",
        "objectives": ["accuracy", "params"],
        "backbone": {"name": "resnet8"},
        "data": {"name": "folder:photos", "size": 16, **data},
        "training": {"start": "scratch", "rungs": [1]},
        "search": {"trials": 2, "confirm_seeds": 0},
    }
    return recipe_from(table, where="a test")


def check_images(opened: OpenStudy) -> None:
    checks.check(SearchPlan(opened.recipe, opened.url, study=opened))


def begun(**data: object) -> OpenStudy:
    return beginning.begin(recipe(**data), URL)


def added(photos: Path) -> None:
    shutil.copy(photos / "cat/000.jpg", photos / "cat/added.jpg")


def removed(photos: Path) -> None:
    (photos / "owl/007.jpg").unlink()


def rewritten(photos: Path) -> None:
    """All of a class, in place, with the size and the time that they had."""
    for path in (photos / "dog").iterdir():
        before = path.stat()
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def moved(photos: Path) -> None:
    for path in sorted((photos / "dog").iterdir())[:4]:
        path.rename(photos / "cat" / f"moved-{path.name}")


def another_class(photos: Path) -> None:
    shutil.copytree(photos / "cat", photos / "lynx")


@pytest.mark.parametrize(
    ("change", "numbers"),
    [
        (added, ["1 image added"]),
        (removed, ["1 image removed"]),
        (rewritten, ["6 images changed"]),
        (moved, ["4 images added", "4 images removed"]),
        (another_class, ["8 images added", "lynx"]),
    ],
)
def test_what_has_changed_is_said_and_nothing_is_trained(
    here: Path, change: Callable[[Path], None], numbers: list[str]
) -> None:
    opened = begun()
    change(here / "photos")
    for use in (
        lambda: check_images(opened),
        lambda: taking_part.work(open_study("pets", URL), taking_part.Options()),
        begun,
    ):
        with pytest.raises(DataError, match="not those of study 'pets'") as raised:
            use()
        for number in numbers:
            assert number in str(raised.value)
    assert not opened.store.scores()


@pytest.mark.parametrize("later", ["auto", True, False])
def test_images_are_known_however_seeds_divide_them(here: Path, later: object) -> None:
    """A study from before this was a setting names it in its recipe now."""
    opened = begun(resplit=False)
    kept = known_images(opened.store, opened.recipe)
    assert kept is not None
    assert known_images(opened.store, recipe(resplit=later)) == kept


def test_no_command_trains_scores_or_exports_on_other_images(here: Path, nas: Nas) -> None:
    # their loss differs, so that there is something to test
    made = recipe().model_copy(update={"objectives": ["loss", "params"]})
    opened = beginning.begin(made, URL)
    taking_part.work(opened, taking_part.Options())
    opened.database.close()
    there = ("--storage", URL)
    assert nas("export", "pets", *there, "--placement", "0", "--output", "pets.pt").status == 0
    assert nas("validate-export", "pets.pt").status == 0
    added(here / "photos")
    before = contents("study.db")
    for command in (
        ("test", "pets", *there, "--placement", "stage3=se", "--workers", "1"),
        ("retrain", "pets", *there, "--placement", "0", "--workers", "1"),
        ("export", "pets", *there, "--placement", "0", "--output", "again.pt"),
        ("validate-export", "pets.pt"),
    ):
        refused = nas(*command)
        assert refused.status != 0, command
        said = "of the card" if command[0] == "validate-export" else "1 image added"
        assert said in refused.error, command
    assert contents("study.db") == before


def contents(database: str) -> list[object]:
    """The rows that a training would add to."""
    tables = ("nas_run", "nas_score", "nas_candidate", "nas_study", "nas_document")
    with closing(sqlite3.connect(database)) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_images_that_are_put_back_are_those_of_the_study(here: Path) -> None:
    opened = begun()
    shutil.move("photos/cat/003.jpg", "kept.jpg")
    with pytest.raises(DataError):
        check_images(opened)
    shutil.copyfile("kept.jpg", "photos/cat/003.jpg")
    check_images(opened)


def test_neither_the_place_of_the_folder_nor_the_times_of_its_files_count(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = begun()
    before = known_images(opened.store, opened.recipe)
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree("photos", elsewhere / "photos", copy_function=shutil.copyfile)
    monkeypatch.chdir(elsewhere)
    check_images(opened)
    assert known_images(opened.store, opened.recipe) == before


def test_boxes_that_are_edited_are_named(here: Path) -> None:
    coco(here / "things")
    section = DataSection(name="coco:things", size=32)

    def loaded() -> Manifest:
        found = loading.load(section, device="cpu", task=TASKS["detection"]).manifest
        assert found is not None
        return found

    before = loaded()
    assert loaded().digest == before.digest
    (annotations,) = (here / "things/annotations").glob("*train*.json")
    content = json.loads(annotations.read_text())
    content["annotations"][0]["bbox"][2] -= 1
    annotations.write_text(json.dumps(content))
    assert loaded().digest != before.digest
    assert loaded().described_changes(before.text) == "1 image changed"


def test_a_study_from_before_gets_its_images_at_its_first_resume(nas: Nas) -> None:
    opened = begun()
    opened.database.close()
    with closing(sqlite3.connect("study.db")) as connection:
        connection.execute("DELETE FROM nas_document WHERE kind = 'images'")
        connection.commit()
    assert "kept from now on" in nas("resume", "pets", "--storage", URL, "--workers", "1").err
    added(Path("photos"))
    refused = nas("resume", "pets", "--storage", URL, "--trials", "4")
    assert "1 image added" in refused.error

"""What a search would say of the place for its study, `--dry-run` says without writing there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from command_line import Nas
from materials import photographs

from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.opening import create_study

URL = "sqlite:///nas_attn.db"


def change(statement: str) -> None:
    with closing(sqlite3.connect("nas_attn.db")) as database, database:
        database.execute(statement)


def begun(**changes: object) -> None:
    opened = create_study(load_recipe("table.toml", overrides=changes), URL)
    opened.book.close()
    opened.database.close()


def newer() -> None:
    begun(name="another")
    change("UPDATE nas_alembic_version SET version_num = '0999'")


def no_database() -> None:
    Path("nas_attn.db").write_text("dear diary" * 1000)


def optunas_alone() -> None:
    optuna.create_study(study_name="table", storage=URL)


def another_recipe() -> None:
    begun(**{"training.batch_size": 7})


def a_file_for_a_folder() -> None:
    Path("nas_attn.artifacts").write_text("mine")


@pytest.mark.parametrize(
    "left",
    [
        newer,
        no_database,
        optunas_alone,
        another_recipe,
        a_file_for_a_folder,
    ],
)
def test_a_place_that_a_search_would_refuse_is_refused_and_left_as_it_was(
    table: Path, nas: Nas, left: Callable[[], None]
) -> None:
    left()
    before = files()
    planned = nas("search", "table.toml", "--dry-run", "--json")
    assert files() == before
    begun = nas("search", "table.toml", "--workers", "1")
    assert planned.status == begun.status != 0
    assert planned.error == begun.error


def test_a_server_that_does_not_answer_is_no_place_for_a_search(table: Path, nas: Nas) -> None:
    away = "postgresql://nobody@127.0.0.1:1/studies"
    planned = nas("search", "table.toml", "--dry-run", "--storage", away)
    begun = nas("search", "table.toml", "--storage", away)
    assert planned.status == begun.status != 0
    assert planned.error == begun.error


@pytest.mark.parametrize("changes", [{}, {"name": "another"}], ids=["same", "another"])
def test_a_study_that_would_go_on_is_planned_and_left_as_it_is(
    table: Path, nas: Nas, changes: dict[str, object]
) -> None:
    begun(**changes)
    before = files()
    assert nas("search", "table.toml", "--dry-run", "--json").json["study"] == "table"
    assert files() == before


def test_a_placement_that_does_not_fit_is_refused_for_a_folder_of_images(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    asked = (
        "search",
        "photos",
        "--backbone",
        "resnet8",
        "--time",
        "60m",
        "--placement",
        "stage9=se",
    )
    planned = nas(*asked, "--dry-run")
    begun = nas(*asked, "--workers", "1")
    assert planned.status == begun.status != 0
    assert planned.error == begun.error
    assert "stage9" in planned.error


def files() -> dict[str, bytes]:
    """What lies in this folder."""
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}

"""The folders in which an evaluator keeps its own files: each study has its own, and one from a
version that shared them goes on in its.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.space.placement import BARE
from nas_attn.storage import opening
from nas_attn.storage.artifacts import run_folder
from nas_attn.storage.rows import Run

URL = "sqlite:///nas_attn.db"
KEEPS = """
def evaluate(model, run):
    kept = run.folder / "epochs"
    done = int(kept.read_text()) if kept.exists() else 0
    assert done + run.new_epochs == run.epochs, f"found {done} epochs that are not this run's"
    kept.write_text(str(run.epochs))
    return {"score": 1.0, "effort": 1.0}
"""
RUN = Run("0123456789abcdef", BARE, 0)


def begun(name: str) -> opening.OpenStudy:
    changes = {"name": name, "search.trials": 1, "search.confirm_seeds": 0}
    return beginning.begin(load_recipe("table.toml", overrides=changes), URL)


def with_folder_of_before(opened: opening.OpenStudy) -> Path:
    """A study with a run whose folder has the name that an earlier version gave it."""
    opened.store.queue.want([RUN])
    folder = opened.folder / RUN.folder
    folder.mkdir(exist_ok=True)
    (folder / "epochs").write_text("1")
    return folder


def test_an_evaluator_never_finds_the_files_of_another_study(table: Path) -> None:
    (table / "table_evaluator.py").write_text(KEEPS)
    kept = set[Path]()
    for name in ("first", "second"):
        opened = begun(name)
        assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "complete"
        assert [row.state for row in opened.store.candidates()] == ["scored"]
        kept |= set(opened.folder.glob("*/epochs"))
    assert len(kept) == 2
    keeping.delete_study(opening.open_study("first", URL))
    assert set(opened.folder.glob("*/epochs")) < kept
    assert len(list(opened.folder.glob("*/epochs"))) == 1, "the other study's stays"


def test_a_run_goes_on_in_the_folder_of_an_earlier_version(table: Path) -> None:
    first = begun("first")
    folder = with_folder_of_before(first)
    second = begun("second")
    second.store.queue.want([RUN])
    assert first.folder / run_folder(first.store, first.folder, RUN) == folder
    assert run_folder(second.store, second.folder, RUN) != RUN.folder
    written = keeping.back_up(first.database, "copy.db")
    assert written.artifacts is not None
    assert (written.artifacts / RUN.folder / "epochs").read_text() == "1"
    keeping.delete_study(second)
    assert folder.is_dir()
    keeping.delete_study(first)
    assert not folder.exists()


@pytest.mark.parametrize("later_s", [-60.0, 60.0])
def test_a_folder_that_is_older_than_the_study_is_not_its_own(table: Path, later_s: float) -> None:
    """A database was removed, and its artifacts were left."""
    opened = begun("table")
    folder = with_folder_of_before(opened)
    at = opened.store.created_at + later_s
    os.utime(folder, (at, at))
    is_own = run_folder(opened.store, opened.folder, RUN) == RUN.folder
    assert is_own == (later_s > 0)

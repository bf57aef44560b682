"""The folders in which an evaluator keeps its own files: each study has its own."""

from __future__ import annotations

from pathlib import Path

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage import opening

URL = "sqlite:///nas_attn.db"
KEEPS = """
def evaluate(model, run):
    kept = run.folder / "epochs"
    done = int(kept.read_text()) if kept.exists() else 0
    assert done + run.new_epochs == run.epochs, f"found {done} epochs that are not this run's"
    kept.write_text(str(run.epochs))
    return {"score": 1.0, "effort": 1.0}
"""


def begun(name: str) -> opening.OpenStudy:
    changes = {"name": name, "search.trials": 1, "search.confirm_seeds": 0}
    return beginning.begin(load_recipe("table.toml", overrides=changes), URL)


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

"""Studies that were measured in a runtime which is a command now: they can be read, not gone on
with.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.errors import RecipeError
from nas_attn.latency.machine import fingerprint
from nas_attn.recipe.recipe import LatencySection

SMALL = {
    "backbone.width": 4,
    "data.options": {"train": 100, "validation": 50, "test": 20, "size": 12},
    "training.rungs": [1],
    "training.start": "scratch",
    "search.trials": 2,
    "search.confirm_seeds": 0,
    "latency.tolerance": 0.9,
    "latency.session_seconds": 0.1,
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study whose latencies came from ncnn; no test changes it."""
    path = tmp_path_factory.mktemp("measured") / "nas_attn.db"
    na.search("digits", overrides=SMALL, storage=f"sqlite:///{path}", threads=1, say=lambda _: None)
    changed = 0
    with sqlite3.connect(path) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for _, column, *_ in database.execute(f"PRAGMA table_info('{table}')").fetchall():
                for blank in ("", " "):
                    for eager in (f'"mode":{blank}"eager"', f'"mode",{blank}"eager"'):
                        changed += database.execute(
                            f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?)'
                            f' WHERE typeof("{column}") = \'text\' AND instr("{column}", ?)',
                            (eager, eager.replace("eager", "ncnn"), eager),
                        ).rowcount
    database.close()
    assert changed >= 2
    return path


@pytest.fixture
def storage(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, with its files."""
    shutil.copytree(measured.parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / measured.name
    monkeypatch.setenv("NAS_ATTN_STORAGE", f"sqlite:///{path}")
    return path


def test_a_study_measured_in_a_former_mode_is_read(storage: Path, nas) -> None:
    assert nas("status").status == 0
    card = nas("pareto", "--json").json
    assert "ncnn" in str(card)
    assert nas("report", "-o", "report.html").status == 0
    told = nas("export", "--trial", "1", "--json").json
    assert told["card"]["latency"]["conditions"]["mode"] == "ncnn"
    assert nas("check-export", told["file"], "--json").json["agrees"]
    ended = nas("resume", "--set", "search.trials=3")
    assert ended.status
    ended = nas("measure", "digits", "1")
    assert "runners/devices/ncnn.py" in ended.error


@pytest.mark.parametrize("mode", ["ncnn", "litert"])
def test_a_recipe_that_names_a_former_mode_hears_of_the_command(
    mode: str, tmp_path: Path, nas
) -> None:
    ended = nas("search", "digits", "--set", f"latency.mode={mode}", "--storage", "sqlite:///a.db")
    assert ended.status == 2
    assert f"runners/devices/{mode}.py" in ended.error
    with pytest.raises(RecipeError, match="command"):
        fingerprint(LatencySection(mode=mode))

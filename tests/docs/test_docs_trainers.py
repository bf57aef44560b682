"""The examples of the page on one's own trainer that need Lightning or Hugging Face's
transformers.
"""

import os
import sqlite3
import sys
from pathlib import Path

import pytest
from documented import files
from shell import Shell

PAGE = "docs/how-to/own-training.md"
SEARCH = [
    sys.executable,
    "-m",
    "nas_attn",
    "search",
    "shapes.toml",
    "--workers",
    "1",
    "--set",
    "training.evaluator=by_program:evaluate",
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("package", "command"),
    [
        pytest.param(package, command, marks=pytest.mark.extras(package))
        for package, command in (
            ("lightning", [sys.executable, "my_lightning.py"]),
            ("transformers", SEARCH),
        )
    ],
)
def test_the_trainers_of_others_are_searched_with_and_pruned(
    tmp_path: Path, package: str, command: list[str]
) -> None:
    shell = Shell.under(tmp_path)
    shell.variables["PYTHONPATH"] = os.pathsep.join(
        filter(None, sys.path)
    )  # where the package may lie
    files(PAGE, shell.folder)
    ended = shell.runs(command, package).ended(1500)
    assert ended.status == 0, ended
    with sqlite3.connect(shell.folder / "nas_attn.db") as database:
        states = [state for (state,) in database.execute("SELECT state FROM nas_candidate")]
    assert set(states) == {"scored", "pruned"}
    assert len(states) == 6

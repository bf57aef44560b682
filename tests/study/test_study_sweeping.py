"""What a worker left that died between ending a run and clearing up after it."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import nas_attn as na
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.opening import open_study

URL = "sqlite:///nas_attn.db"

DIES = """
import os
from nas_attn.evaluation.artifacts import RunFiles
from nas_attn.study import searching
from nas_attn.study.opening import open_study

RunFiles.clear = lambda self: os._exit(9)
searching.work(open_study("table", "sqlite:///nas_attn.db"), searching.Options(say=lambda line: None))
"""


def test_checkpoints_and_leases_of_runs_that_have_ended_are_swept_by_whoever_comes(table: Path) -> None:
    opened = searching.begin(load_recipe("table.toml", overrides={"search.trials": 3}), URL)
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == 9
    left = list(opened.store.all_checkpoints())
    assert [name.partition(":")[0] for name in left].count("search") == 1, "the second swept what the first left"
    with sqlite3.connect("nas_attn.db") as database:  # as a worker on another machine leaves it
        database.execute(
            "UPDATE nas_lease SET owner = 'elsewhere', expires_at = 1, ttl_s = 0, released = 0 WHERE resource LIKE 'run/%'"
        )
    database.close()
    na.search(load_recipe("table.toml", overrides={"search.trials": 3}), say=lambda line: None)
    opened = open_study("table", URL)
    assert {name.partition(":")[0] for name in opened.store.all_checkpoints()} == {"weights"}
    assert {row.state for row in opened.store.leases()} == {"released"}
    kept = {row.artifact for rows in opened.store.all_checkpoints().values() for row in rows}
    assert {path.name for path in opened.folder.iterdir() if path.is_file()} == kept

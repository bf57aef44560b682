"""Many workers under one command: no error of locks, nothing twice. Journeys stop them and use
PostgreSQL.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nas_attn.storage.database import Database

pytestmark = pytest.mark.slow


def search(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nas_attn.cli.main", "search", "table.toml", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_eight_workers_on_one_file(table: Path) -> None:
    ended = search("--workers", "8", "--trials", "40", TABLE_SECONDS="0.05")
    assert ended.returncode == 0, ended.stderr
    assert "locked" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    calls = Counter(
        line.rpartition("|")[0] for line in (table / "calls.txt").read_text().splitlines()
    )
    assert max(calls.values()) == 1
    assert sum(f"worker {n}: done (complete)" in ended.stderr for n in range(1, 9)) == 8
    with Database("sqlite:///nas_attn.db", must_exist=True) as database:
        rows = database.study("table").candidates()
    assert sorted(row.trial for row in rows if row.state != "running") == sorted(
        row.trial for row in rows
    )
    assert len(rows) == 40


def test_several_workers_say_that_the_space_is_exhausted(table: Path) -> None:
    few = ["--set", 'search.sampler="random"', "--set", "search.confirm_seeds=0"]
    space = ["--set", 'space={name="few", choices={eca={}}}']
    done = search("--workers", "2", "--trials", "40", "--json", *few, *space)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ended"] == "exhausted"

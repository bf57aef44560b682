"""Many workers on one database: no error of locks, nothing twice, on SQLite and on PostgreSQL."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from nas_attn.storage import Database


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nas_attn.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def evaluations(folder: Path) -> Counter[str]:
    return Counter(line.rpartition("|")[0] for line in (folder / "calls.txt").read_text().splitlines())


@pytest.mark.slow
def test_eight_workers_on_one_file(table: Path) -> None:
    ended = run("search", "table.toml", "--workers", "8", "--trials", "40", TABLE_SECONDS="0.05")
    assert ended.returncode == 0, ended.stderr
    assert "locked" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    assert max(evaluations(table).values()) == 1
    assert sum(f"worker {n}: done (complete)" in ended.stderr for n in range(1, 9)) == 8
    with Database("sqlite:///nas_attn.db", must_exist=True) as database:
        rows = database.study("table").candidates()
    assert sorted(row.trial for row in rows if row.state != "running") == sorted(row.trial for row in rows)
    assert len(rows) == 40


@pytest.mark.slow
def test_the_same_search_on_postgresql(table: Path, postgres_url: str) -> None:
    options = ["--name", "cli-shared", "--trials", "8", "--workers", "2", "--artifacts", "kept"]
    ended = run("search", "table.toml", *options, NAS_ATTN_STORAGE=postgres_url)
    assert ended.returncode == 0, ended.stderr
    assert max(evaluations(table).values()) == 1
    shown = run("pareto", "cli-shared", NAS_ATTN_STORAGE=postgres_url)
    assert "the front (*)" in shown.stdout
    assert not list(table.glob("*.db"))

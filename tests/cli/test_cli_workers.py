"""Several workers under one command: they share a study, stop together, and can be taken up."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas_attn.storage import Database

PROGRAM = [sys.executable, "-m", "nas_attn.cli.main", "search", "table.toml", "--workers", "2"]


def test_two_workers_share_a_study(table: Path) -> None:
    done = subprocess.run([*PROGRAM, "--trials", "4"], cwd=table, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "worker 1: done (complete)" in said
    assert "worker 2: done (complete)" in said
    with Database(f"sqlite:///{table}/nas_attn.db", must_exist=True) as database:
        rows = database.study("table").candidates()
    assert [(row.trial, row.state) for row in rows] == [(n, "scored") for n in range(4)]


@pytest.mark.slow
def test_no_time_at_all_is_none_for_several_workers_too(table: Path) -> None:
    program = [*PROGRAM, "--time-limit", "0"]
    done = subprocess.run(program, cwd=table, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done (time)") == 2
    with Database(f"sqlite:///{table}/nas_attn.db", must_exist=True) as database:
        assert database.study("table").candidates() == []


def test_a_stopped_search_ends_in_order_and_says_how_to_go_on(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.2")
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*PROGRAM, "--trials", "40"], cwd=table, text=True, **pipe) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if "trial 1" in line:
                break
        search.send_signal(signal.SIGINT)
        rest = search.stdout.read()
    assert search.returncode == 130, rest
    assert rest.count("done (stopped)") == 2
    assert "go on with: nas-attn resume table" in rest
    assert "Worth trying next" not in rest
    with Database(f"sqlite:///{table}/nas_attn.db", must_exist=True) as database:
        store = database.study("table")
        assert {lease.state for lease in store.leases()} == {"released"}
        assert 2 <= len(store.candidates()) < 40

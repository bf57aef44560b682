from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from nas_attn.storage import Database

RUNNER = Path(__file__).resolve().parents[2] / "runners" / "local" / "run.py"


def test_two_workers_share_a_study(tiny: Path) -> None:
    command = [sys.executable, str(RUNNER), str(tiny), "--workers", "2", "--device", "cpu"]
    done = subprocess.run(command, cwd=tiny.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "worker 1: done (complete)" in done.stdout
    assert "worker 2: done (complete)" in done.stdout
    assert "the front" in done.stdout
    with Database(f"sqlite:///{tiny.parent}/nas_attn.db", must_exist=True) as database:
        rows = database.study("tiny").candidates()
    assert [(row.trial, row.state, row.told) for row in rows] == [(0, "scored", True), (1, "scored", True)]


def test_a_stopped_run_ends_in_order_and_can_be_taken_up(tiny: Path) -> None:
    command = [sys.executable, str(RUNNER), str(tiny), "--workers", "1", "--device", "cpu", "--trials", "40"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=tiny.parent, text=True, **pipe) as runner:
        assert runner.stdout is not None
        for line in runner.stdout:
            if "trial 1" in line:
                break
        runner.send_signal(signal.SIGINT)
        rest = runner.stdout.read()
    assert runner.returncode == 0, rest
    assert "done (stopped)" in rest
    with Database(f"sqlite:///{tiny.parent}/nas_attn.db", must_exist=True) as database:
        store = database.study("tiny")
        assert {lease.state for lease in store.leases()} == {"released"}
        assert 2 <= len(store.candidates()) < 40


def test_a_wrong_recipe_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(RUNNER), "digitz", "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown recipe 'digitz': did you mean 'digits'?")
    assert list(tmp_path.iterdir()) == []

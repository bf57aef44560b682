"""The commands of the README and of CI are quiet, and say when something failed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("status", [0, 1])
def test_pip_is_heard_only_where_it_fails(tmp_path: Path, status: int) -> None:
    program(tmp_path / "bin" / "python", f"echo WARNING: ignored >&2\nexit {status}")
    command = ["make", "-C", str(ROOT), "install", f"VENV={tmp_path}"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ("WARNING: ignored" in made.stdout + made.stderr) == bool(status)
    assert bool(made.returncode) == bool(status)
    assert (tmp_path / "installed").exists() == (not status), "else the next make would not install"


@pytest.mark.parametrize("failing", ["quickstart", "test", "test-extras", "lint", "nothing"])
def test_ci_runs_the_commands_in_their_order_and_ends_with_the_summary(
    tmp_path: Path, failing: str
) -> None:
    summary = "=== 1 failed, 7 passed in 1.23s ==="
    program(
        tmp_path / "bin" / "make",
        f'echo "$1" >> {tmp_path}/asked; echo "{summary}"; [ "$1" != {failing} ]',
    )
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [ROOT / ".ci" / "run"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "asked").read_text().split() == ["quickstart", "test", "test-extras", "lint"]
    assert done.stdout.splitlines()[-1] == summary
    assert (done.returncode == 0) == (failing == "nothing")

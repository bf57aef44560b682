"""A run of the tests that leaves traces in the clone, or with its user, fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clone import ROOT, Watch

WRITES_IN_THE_CLONE = """
from pathlib import Path

def test_a_search_where_the_user_stands() -> None:
    Path(__file__).parents[1].joinpath("nas_attn.db").write_text("a study")
    Path("nas_attn.db").write_text("a study")
    Path.home().joinpath("settings").write_text("mine")
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Another clone, whose tests have this conftest."""
    tests = tmp_path / "clone" / "tests"
    tests.mkdir(parents=True)
    for path in (ROOT / "tests").glob("*.py"):
        if not path.name.startswith("test_"):
            shutil.copy(path, tests)
    (tests.parent / ".gitignore").write_text("*.db\n__pycache__/\n")
    (tests.parent / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tests / "test_one.py").write_text(WRITES_IN_THE_CLONE)
    subprocess.run(["git", "init", "--quiet", str(tests.parent)], check=True)
    return tests.parent


def test_a_test_that_writes_in_the_clone_fails_the_run(copy: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 error" in done.stdout
    assert str(copy / "nas_attn.db") in done.stdout


WRITES_BESIDE_ANOTHER_PROGRAM = """
from pathlib import Path

def test_beside_a_search_in_another_terminal() -> None:
    cache = Path({cache!r}) / "nas_attn"
    cache.mkdir(parents=True)
    cache.joinpath("kept.npz").write_text("theirs")
"""


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)], ids=["at a desk", "in CI"])
def test_what_others_write_meanwhile_is_an_error_in_ci_alone(
    copy: Path, tmp_path: Path, ci: str, status: int
) -> None:
    cache = tmp_path / "cache of the user"
    content = WRITES_BESIDE_ANOTHER_PROGRAM.format(cache=str(cache))
    (copy / "tests" / "test_one.py").write_text(content)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider"]
    env = {**os.environ, "CI": ci, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert str(cache / "nas_attn" / "kept.npz") in done.stdout


@pytest.mark.parametrize("written", ["nas_attn.db", "pyproject.toml", "tests/new.py"])
def test_what_is_written_in_a_clone_is_seen(
    copy: Path, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clone.ROOT", copy)
    subprocess.run(["git", "-C", str(copy), "add", "."], check=True)
    watch = Watch()
    assert watch.changed() == []
    (copy / written).write_text("changed")
    assert watch.changed() == [str(copy / written)]


def test_what_is_written_in_the_users_cache_is_seen(tmp_path: Path) -> None:
    watch = Watch()
    (tmp_path / "cache" / "nas_attn" / "images").mkdir(parents=True)
    folders = [tmp_path / "cache" / "nas_attn", tmp_path / "cache" / "nas_attn" / "images"]
    assert set(map(str, folders)) <= set(watch.changed())

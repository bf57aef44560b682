"""What may stand in the repository's files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_attn import __version__

ROOT = Path(__file__).resolve().parents[2]

# Written so that this file does not match itself.
FOREIGN = re.compile(
    r"/(?:work|root|workspace)/[\w.]"  # folders of a machine that somebody developed on
    # hosts that packages come from: pip's own setting
    r"|\bpy[p]i\.|\bpython[h]osted\b|(?:extra-)?index-[u]rl"
)


def tracked() -> Iterator[tuple[str, str]]:
    """(path, content) of the repository's text files."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            try:
                yield name, path.read_text("utf-8")
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_machine_or_a_package_host() -> None:
    places = [str(ROOT) + "/", str(Path.home()) + "/"]
    found = []
    for name, text in tracked():
        for number, line in enumerate(text.splitlines(), 1):
            if FOREIGN.search(line) or any(len(place) > 6 and place in line for place in places):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert not found


def test_version_is_written_once() -> None:
    written = re.compile(rf"version[_\w]* *[=:] *[\"']?{re.escape(__version__)}\b")
    assert {name for name, text in tracked() if written.search(text)} == {"nas_attn/_version.py"}

"""Writes the JSON of made studies, to compare what a redesign answers with what it did before.

`python -m tests.pins.dump DIR` writes DIR/NAME.txt for ten studies, `--all` for every one. Run it
before and after, and compare the two folders with `diff -r`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from pinned import as_json  # noqa: E402

import studies  # noqa: E402 - found by the line above, as pytest finds it

COMMANDS = (
    ("show", "made", "--json"),
    ("status", "made", "--json"),
    ("effects", "made", "--json"),
    ("test", "made", "--dry-run", "--json"),
)
TEN = (
    studies.the_usual,
    studies.empty,
    studies.no_gains,
    studies.limit,
    studies.better_control,
    studies.tested_better,
    studies.tested_worse,
    studies.constant,
    studies.lower_is_better,
)


def dump(maker: studies.Maker) -> str:
    """Each command, the status with which it ended, and the facts of its JSON."""
    parts = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        studies.with_trials(maker(Path(folder), patch))
        for command in COMMANDS:
            ended = subprocess.run(
                [sys.executable, "-m", "nas_attn", *command, "--storage", "sqlite:///made.db"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            said = as_json(json.loads(ended.stdout)) if ended.returncode == 0 else ""
            parts.append(f"$ nas-attn {' '.join(command)}\n{said}\n(status {ended.returncode})")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="every made study")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    for maker in studies.STUDIES if asked.all else TEN:
        (asked.folder / f"{maker.__name__}.txt").write_text(dump(maker) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""What a run of the tests must leave as it was: the clone, and the user's own folders."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent
# Those of the user's folders that something in a test could write; others write there, too.
PROGRAMS = ("nas_attn", "torch", "huggingface", "Ultralytics")
# What Python and its tools write wherever they run, and the environment.
TOOLS = {"__pycache__", ".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache", ".venv"}


class Watch:
    """The files of the clone that are not as committed, ignored ones included, and the user's, as
    they are when it is made.
    """

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folders = (platformdirs.user_cache_path(), platformdirs.user_config_path())
        self._before = self._files()

    def changed(self) -> list[str]:
        """Returns the paths that came, went or were written since."""
        before, now = self._before, self._files()
        return sorted(path for path in before | now if before.get(path) != now.get(path))

    def _files(self) -> dict[str, tuple[int, int] | None]:
        paths = [*self._of_clone(), *self._of_user()]
        return {str(path): _size_and_time(path) for path in paths}

    def _of_clone(self) -> Iterator[Path]:
        status = ["git", "--no-optional-locks", "status", "--porcelain", "--ignored", "-z"]
        try:
            said = subprocess.run(
                [*status, "--no-renames"],
                cwd=ROOT,
                env=self._environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (FileNotFoundError, subprocess.CalledProcessError):
            # An unpacked archive: a study would be at the top.
            yield from (path for path in ROOT.iterdir() if path.name not in TOOLS)
            return
        names = [Path(entry[3:]) for entry in said.split("\0") if entry]
        yield from (ROOT / name for name in names if not TOOLS.intersection(name.parts))

    def _of_user(self) -> Iterator[Path]:
        for folder in self._folders:
            for program in PROGRAMS:
                for root, _, names in os.walk(folder / program):
                    yield Path(root)
                    yield from (Path(root) / name for name in names)


def has(path: str) -> bool:
    """Whether a path is of the clone, not of the user's folders."""
    return Path(path).is_relative_to(ROOT)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """The size in bytes and the time of the last change in ns; None: it was deleted."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns

"""Files that several processes make once: a lock, a cache folder, atomic writes."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from nas_attn.paths import whole_file
from nas_attn.waiting import Wait, locked

KEEP_UNUSED_S = 60 * 86_400
LONGEST_S = 4 * 3600.0
"""Seconds that one process may take to prepare or download a data set."""


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """One process at a time; the lock goes with its holder, whatever ends it.

    A holder that is stopped, or takes hours, is no longer waited for: what it makes is made once more beside it, which a
    file that comes into being by being renamed bears.

    Args:
        what: another process makes, for a person.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with Wait(f"{what}, which another process makes") as wait, locked(path, wait, LONGEST_S) as holder:
        if holder:
            wait.say(f"stopped waiting for {holder} and made it again: {what}")
        yield


def cache_folder() -> Path:
    """Where prepared images are kept: the user's cache folder."""
    return platformdirs.user_cache_path("nas_attn") / "images"


def drop_unused(folder: Path) -> None:
    """Removes cached files that nobody has read for KEEP_UNUSED_S."""
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > KEEP_UNUSED_S:
            path.unlink(missing_ok=True)


def read_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """What `write_arrays` wrote; None where there is nothing, or something damaged."""
    try:
        os.utime(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes an `.npz` that is there whole or not at all.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)

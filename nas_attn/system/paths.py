"""Paths that a user typed, and files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nas_attn.errors import UserError, shorten

# The default database
DEFAULT_URL = "sqlite:///nas_attn.db"
# Ending of a file that is being written
UNFINISHED_ENDING = ".part"
# Seconds to retry the replacement of a file that is open elsewhere
REPLACE_S = 10.0
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def user_path(text: str | Path, *, what: str, error: type[UserError], home: bool = True) -> Path:
    """Takes a path as typed, so that `Path.exists` raises nothing.

    Args:
        text: the path.
        what: the setting that names it, for the error.
        error: is raised if no file can have this name.
        home: whether `~` is the user's folder.
    """
    try:
        path = Path(text).expanduser() if home else Path(text)
        os.stat(path)
    except OSError as cause:
        if cause.errno not in _NO_FILE:
            raise error(
                f"{what} '{shorten(str(text))}' cannot be a file: {cause.strerror}"
            ) from None
    except (ValueError, RuntimeError) as cause:
        raise error(f"{what} '{shorten(str(text))}' cannot be a file: {cause}") from None
    return path


# The beginning of our pages
HTML = (b"<!doctype html",)


def output_path(
    text: str | Path,
    *,
    what: str,
    error: type[UserError],
    replaces: tuple[bytes, ...] | None = None,
) -> Path:
    """Takes a typed path for an output file.

    Args:
        text: the path.
        what: the setting that names it, for the error.
        error: is raised if no file can have this name, or the existing one must not be replaced.
        replaces: beginnings of files that may be replaced, in small letters; None: any file.
    """
    path = user_path(text, what=what, error=error)
    if os.path.lexists(path) and not path.is_file():
        kind = (
            "a folder: name a file in it"
            if path.is_dir()
            else "not an ordinary file: name another file"
        )
        raise error(f"{what} '{shorten(str(text))}' is {kind}")
    if replaces is not None and path.is_file() and os.access(path, os.R_OK):
        with path.open("rb") as file:
            start = file.read(64).lower()
        if start and not start.startswith(replaces):
            raise error(
                f"{what} '{shorten(str(text))}' already exists and is another kind of file: name"
                " another file"
            )
    return path


def write_whole(path: Path, text: str) -> None:
    """Writes a complete file, or leaves it as it was. OSError: it cannot be written."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it is moved to its place when it is complete and on the disk. OSError: it
    cannot be written.
    """
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_ENDING}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        replace_file(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def replace_file(draft: Path, path: Path) -> None:
    """Moves a finished file to its place; retries for a while, as Windows refuses it while another
    process reads the old file.
    """
    end = time.monotonic() + REPLACE_S
    while True:
        try:
            os.replace(draft, path)
            return
        except PermissionError:
            if os.name == "posix" or time.monotonic() > end:
                raise
            time.sleep(0.05)

"""Paths that a user typed, and files that are written whole."""

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

DEFAULT_URL = "sqlite:///nas_attn.db"  # The database that is used where none is named
PART = ".part"  # Ending of a file that is being written
REPLACE_S = 10.0  # Seconds for which a file that is open elsewhere is tried to be replaced
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def user_path(text: str | Path, *, what: str, error: type[UserError], home: bool = True) -> Path:
    """A path as typed, for `Path.exists`; raises `error` where no file could have this name. `what` names the setting."""
    try:
        path = Path(text).expanduser() if home else Path(text)
        os.stat(path)
    except OSError as cause:
        if cause.errno not in _NO_FILE:
            raise error(f"{what} '{shorten(str(text))}' cannot be a file: {cause.strerror}") from None
    except (ValueError, RuntimeError) as cause:
        raise error(f"{what} '{shorten(str(text))}' cannot be a file: {cause}") from None
    return path


HTML = (b"<!doctype html",)  # How a page of ours begins


def output_path(
    text: str | Path, *, what: str, error: type[UserError], replaces: tuple[bytes, ...] | None = None
) -> Path:
    """A path as typed to which a whole file can be moved: nothing is there, or a file that begins as one that may be replaced (None:
    any). Raises `error` where no file could have this name, or something has it that must not be replaced."""
    path = user_path(text, what=what, error=error)
    if os.path.lexists(path) and not path.is_file():
        kind = "a folder: name a file in it" if path.is_dir() else "not an ordinary file: name another file"
        raise error(f"{what} '{shorten(str(text))}' is {kind}")
    if replaces is not None and path.is_file() and os.access(path, os.R_OK):
        with path.open("rb") as file:
            start = file.read(64).lower()
        if start and not start.startswith(replaces):
            raise error(f"{what} '{shorten(str(text))}' already exists and is another kind of file: name another file")
    return path


def write_whole(path: Path, text: str) -> None:
    """Writes a file, which is there whole or as it was before; OSError where that cannot be done."""
    with whole_file(path) as file:
        file.write(text.encode())


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which comes to its place when it is whole and on the disk; OSError where that cannot be done."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PART}")
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
    """Moves a finished file to its place. Windows refuses that while another process reads the old one: tried for a while."""
    end = time.monotonic() + REPLACE_S
    while True:
        try:
            os.replace(draft, path)
            return
        except PermissionError:
            if os.name == "posix" or time.monotonic() > end:
                raise
            time.sleep(0.05)

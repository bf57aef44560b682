"""Paths that a user typed, some of which the system will not even look at."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from nas_attn.errors import UserError, shorten

DEFAULT_URL = "sqlite:///nas_attn.db"
"""The database that is used where none is named."""
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def user_path(text: str | Path, *, what: str, error: type[UserError], home: bool = True) -> Path:
    """A path as typed; whether something is there is the caller's to ask, and may be asked.

    Args:
        what: the setting that names it, for the error.
        error: what to raise.
        home: whether `~` stands for the home folder.

    Raises:
        UserError: (as `error`) no file could have this name: too long, a NUL in it, the home of nobody.
    """
    try:
        path = Path(text).expanduser() if home else Path(text)
        os.stat(path)
    except OSError as cause:
        if cause.errno not in _NO_FILE:
            raise error(f"{what} '{shorten(str(text))}' cannot be a file: {cause.strerror}") from None
    except (ValueError, RuntimeError) as cause:
        raise error(f"{what} '{shorten(str(text))}' cannot be a file: {cause}") from None
    return path


HTML = (b"<!doctype html",)
"""How a page of ours begins."""


def output_path(
    text: str | Path, *, what: str, error: type[UserError], replaces: tuple[bytes, ...] | None = None
) -> Path:
    """A path as typed to which a whole file can be moved: nothing is there, or a file that may be replaced.

    Args:
        replaces: how a file begins that may be replaced without asking, being of the kind that is written; None: any.

    Raises:
        UserError: (as `error`) no file could have this name, or something has it that must not be replaced.
    """
    path = user_path(text, what=what, error=error)
    if os.path.lexists(path) and not path.is_file():
        kind = "a folder: name a file in it" if path.is_dir() else "not an ordinary file: name another file"
        raise error(f"{what} '{shorten(str(text))}' is {kind}")
    if replaces is not None and path.is_file() and os.access(path, os.R_OK):
        with path.open("rb") as file:
            start = file.read(64).lower()
        if start and not start.startswith(replaces):
            raise error(f"{what} '{shorten(str(text))}' already exists and is something else: name another file")
    return path


def write_whole(path: Path, text: str) -> None:
    """Writes a file, which is there whole or as it was before, with the rights of a new one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(draft, rights())
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def rights() -> int:
    """A new file's. There is no way to ask a process for its umask without setting it, so the file system is asked."""
    try:
        line = next(
            line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("Umask")
        )
        return 0o666 & ~int(line.split()[1], 8)
    except (OSError, StopIteration, ValueError):
        return 0o644

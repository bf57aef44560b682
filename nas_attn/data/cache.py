"""What is kept of images in the user's cache: what their files showed, prepared images, and files
that one process makes for itself.

A file of a process's own goes with its last reference. After a killed process, another one removes
it, a week after its last use.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from nas_attn.errors import DataError
from nas_attn.system.paths import UNFINISHED_ENDING, whole_file
from nas_attn.system.processes import cores
from nas_attn.system.waiting import Wait, locked, waits

# seconds that one process may take to prepare or download a data set
LONGEST_S = 4 * 3600.0
# prepared images are removed after so many seconds without use
KEEP_UNUSED_S = 60 * 86_400
# so are files of a process's own, which are renewed at each use, and unfinished ones
LEFT_S = 7 * 86_400
# of the names of a process's own files, and of those that are being written
PREFIX = "own-"
# Size, time of the content, time of the file's entry: whether a file is still the same one. The
# last changes when another file takes its place with the old one's time.
State = tuple[int, int, int]
# in JSON's types
Answer = TypeVar("Answer")
Item = TypeVar("Item")


def cache_folder() -> Path:
    """Returns the folder of prepared images, in the user's cache."""
    return platformdirs.user_cache_path("nas_attn") / "images"


def cache_file(root: Path, what: object, ending: str) -> Path:
    """Returns the place in the cache of what is known of a folder's files."""
    return cache_folder() / f"{cache_mark(root)}-{_digest(repr(what), 16)}{ending}"


def cache_mark(root: Path) -> str:
    """Returns the beginning of the names of a folder's files in the cache."""
    return _digest(str(root.resolve()), 8)


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Inside, only this process makes `what`. If another one takes hours, the wait ends and `what`
    is made once more.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        Wait(f"{what}, which another process makes") as wait,
        locked(path, wait, LONGEST_S) as mine,
    ):
        if not mine:
            waits().say(f"stopped waiting for another process and made it again: {what}")
        yield


def states(paths: Sequence[Path]) -> list[State]:
    """Returns by what each file is known. Raises DataError: it is not there any more."""
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise DataError(
            f"'{error.filename}' was there and cannot be read ({error.strerror}): something else"
            " changes the folder; wait until it has finished, then start again"
        ) from None
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]


def remembered(
    root: Path,
    question: object,
    files: Sequence[Path],
    items: Sequence[Item],
    look: Callable[[Item], Answer],
) -> list[Answer]:
    """Returns what looking at each item of a folder shows, on all cores.

    Args:
        root: The folder.
        question: Its name and version.
        files: Where one of them has changed, all are looked at anew.
        items: What is looked at, such as an image with its mask.
        look: Looks at one, in JSON's types.
    """
    kept = cache_file(root, (question, [str(path) for path in files], states(files)), ".json")
    with suppress(OSError, ValueError):
        known: list[Answer] = json.loads(kept.read_text("utf-8"))
        return known
    with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
        # of threads, only the first of all warnings about odd files would be shown
        warnings.simplefilter("ignore")
        found = list(pool.map(look, items))
    # without a cache, it is looked for again next time
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(kept) as file:
            file.write(json.dumps(found).encode())
    return found


class Scratch:
    """The place of a file, which is removed with the last reference to this object; after a killed
    process, by another one. Raises OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        remove_unused(folder)
        self.path = folder / f"{PREFIX}{uuid.uuid4().hex}.npy"
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def __reduce__(self) -> Any:
        # the process that made it removes it
        return type(None), ()

    def renew(self) -> None:
        """Says that the file is in use."""
        with suppress(OSError):
            os.utime(self.path)


def _remove(path: Path, maker: int) -> None:
    # a forked process has this object, too
    if os.getpid() == maker:
        # Windows keeps open files; another process removes it later
        with suppress(OSError):
            path.unlink(missing_ok=True)


def remove_unused(folder: Path) -> None:
    """Removes prepared images without recent use, and files of killed processes."""
    for path in folder.iterdir():
        left = path.name.startswith(PREFIX) or path.suffix == UNFINISHED_ENDING
        # Windows keeps open files; another process may have removed it
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > (LEFT_S if left else KEEP_UNUSED_S):
                path.unlink(missing_ok=True)

"""What was found out about the files of a folder, kept in the user's cache until one changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from nas_attn.data.parts import cache_folder
from nas_attn.errors import DataError
from nas_attn.system.paths import whole_file

# Size, time of the content, time of the file's entry: whether a file is still the same one. The
# last changes when another file takes its place with the old one's time.
State = tuple[int, int, int]
# in JSON's types
Answer = TypeVar("Answer")


def states(paths: Sequence[Path]) -> list[State]:
    """Of each file. Raises DataError: it is not there any more."""
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise DataError(
            f"'{error.filename}' was there and cannot be read ({error.strerror}): something else"
            " changes the folder; wait until it has finished, then start again"
        ) from None
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats]


def cache_mark(root: Path) -> str:
    """Beginning of the names of a folder's files in the cache."""
    return hashlib.blake2b(
        str(root.resolve()).encode("utf-8", "surrogateescape"), digest_size=8
    ).hexdigest()


def short(what: str) -> str:
    """A name of a file in the cache for a longer text."""
    return hashlib.blake2b(what.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def remembered(
    root: Path, question: object, files: Sequence[Path], answer: Callable[[], Answer]
) -> Answer:
    """The answer to a question about these files of a folder: the kept one if they are unchanged,
    else a new one. `question` names it, with its version.
    """
    what = repr((question, [str(path) for path in files], states(files)))
    kept = cache_folder() / f"{cache_mark(root)}-{short(what)}.json"
    with suppress(OSError, ValueError):
        known: Answer = json.loads(kept.read_text("utf-8"))
        return known
    new = answer()
    # without a cache, it is looked for again next time
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(kept) as file:
            file.write(json.dumps(new).encode())
    return new

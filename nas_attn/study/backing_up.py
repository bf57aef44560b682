"""A copy of a database with the checkpoints and weights that belong to it: both together can be moved, opened, resumed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nas_attn.errors import OperationError, shorten
from nas_attn.paths import PART
from nas_attn.storage import Database
from nas_attn.study.buckets import SCHEME
from nas_attn.study.opening import artifacts_folder


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written."""

    database: Path
    artifacts: Path | None
    """The folder beside it; None where there was nothing to copy."""
    files: int
    size: int
    """Bytes of the artifacts."""
    elsewhere: tuple[str, ...]
    """Buckets in which artifacts lie, which were left there."""


def back_up(database: Database, path: str | Path, *, overwrite: bool = False, artifacts: bool = True) -> Backup:
    """Writes the copy; workers may go on meanwhile.

    What the copy of the database names was there before it or just after, so the files are copied before and after.

    Args:
        overwrite: whether an older copy may be replaced.
        artifacts: whether to copy them.

    Raises:
        StudyError: the target cannot take a copy.
        OperationError: reading or writing failed.
    """
    if not artifacts:
        return Backup(database.backup(path, overwrite=overwrite), None, 0, 0, ())
    database.check_backup(path, overwrite=overwrite)
    target = Path(path).absolute()
    beside = target.with_name(f"{target.stem}.artifacts")
    places = {store.settings.artifacts for store in database.stores()}
    folders = {artifacts_folder(database, place) for place in places}
    around = next((folder for folder in folders if _holds(folder, beside)), None)
    if around is not None:
        raise OperationError(
            f"backup '{target}': its artifacts would be in '{beside}', among those of the database itself, which are in "
            f"'{shorten(str(around))}': name another file or folder"
        )
    _copy(folders, beside)
    written = database.backup(target, overwrite=True)
    _copy(folders, beside)
    with Database(f"sqlite:///{written}") as copy:
        for store in copy.stores():
            if not store.settings.artifacts.startswith(SCHEME):
                store.set(artifacts=beside.name)
        copy.fold_log()
    files = [found for found in beside.rglob("*") if found.is_file()] if beside.is_dir() else []
    buckets = sorted(place for place in places if place.startswith(SCHEME))
    return Backup(written, beside if files else None, len(files), sum(f.stat().st_size for f in files), tuple(buckets))


def _holds(folder: Path, beside: Path) -> bool:
    """Whether what is copied from a folder would lie in it, and be copied again and again."""
    try:
        return beside.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError) as error:  # no folder's name
        raise OperationError(f"the artifacts folder '{shorten(str(folder))}' cannot be read: {error}") from error


def _copy(folders: set[Path], beside: Path) -> None:
    """Copies what is not there yet, or was changed since."""
    try:
        for folder in folders:
            for source in folder.rglob("*"):
                target = beside / source.relative_to(folder)
                if source.name.endswith(PART) or not source.is_file():
                    continue
                with suppress(FileNotFoundError):  # a checkpoint that has just made way for the next
                    status = source.stat()
                    known = target.stat() if target.exists() else None
                    if known is None or (known.st_size, known.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                        target.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(source, target)
    except OSError as error:
        raise OperationError(f"backup of the artifacts to '{beside}' failed: {error}") from error

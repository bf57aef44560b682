"""Weights, checkpoints and unused files of a study: what is kept, what is deleted. Also backups."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import optuna

from nas_attn.answer.answer import Answer
from nas_attn.answer.reading import answer
from nas_attn.answer.workers import workers_of
from nas_attn.errors import OperationError, StudyError, several
from nas_attn.storage.artifacts import (
    answer_artifact,
    mark,
    remove_artifact,
    weights_run,
)
from nas_attn.storage.bucket import SCHEME
from nas_attn.storage.database import Database
from nas_attn.storage.opening import OpenStudy, artifacts_folder
from nas_attn.storage.store import StudyStore
from nas_attn.storage.tables import CheckpointTable
from nas_attn.storage.trial_book import TrialBook
from nas_attn.storage.work import LOST, WAITING
from nas_attn.system.paths import UNFINISHED_ENDING
from nas_attn.system.processes import is_dead

# seconds of silence after which a worker of another machine is lost
FORGOTTEN_S = 86_400.0


@dataclass
class Freed:
    """What is deleted, or would be."""

    # networks whose weights go
    weights: int = 0
    # of runs that have ended
    checkpoints: int = 0
    # files of the study that nothing refers to
    strays: int = 0
    # files of decoded images, once a study is over
    prepared: int = 0
    # bytes in all
    size: int = 0
    # networks whose weights stay
    kept: int = 0


def sweep_weights(opened: OpenStudy, answer: Answer, keep: str, *, dry_run: bool = False) -> Freed:
    """Deletes the search's weights; those of `retrain` stay.

    Args:
        opened: the study.
        answer: of the study as of now.
        keep: `all`, `front` or `none`, as in the recipe.
        dry_run: only counts.
    """
    now = answer.now
    bare = [view for view in now.candidates if view.is_bare]
    best = [*now.front, *bare, answer.chosen, answer.taken]
    stay = {"all": now.candidates, "front": best, "none": []}[keep]
    wanted = {one.key for one in stay if one is not None}
    there = opened.store.all_checkpoints()
    freed = Freed()
    for view in now.candidates:
        rows = there.get(weights_run(view.key))
        if rows and view.key in wanted:
            freed.kept += 1
        elif rows:
            freed.weights += 1
            _drop(opened, rows, freed, dry_run=dry_run)
            if not dry_run:
                opened.store.weights_lost.put(view.key, not_kept(keep))
    return freed


def sweep_checkpoints(opened: OpenStudy, freed: Freed, *, dry_run: bool = False) -> None:
    """Deletes the checkpoints of runs that have ended, which killed workers have left."""
    over = {row.run.files for row in opened.store.queue.rows() if row.state != WAITING}
    for name, rows in opened.store.all_checkpoints().items():
        if name in over:
            freed.checkpoints += len(rows)
            _drop(opened, rows, freed, dry_run=dry_run)


def not_kept(keep: str) -> str:
    """Says why a network's weights are not there, by what the recipe keeps."""
    return f"not kept, since storage.keep_weights is '{keep}'"


def clean(opened: OpenStudy, keep: str | None = None, *, dry_run: bool = False) -> Freed:
    """Frees what a study no longer needs; `keep` None: as the recipe says, or all while it runs.
    Safe while workers work.
    """
    store = opened.store
    found = answer(opened.store)
    now = found.now
    ended = (
        not any(row.state == "running" for row in store.candidates())
        and sum(now.counts.values()) >= now.planned
    )
    keep = keep or (opened.recipe.storage.keep_weights if ended else "all")
    freed = sweep_weights(opened, found, keep, dry_run=dry_run)
    sweep_checkpoints(opened, freed, dry_run=dry_run)
    _sweep_strays(opened, freed, dry_run=dry_run)
    if not ended:
        return freed
    # loads torch
    from nas_attn.data.prepared import prepared_files

    for path in prepared_files(opened.recipe.data):
        if path.suffix == ".npy":
            freed.prepared += 1
        # Windows deletes no file that another study uses
        with suppress(OSError):
            freed.size += path.stat().st_size
            if not dry_run:
                path.unlink()
    return freed


def _drop(
    opened: OpenStudy, rows: Iterable[CheckpointTable], freed: Freed, *, dry_run: bool
) -> None:
    for row in rows:
        freed.size += row.size
        if not dry_run:
            opened.store.drop_checkpoint(row)
            remove_artifact(opened.artifacts, row.artifact)


def _sweep_strays(opened: OpenStudy, freed: Freed, *, dry_run: bool) -> None:
    """Deletes files of workers that died before they recorded them, and files that could not be
    removed earlier.
    """
    store = opened.store
    sizes = opened.artifacts.sizes(mark(store))
    # who holds a lease may be about to record a file
    if store.held():
        return
    needed = {answer_artifact(store)}
    needed |= {row.artifact for rows in store.all_checkpoints().values() for row in rows}
    needed |= {json.loads(text)["artifact"] for text in store.backbones.all().values() if text}
    for name in sizes.keys() - needed:
        freed.strays += 1
        freed.size += sizes[name]
        if not dry_run:
            remove_artifact(opened.artifacts, name)


def sweep(store: StudyStore) -> None:
    """Records that killed workers are lost, and gives their leases back."""
    for worker in store.workers.rows():
        if worker.silent_s > FORGOTTEN_S or is_dead(worker.owner, local=store.is_local):
            store.workers.gone(worker.owner, ending=LOST)
    for lease in store.left():
        store.release(lease)


@dataclass(frozen=True, slots=True)
class Backup:
    database: Path
    # the folder beside it; None if there was nothing to copy
    artifacts: Path | None
    files: int
    # bytes of the artifacts
    size: int
    # buckets of artifacts, which stay there
    elsewhere: tuple[str, ...]


def back_up(
    database: Database, path: str | Path, *, overwrite: bool = False, artifacts: bool = True
) -> Backup:
    """Copies a database with its checkpoints and weights. Both can be moved, and workers may go on:
    files are copied after the database, and a run whose checkpoint made way meanwhile begins anew.

    Args:
        database: what is copied.
        path: of the copy.
        overwrite: whether a file there is replaced.
        artifacts: whether checkpoints and weights are copied, too.

    Raises:
        StudyError: the target takes no copy.
        OperationError: it failed.
    """
    if not artifacts:
        return Backup(database.backup(path, overwrite=overwrite), None, 0, 0, ())
    target = Path(path).absolute()
    beside = target.with_name(f"{target.stem}.artifacts")
    places = {store.settings.artifacts for store in database.stores()}
    written = database.backup(target, overwrite=overwrite, artifacts=beside.name)
    try:
        sizes = [file.stat().st_size for file in _copied(database, beside)]
    except OSError as error:
        failed = f"backup of the artifacts to '{beside}' failed: {error}"
        raise OperationError(f"{failed}: name another file or folder") from error
    buckets = sorted(place for place in places if place.startswith(SCHEME))
    folder = beside if sizes else None
    return Backup(written, folder, len(sizes), sum(sizes), tuple(buckets))


def _own_files(store: StudyStore, folder: Path) -> Iterator[Path]:
    """The files in a folder that belong to a study: a received database may name any folder."""
    for place in folder.glob(f"{mark(store)}-*"):
        for file in (place, *place.rglob("*")):
            if file.is_file() and not file.is_symlink():
                yield file


def _copied(database: Database, beside: Path) -> Iterator[Path]:
    for store in database.stores():
        folder = artifacts_folder(database, store.settings.artifacts)
        for source in _own_files(store, folder):
            if source.suffix != UNFINISHED_ENDING:
                # or it is a checkpoint that has just made way for the next
                with suppress(FileNotFoundError):
                    to = beside / source.relative_to(folder)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, to)
                    yield to


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted with a study."""

    files: int
    """Of weights, checkpoints, and what an evaluator has kept."""
    size: int
    """Bytes of these files."""


def delete_study(opened: OpenStudy) -> Deleted:
    """Deletes a study for good: its files, its trials in Optuna's tables, its rows in ours. Other
    studies of the database and their files stay.

    If this is cut off, the study is still listed, and can be deleted again.

    Raises:
        StudyError: workers are at work on it.
    """
    working = [worker for worker in workers_of(opened) if worker.works]
    if working:
        raise StudyError(
            f"study '{opened.store.name}' has {several(len(working), 'worker')}: stop them first"
            f" with nas-attn stop {opened.store.name}"
        )
    deleted = _delete_files(opened)
    _delete_trials(opened)
    opened.database.delete_study(opened.store.name)
    return deleted


def _delete_trials(opened: OpenStudy) -> None:
    """Deletes the study in Optuna's tables, if it is there. One of its name that is not ours was
    made by a person after ours had been deleted, and stays.
    """
    name = opened.store.name
    with suppress(KeyError):
        book = TrialBook(opened.database, name)
        if book.is_for(opened.recipe):
            optuna.delete_study(study_name=name, storage=book.storage)
        book.close()


def _delete_files(opened: OpenStudy) -> Deleted:
    own = mark(opened.store)
    sizes = opened.artifacts.sizes(own)
    for name in sizes:
        remove_artifact(opened.artifacts, name)
    kept = list(_own_files(opened.store, opened.folder))
    size = sum(sizes.values()) + sum(file.stat().st_size for file in kept)
    for folder in opened.folder.glob(f"{own}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    return Deleted(len(sizes) + len(kept), size)

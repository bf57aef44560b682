"""Checkpoints in a real folder and a real database, damaged on purpose."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nas_attn.errors import CheckpointError, LeaseLost, NasAttnWarning
from nas_attn.storage import connection
from nas_attn.storage.artifacts import (
    KEPT_CHECKPOINTS,
    FolderArtifacts,
    RunFiles,
    read_artifact,
    write_artifact,
)
from nas_attn.storage.database import Database
from nas_attn.storage.store import StudyStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StudyStore]:
    with Database(f"sqlite:///{tmp_path}/study.db") as database:
        yield database.create_study("one", recipe="{}", versions={})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "artifacts"
    path.mkdir()
    return path


@pytest.fixture
def files(store: StudyStore, folder: Path) -> RunFiles:
    lease = store.acquire("trial/0", owner="me")
    return RunFiles(store, FolderArtifacts(folder), "run", lease)


class FullDisk(FolderArtifacts):
    """A folder whose disk fills up."""

    full = False

    def write(self, name: str, content: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(name, content)


def newest(store: StudyStore, folder: Path) -> Path:
    return folder / store.checkpoints("run")[0].artifact


def test_the_newest_is_handed_out_and_few_are_kept(
    files: RunFiles, store: StudyStore, folder: Path
) -> None:
    assert files.load() is None
    for epoch in range(1, 6):
        files.save(f"epoch {epoch}".encode(), epoch)
    assert files.load() == b"epoch 5"
    assert [row.epochs for row in store.checkpoints("run")] == [5, 4]
    assert len(list(folder.iterdir())) == KEPT_CHECKPOINTS
    files.clear()
    assert files.load() is None
    assert not list(folder.iterdir())


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_newest_gives_way_to_the_one_before(
    files: RunFiles, store: StudyStore, folder: Path, damage: str
) -> None:
    files.save(b"epoch 1", 1)
    files.save(b"epoch 2", 2)
    path = newest(store, folder)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"epocH 2" if damage == "flipped" else b"epo")
    with pytest.warns(NasAttnWarning, match="the previous one") as told:
        assert files.load() == b"epoch 1"
    assert len(told) == 1
    assert [row.epochs for row in store.checkpoints("run")] == [1]
    assert files.load() == b"epoch 1"
    newest(store, folder).write_bytes(b"")
    with pytest.warns(NasAttnWarning, match="damaged"):
        assert files.load() is None


def test_a_full_disk_costs_a_checkpoint_not_the_training(store: StudyStore, folder: Path) -> None:
    lease = store.acquire("trial/0", owner="me")
    disk = FullDisk(folder)
    files = RunFiles(store, disk, "run", lease)
    files.save(b"epoch 1", 1)
    disk.full = True
    with pytest.warns(NasAttnWarning, match="No space left on device; "):
        files.save(b"epoch 2", 2)
    assert files.load() == b"epoch 1"
    assert [path.name for path in folder.iterdir()] == [store.checkpoints("run")[0].artifact]


def test_who_has_lost_the_lease_records_no_checkpoint(
    files: RunFiles, store: StudyStore, folder: Path
) -> None:
    files.save(b"mine", 1)
    store.release(files.lease)
    assert store.acquire("trial/0", owner="other") is not None
    with pytest.raises(LeaseLost):
        files.save(b"late", 2)
    assert files.load() == b"mine"
    assert len(list(folder.iterdir())) == 1, "nor does its file stay"


def test_while_the_database_is_away_training_continues_without_a_checkpoint(
    files: RunFiles, store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(b"epoch 1", 1)
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_S", 0.1)
    store._connector.engine.dispose()
    with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.warns(NasAttnWarning, match="without this checkpoint"):
            files.save(b"epoch 2", 2)
        other.execute("ROLLBACK")
    assert files.load() == b"epoch 1"
    files.save(b"epoch 3", 3)
    assert files.load() == b"epoch 3"


def test_a_write_that_is_cut_off_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: int) -> None:
        raise KeyboardInterrupt

    name = f"{'a' * 12}-{'0' * 32}"
    FolderArtifacts(folder).write(name, b"before")
    monkeypatch.setattr(os, "fsync", cut)
    with pytest.raises(KeyboardInterrupt):
        FolderArtifacts(folder).write(name, b"after")
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [(name, b"before")]
    for other in ("../outside", "id_rsa"):  # as a foreign database may name them
        with pytest.raises(ValueError, match="artifact"):
            FolderArtifacts(folder).remove(other)


def test_an_artifact_is_checked_by_its_hash(store: StudyStore, folder: Path) -> None:
    artifacts = FolderArtifacts(folder)
    written = write_artifact(store, artifacts, b"weights")
    assert read_artifact(artifacts, **written) == b"weights"
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_artifact(artifacts, written["artifact"], "0" * 64)

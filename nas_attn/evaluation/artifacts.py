"""Checkpoints and weights: files in an artifact store, their hashes in the study's database."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass

from nas_attn.errors import CheckpointError, NasAttnWarning, StorageAway
from nas_attn.evaluation.artifact_stores import ArtifactStore
from nas_attn.storage import CheckpointRow, Lease, StudyStore
from nas_attn.storage.rows import read_as
from nas_attn.waiting import impatient

KEPT = 2
"""Newest checkpoints of one run that are kept: the second is there should the first be damaged."""


@dataclass(frozen=True, slots=True)
class Note:
    """Where a checkpoint lies that the database could not be told of."""

    artifact: str
    sha256: str
    size: int
    """Bytes."""
    epochs: int


class RunFiles:
    """The checkpoints of one run (a candidate's seed, or the study's backbone) under one lease.

    A checkpoint counts from the moment its row is in the database, which is after its file is whole. While the database is
    away, a note beside the files takes the place of the row: whoever takes the run up finds it. A file with neither is
    never read. Implements `training.CheckpointSlot`.
    """

    def __init__(self, store: StudyStore, artifacts: ArtifactStore, run: str, lease: Lease) -> None:
        """Args:
        run: names what is trained; equal for whoever takes the work up again.
        lease: the right to write; `save` raises `LeaseLost` once it has passed on.
        """
        self._store, self._artifacts, self._run, self._lease = store, artifacts, run, lease

    def load(self) -> bytes | None:
        """The newest checkpoint that is undamaged; None where there is none. Damaged ones are dropped with a warning."""
        newest = next(iter(self._store.checkpoints(self._run)), None)
        note = self.noted()
        if note is not None and (newest is None or note.epochs >= newest.epochs):
            try:
                return read_artifact(self._artifacts, note.artifact, note.sha256)
            except CheckpointError:
                self._drop_note(note)  # of no use; there may be others
        for row in self._store.checkpoints(self._run):
            try:
                return read_artifact(self._artifacts, row.artifact, row.sha256)
            except CheckpointError as error:
                warnings.warn(
                    f"{error}; continuing from the previous one, or from the start", NasAttnWarning, stacklevel=2
                )
                self._drop(row)
        return None

    def save(self, blob: bytes, epochs: int) -> None:
        """Adds a checkpoint and drops those that are no longer needed; one that cannot be written is done without.

        A database that is away is not waited for: a note of the checkpoint is left beside it.

        Raises:
            LeaseLost: the run belongs to another worker now.
        """
        try:
            artifact, sha256 = write_artifact(self._store, self._artifacts, blob)
        except CheckpointError as error:
            warnings.warn(f"{error}; training continues without this checkpoint", NasAttnWarning, stacklevel=2)
            return
        before, new = self.noted(), Note(artifact, sha256, len(blob), epochs)
        try:
            with impatient():
                self._record(new)
        except StorageAway:
            remove_artifact(self._artifacts, self._note_name)
            with suppress(Exception):  # each artifact store has its own
                self._artifacts.write(self._note_name, io.BytesIO(json.dumps(asdict(new)).encode()))
            if before is not None:
                remove_artifact(self._artifacts, before.artifact)
        else:
            if before is not None:
                self._drop_note(before)

    def keep(self, blob: bytes, epochs: int) -> None:
        """As `save`, where what cannot be written is an error.

        Raises:
            LeaseLost: the run belongs to another worker now.
            CheckpointError: it cannot be written.
        """
        artifact, sha256 = write_artifact(self._store, self._artifacts, blob)
        self._record(Note(artifact, sha256, len(blob), epochs))

    def _record(self, note: Note) -> None:
        self._store.add_checkpoint(self._run, **asdict(note), lease=self._lease)
        for row in self._store.checkpoints(self._run)[KEPT:]:
            self._drop(row)

    def clear(self) -> None:
        """Drops all checkpoints of the run."""
        for row in self._store.checkpoints(self._run):
            self._drop(row)
        note = self.noted()
        if note is not None:
            self._drop_note(note)

    def noted(self) -> Note | None:
        """The checkpoint that was written while the database was away, and has no row; None where there is none."""
        return read_note(self._store, self._artifacts, self._run)

    @property
    def _note_name(self) -> str:
        return note_name(self._store, self._run)

    def _drop_note(self, note: Note) -> None:
        remove_artifact(self._artifacts, self._note_name)
        remove_artifact(self._artifacts, note.artifact)

    def _drop(self, row: CheckpointRow) -> None:
        self._store.drop_checkpoint(row)
        remove_artifact(self._artifacts, row.artifact)


def note_name(store: StudyStore, run: str) -> str:
    """Name of the artifact that says where a checkpoint lies which the database could not be told of."""
    return f"{mark(store)}-note-{hashlib.sha256(run.encode()).hexdigest()[:32]}"


def read_note(store: StudyStore, artifacts: ArtifactStore, run: str) -> Note | None:
    """What the note of a run's checkpoint says; None where there is none that can be read."""
    try:
        with artifacts.open_reader(note_name(store, run)) as reader:
            return read_as(Note, json.loads(reader.read()))
    except Exception:  # missing, as each artifact store says in its own way, or cut off
        return None


def mark(store: StudyStore) -> str:
    """With what the names of a study's artifacts begin: others may lie in the same folder."""
    return hashlib.sha256(f"{store.name}\n{store.created_at!r}".encode()).hexdigest()[:12]


def write_artifact(store: StudyStore, artifacts: ArtifactStore, blob: bytes) -> tuple[str, str]:
    """Stores bytes of a study under a new name; returns the name and the SHA-256.

    Raises:
        CheckpointError: it cannot be written (disk full, folder gone).
    """
    artifact = f"{mark(store)}-{uuid.uuid4().hex}"
    try:
        artifacts.write(artifact, io.BytesIO(blob))
    except Exception as error:  # each artifact store has its own exceptions
        remove_artifact(artifacts, artifact)
        raise CheckpointError(f"a checkpoint of {len(blob):,} bytes cannot be written: {error}") from None
    return artifact, hashlib.sha256(blob).hexdigest()


def read_artifact(artifacts: ArtifactStore, artifact: str, sha256: str) -> bytes:
    """The bytes of an artifact, checked.

    Raises:
        CheckpointError: it is missing or its SHA-256 differs.
    """
    try:
        with artifacts.open_reader(artifact) as reader:
            blob = reader.read()
    except Exception as error:  # each artifact store has its own exceptions
        raise CheckpointError(f"checkpoint {artifact} cannot be read ({error or type(error).__name__})") from None
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise CheckpointError(f"checkpoint {artifact} is damaged: its SHA-256 differs from the recorded one")
    return blob


def remove_artifact(artifacts: ArtifactStore, artifact: str) -> None:
    """Deletes an artifact; one that is gone already is fine."""
    try:
        artifacts.remove(artifact)
    except Exception as error:  # nothing depends on it any more, so it must not stop a trial
        del error

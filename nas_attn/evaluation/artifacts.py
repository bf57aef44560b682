"""Where checkpoints live: files in an artifact store, their hashes in the study's database."""

from __future__ import annotations

import hashlib
import io
import uuid
import warnings
from typing import BinaryIO, Protocol

from nas_attn.errors import CheckpointError, NasAttnWarning
from nas_attn.storage import CheckpointRow, Lease, StudyStore

KEPT = 2
"""Newest checkpoints of one run that are kept: the second is there should the first be damaged."""


class ArtifactStore(Protocol):
    """What Optuna's artifact stores offer: a folder, S3, GCS."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact's content; an exception where it is missing."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Stores a new artifact."""

    def remove(self, artifact_id: str) -> None:
        """Deletes an artifact."""


class RunFiles:
    """The checkpoints of one run (a candidate's seed, or the study's backbone) under one lease.

    A checkpoint counts from the moment its row is in the database, which is after its file is whole; a file without a
    row is never read. Implements `training.CheckpointSlot`.
    """

    def __init__(self, store: StudyStore, artifacts: ArtifactStore, run: str, lease: Lease) -> None:
        """Args:
        run: names what is trained; equal for whoever takes the work up again.
        lease: the right to write; `save` raises `LeaseLost` once it has passed on.
        """
        self._store, self._artifacts, self._run, self._lease = store, artifacts, run, lease

    def load(self) -> bytes | None:
        """The newest checkpoint that is undamaged; None where there is none. Damaged ones are dropped with a warning."""
        for row in self._store.checkpoints(self._run):
            try:
                return read_artifact(self._artifacts, row.artifact, row.sha256)
            except CheckpointError as error:
                warnings.warn(
                    f"{error}; going on from the one before it, or from the start", NasAttnWarning, stacklevel=2
                )
                self._drop(row)
        return None

    def save(self, blob: bytes, epochs: int) -> None:
        """Adds a checkpoint and drops those that are no longer needed.

        Raises:
            LeaseLost: the run belongs to another worker now.
        """
        try:
            artifact, sha256 = write_artifact(self._artifacts, blob)
        except CheckpointError as error:
            warnings.warn(f"{error}; training goes on without this checkpoint", NasAttnWarning, stacklevel=2)
            return
        self._store.add_checkpoint(
            self._run, artifact=artifact, sha256=sha256, size=len(blob), epochs=epochs, lease=self._lease
        )
        for row in self._store.checkpoints(self._run)[KEPT:]:
            self._drop(row)

    def clear(self) -> None:
        """Drops all checkpoints of the run."""
        for row in self._store.checkpoints(self._run):
            self._drop(row)

    def _drop(self, row: CheckpointRow) -> None:
        self._store.drop_checkpoint(row)
        remove_artifact(self._artifacts, row.artifact)


def write_artifact(artifacts: ArtifactStore, blob: bytes) -> tuple[str, str]:
    """Stores bytes under a new name; returns the name and the SHA-256.

    Raises:
        CheckpointError: it cannot be written (disk full, folder gone).
    """
    artifact = uuid.uuid4().hex
    try:
        artifacts.write(artifact, io.BytesIO(blob))
    except OSError as error:
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

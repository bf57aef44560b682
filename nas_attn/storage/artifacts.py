"""Checkpoints and weights of a study, files in a folder or bucket with their hashes in its
database; and the curves of its runs.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from nas_attn.attention.choice import Choice
from nas_attn.errors import CheckpointError, LeaseLost, NasAttnWarning, StorageAway
from nas_attn.recipe.purposes import BACKBONE, RETRAIN, SEARCH
from nas_attn.storage.records import EpochPoint
from nas_attn.storage.rows import Lease, Run
from nas_attn.storage.store import StudyStore
from nas_attn.storage.tables import CheckpointTable
from nas_attn.system.paths import UNFINISHED_ENDING, whole_file
from nas_attn.system.waiting import impatient

_NAME = re.compile(
    rf"[0-9a-f]{{12}}-[0-9a-f]{{32}}(\.[0-9a-f]{{8}}{re.escape(UNFINISHED_ENDING)})?"
)
# newest checkpoints kept of one run; the second is used if the first is damaged
KEPT_CHECKPOINTS = 2


class ArtifactStore(Protocol):
    """A folder, or a bucket of S3 (`storage.opening`). A missing artifact raises the store's own
    exception.
    """

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None:
        """Stores a complete artifact, or nothing."""

    def remove(self, name: str) -> None: ...

    def sizes(self, beginning: str = "") -> dict[str, int]:
        """Name -> bytes of the artifacts whose names begin so, half-written ones included."""


def checked_name(name: str) -> str:
    """The name of an artifact, half-written ones included. ValueError: another name, with which a
    database could reach foreign files.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{name}' is not the name of an artifact")
    return name


@dataclass
class FolderArtifacts:
    """Files of a folder, each written completely or not at all."""

    folder: Path

    def read(self, name: str) -> bytes:
        return (self.folder / checked_name(name)).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        # the database records it afterwards
        with whole_file(self.folder / checked_name(name)) as file:
            file.write(content)

    def remove(self, name: str) -> None:
        (self.folder / checked_name(name)).unlink()

    def sizes(self, beginning: str = "") -> dict[str, int]:
        sizes = {}
        for path in self.folder.glob(f"{beginning}*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink():
                    sizes[path.name] = path.stat().st_size
        return sizes


@dataclass
class RunFiles:
    """Checkpoints of one run under one lease; one counts once its row is there. A
    `training.run.CheckpointSlot`.
    """

    store: StudyStore
    artifacts: ArtifactStore
    # names the training; it is the same for every worker that continues it
    run: str
    lease: Lease

    def load(self) -> bytes | None:
        """The newest undamaged checkpoint; None if there is none. Damaged ones are dropped with a
        warning.
        """
        for row in self.store.checkpoints(self.run):
            try:
                return read_artifact(self.artifacts, row.artifact, row.sha256)
            except CheckpointError as error:
                warnings.warn(
                    f"{error}; continuing from the previous one or the start",
                    NasAttnWarning,
                    stacklevel=2,
                )
                self._drop(row)
        return None

    def save(self, blob: bytes, epochs: int) -> None:
        """Adds a checkpoint, drops old ones; warns if that fails. Raises LeaseLost: another worker
        has the run.
        """
        try:
            with impatient():
                self.keep(blob, epochs)
        except (CheckpointError, StorageAway) as error:
            warnings.warn(
                f"{error}; training continues without this checkpoint",
                NasAttnWarning,
                stacklevel=2,
            )

    def keep(self, blob: bytes, epochs: int) -> None:
        """As `save`, but raises CheckpointError if it cannot be written. Raises LeaseLost: another
        worker has the run.
        """
        written = write_artifact(self.store, self.artifacts, blob)
        try:
            self.store.add_checkpoint(
                self.run, **written, size=len(blob), epochs=epochs, lease=self.lease
            )
        except LeaseLost:
            remove_artifact(self.artifacts, written["artifact"])
            raise
        for row in self.store.checkpoints(self.run)[KEPT_CHECKPOINTS:]:
            self._drop(row)

    def clear(self) -> None:
        for row in self.store.checkpoints(self.run):
            self._drop(row)

    def _drop(self, row: CheckpointTable) -> None:
        self.store.drop_checkpoint(row)
        remove_artifact(self.artifacts, row.artifact)


def mark(store: StudyStore) -> str:
    """The beginning of the names of all that a study keeps in a folder, which several may share."""
    return hashlib.sha256(f"{store.name}\n{store.created_at!r}".encode()).hexdigest()[:12]


def run_folder(store: StudyStore, run: Run) -> str:
    """The name of the folder for an evaluator's own files of a run, which other studies never
    share.
    """
    return f"{mark(store)}-{run.folder}"


def answer_artifact(store: StudyStore) -> str:
    """The name of the answer's table, which is written anew when it changes."""
    return f"{mark(store)}-{hashlib.sha256(b'answer').hexdigest()[:32]}"


def write_artifact(store: StudyStore, artifacts: ArtifactStore, blob: bytes) -> dict[str, str]:
    """Stores bytes of a study; returns their new name and SHA-256 as `read_artifact` takes them.
    Raises CheckpointError: disk full, folder gone.
    """
    artifact = f"{mark(store)}-{uuid.uuid4().hex}"
    try:
        artifacts.write(artifact, blob)
    except Exception as error:
        # each artifact store has its own exceptions
        raise CheckpointError(
            f"a checkpoint of {len(blob):,} bytes cannot be written: {error}"
        ) from None
    return {"artifact": artifact, "sha256": hashlib.sha256(blob).hexdigest()}


def read_artifact(artifacts: ArtifactStore, artifact: str, sha256: str) -> bytes:
    """The bytes of an artifact, checked. Raises CheckpointError: it is missing or its SHA-256
    differs.
    """
    try:
        blob = artifacts.read(artifact)
    except Exception as error:
        # each artifact store has its own exceptions
        raise CheckpointError(
            f"checkpoint {artifact} cannot be read ({error or type(error).__name__})"
        ) from None
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise CheckpointError(
            f"checkpoint {artifact} is damaged: its SHA-256 differs from the recorded one"
        )
    return blob


def remove_artifact(artifacts: ArtifactStore, artifact: str) -> None:
    """Deletes an artifact; one that is gone already is fine."""
    with suppress(Exception):
        # each artifact store has its own; nothing depends on the file any more
        artifacts.remove(artifact)


def backbone_key(other: Choice | None) -> str:
    """Key of the runs that train the study's backbone, or a control's other backbone."""
    return BACKBONE if other is None else f"{BACKBONE} {other}"


def backbone_name(number: int, key: str) -> str:
    """Name of a trained backbone."""
    return f"{number}{key.removeprefix(BACKBONE)}"


def weights_run(name: str) -> str:
    """Name under which trained weights are kept; `name`: a candidate's key for the search, else the
    run's files.
    """
    return f"weights:{name}"


def kept_runs(store: StudyStore, key: str) -> list[Run]:
    """A network's runs as the target says whose weights are kept: retrained ones first, by seed."""
    rows = store.queue.rows(key=key, state="done")
    done = [row.run for row in rows if row.run.protocol != SEARCH and is_kept(store, row.run)]
    return sorted(done, key=lambda run: (run.purpose != RETRAIN, run.seed))


def is_kept(store: StudyStore, run: Run) -> bool:
    """Whether the weights of a training as the target says are kept."""
    return bool(store.checkpoints(weights_run(run.files)))


def keep_curve(store: StudyStore, run: Run, lease: Lease) -> Callable[[EpochPoint], None]:
    """A function that records each point of a run's curve. Points after the checkpoint from which
    it continues are deleted.
    """

    def add(point: EpochPoint) -> None:
        points = json.loads(store.curves.get(run.files) or "[]")
        before = [one for one in points if one["epochs"] < point.epochs]
        store.check(lease)
        store.curves.put(run.files, json.dumps([*before, asdict(point)]))

    return add

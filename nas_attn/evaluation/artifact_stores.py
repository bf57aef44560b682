"""Where artifacts lie: a folder of files that are whole as soon as they are there."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from nas_attn.paths import whole_file


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact that lies there, whoever refers to it."""

    name: str
    size: int
    """Bytes."""
    age_s: float


class ArtifactStore(Protocol):
    """A folder, or a bucket of S3 (`study.buckets`)."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The artifact's content; an exception where it is missing."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Stores an artifact, all of it or nothing."""

    def remove(self, artifact_id: str) -> None:
        """Deletes an artifact."""

    def stored(self) -> list[Stored]:
        """All that lie there; what is half-written among them."""


class FolderArtifacts:
    """Files of a folder. A file is written beside its place and then put there: a process that dies leaves no half of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return self._path(artifact_id).open("rb")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        with whole_file(self._path(artifact_id)) as file:  # the database will say that it is there
            shutil.copyfileobj(content_body, file)

    def remove(self, artifact_id: str) -> None:
        self._path(artifact_id).unlink()

    def stored(self) -> list[Stored]:
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        status = entry.stat()
                        found.append(Stored(entry.name, status.st_size, max(0.0, time.time() - status.st_mtime)))
        return found

    def _path(self, artifact_id: str) -> Path:
        if not artifact_id or Path(artifact_id).name != artifact_id:
            raise ValueError(f"'{artifact_id}' is not the name of an artifact")
        return self.folder / artifact_id

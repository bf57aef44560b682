"""A checkpoint slot in memory."""

from __future__ import annotations


class MemorySlot:
    """The last checkpoint of a training that need not survive its process."""

    blob: bytes | None = None

    def load(self) -> bytes | None:
        return self.blob

    def save(self, blob: bytes, epochs: int) -> None:
        self.blob = blob

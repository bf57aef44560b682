"""A training's state as bytes: tensors and plain values only, read back with `weights_only=True`."""

from __future__ import annotations

import io
import pickle
from typing import Any, Protocol

import torch

from nas_attn.errors import CheckpointError, first_line

FORMAT = 2


class CheckpointSlot(Protocol):
    """Where one training's checkpoint is kept. The slot makes writes atomic and checks what it hands out.

    A slot in memory, for a training that need not survive its process::

        class MemorySlot:
            blob: bytes | None = None

            def load(self) -> bytes | None:
                return self.blob

            def save(self, blob: bytes, epochs: int) -> None:
                self.blob = blob
    """

    def load(self) -> bytes | None:
        """The last checkpoint, None where there is none."""

    def save(self, blob: bytes, epochs: int) -> None:
        """Keeps a checkpoint in place of the last one.

        Raises:
            CheckpointError: it could not be written; the last one is still there.
        """


def encode(payload: dict[str, Any]) -> bytes:
    """Bytes of a payload of tensors, numbers, texts, lists and dicts."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **payload}, buffer)
    return buffer.getvalue()


def decode(blob: bytes, fits: str) -> dict[str, Any]:
    """The payload of a checkpoint that was written for the same training.

    Args:
        fits: what the payload must have under `fits`.

    Raises:
        CheckpointError: it is damaged, of another format, or belongs to another training.
    """
    try:
        payload = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = first_line(error)
        raise CheckpointError(f"the checkpoint of {len(blob)} bytes is damaged: {reason}") from None
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"the checkpoint does not have format {FORMAT}: another version wrote it")
    if payload.get("fits") != fits:
        raise CheckpointError(
            "the checkpoint belongs to another training (other network, data, seed or settings): start this one again"
        )
    return payload

"""Checkpoints of a training: tensors and plain values, read with `weights_only=True`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from nas_attn.errors import CheckpointError, first_line


class CheckpointSlot(Protocol):
    """Keeps one training's checkpoint. Writes are atomic, and reads are checked."""

    def load(self) -> bytes | None:
        """The last checkpoint; None if there is none."""

    def save(self, blob: bytes, epochs: int) -> None:
        """Replaces the last checkpoint. CheckpointError: it could not be written, and the last one
        is still there.
        """


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training."""

    slot: CheckpointSlot
    # network, data and settings as one text, which a checkpoint must match to be continued
    identity: str

    def write(self, payload: Mapping[str, Any], epochs: int) -> None:
        """Replaces the last one by this, of tensors, numbers, texts, lists and dicts."""
        buffer = io.BytesIO()
        torch.save({"fits": self.identity, **payload}, buffer)
        self.slot.save(buffer.getvalue(), epochs)

    def read(self) -> Mapping[str, Any] | None:
        """The payload of the last one; None if there is none. CheckpointError: damaged, or of
        another format or training.
        """
        blob = self.slot.load()
        if blob is None:
            return None
        try:
            payload = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, UnpicklingError) as error:
            raise CheckpointError(
                f"the checkpoint of {len(blob)} bytes is damaged: {first_line(error)}"
            ) from None
        if not isinstance(payload, dict) or payload.get("fits") != self.identity:
            raise CheckpointError(
                "the checkpoint is of another training (network, data, seed, settings or version):"
                " start anew"
            )
        return payload

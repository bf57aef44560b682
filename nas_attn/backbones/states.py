"""A network's state_dict on its way through a file or the database and back.

More belongs to a state_dict than its tensors: the versions of the modules' formats, which torch keeps in an attribute
that a plain dict loses (MNASNet cannot be loaded without), and what a module returns from `get_extra_state`.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.errors import CheckpointError, first_line

Versions = Mapping[str, Mapping[str, Any]]
"""Path of a module -> its entry, `{"version": 2}`."""


def versions_of(state: Mapping[str, Any]) -> Versions | None:
    """The modules' versions that a state_dict came with; None where it has lost them."""
    found = getattr(state, "_metadata", None)
    right = isinstance(found, Mapping) and all(isinstance(entry, Mapping) for entry in found.values())
    return found if right else None


def with_versions(values: Mapping[str, Any], versions: Versions | None) -> OrderedDict[str, Any]:
    """A state_dict of these values and versions."""
    state = OrderedDict(values)
    if versions is not None:
        state._metadata = OrderedDict((path, dict(entry)) for path, entry in versions.items())  # type: ignore[attr-defined]
    return state


def restore(model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
    """Loads a state_dict of this very network, also one that has lost its modules' versions; returns the model."""
    model.load_state_dict(with_versions(state, versions_of(state) or versions_of(model.state_dict())))
    return model


def pack(model: nn.Module) -> bytes:
    """A network's state_dict as bytes that `torch.load(weights_only=True)` reads."""
    state = model.state_dict()
    values = {
        name: value.detach().cpu().contiguous() if isinstance(value, Tensor) else value for name, value in state.items()
    }
    buffer = io.BytesIO()
    torch.save(with_versions(values, versions_of(state)), buffer)
    return buffer.getvalue()


def unpack(blob: bytes) -> Mapping[str, Any]:
    """The state_dict that `pack` wrote, on the CPU.

    Raises:
        CheckpointError: it holds more than tensors and plain values (a module's extra state), which is not read.
    """
    try:
        state: Mapping[str, Any] = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes
        first = first_line(error)
        raise CheckpointError(f"kept weights of {len(blob):,} bytes cannot be read: {first}") from None
    return state

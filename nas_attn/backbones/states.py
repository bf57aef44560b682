"""A network's state_dict on its way through a file or the database and back.

More belongs to a state_dict than its tensors: the versions of the modules' formats, which torch keeps in an attribute
that a plain dict loses (MNASNet cannot be loaded without), and what a module returns from `get_extra_state`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.errors import BackboneError, CheckpointError, few, first_line, shorten
from nas_attn.paths import user_path

Versions = Mapping[str, Mapping[str, Any]]
"""Path of a module -> its entry, `{"version": 2}`."""
WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights"),
    *("ema", "ema_state_dict", "model_ema", "state_dict_ema", "params_ema"),
)
"""Keys under which training programs keep a state_dict among other things; the first that is there counts."""
WRAPPING = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a parameter's name that torch.compile, FSDP and activation checkpointing put in, wherever they wrapped."""
_DEPTH = 4
_SAVE = "torch.save(model.state_dict(), FILE)"


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


def read_state(path: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The state_dict in a file, taken out of what it is wrapped in; names as they are, but for `WRAPPING`.

    Args:
        path: `.npz`, `.safetensors`, or anything else for what `torch.save` wrote. Nothing in it is executed.

    Returns:
        The state_dict, with its modules' versions where it has them; and what a user should know about the choice.

    Raises:
        BackboneError: the file does not exist, cannot be read or holds something else.
    """
    shown, file = shorten(path), user_path(path, what="weights file", error=BackboneError)
    where = f"weights '{shown}'"
    try:
        if file.is_dir():
            raise BackboneError(f"weights file '{shown}' is a folder: name the file in it")
        if not file.is_file():
            raise BackboneError(f"weights file '{shown}' does not exist (looked in {Path.cwd()})")
        file.open("rb").close()
    except OSError as error:
        raise BackboneError(f"weights file '{shown}' cannot be read: {error.strerror}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of old formats concerns no one here
            loaded = _read(file)
    except BackboneError:
        raise
    except Exception as error:  # the readers raise what they like
        raise BackboneError(f"weights file '{shown}' cannot be read: {_why(file, error)}") from None
    state, notes = _unwrapped(loaded, where)
    return _without_wrapping(state), tuple(f"{where}: {note}" for note in notes)


def _read(file: Path) -> Any:
    if file.suffix == ".npz":
        import numpy as np

        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    if file.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise BackboneError(f"weights '{file}' need safetensors: pip install safetensors") from None
        return load_file(str(file))
    return torch.load(file, map_location="cpu", weights_only=True)


def _why(file: Path, error: Exception) -> str:
    """What the file is instead, and the way out."""
    with file.open("rb") as opened:
        start = opened.read(256)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
    if file.suffix in (".npz", ".safetensors"):
        return f"it is not a {file.suffix} file of plain arrays ({first_line(error)[:200]})"
    if "TorchScript" in str(error):
        return f"it is a TorchScript program, not weights: load it with torch.jit.load, then {_SAVE}"
    if unknown := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"it holds a Python object ({unknown.group(1)}), which could run code when it is read: if you trust the file, "
            f"load it yourself and save only the weights with {_SAVE}"
        )
    return f"it is damaged, or it was not written by {_SAVE}"


def _unwrapped(loaded: Any, where: str) -> tuple[Mapping[str, Any], list[str]]:
    """The state_dict inside, and what was left lying beside it."""
    notes: list[str] = []
    for _ in range(_DEPTH):
        if not isinstance(loaded, Mapping):
            raise BackboneError(
                f"{where} holds a {type(loaded).__name__}, not a state_dict: use a file written by {_SAVE}"
            )
        known = _wraps(loaded)
        others = [key for key, value in loaded.items() if _is_state(value) or _wraps(value)] if not known else []
        if known:
            states = [key for key in known if _is_state(loaded[key])]
            if len(states) > 1:
                notes.append(f"it has {few(states)}; {states[0]} is used")
            loaded = loaded[(states or known)[0]]
        elif _is_state(loaded):
            return loaded, notes
        elif len(others) == 1:
            loaded = loaded[others[0]]
        else:
            break
    held = f" (it has {few(list(map(str, loaded)))})" if loaded else ""
    raise BackboneError(f"{where} has no state_dict (names and tensors){held}: use a file written by {_SAVE}")


def _wraps(value: Any) -> list[str]:
    """Known keys under which something is kept there."""
    if not isinstance(value, Mapping):
        return []
    return [key for key in WRAPPERS if isinstance(value.get(key), Mapping) and value[key]]


def _is_state(value: Any) -> bool:
    """Names with tensors; a counter or some extra state among them does no harm."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    return 2 * sum(isinstance(entry, torch.Tensor) for entry in value.values()) > len(value)


def _without_wrapping(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state_dict without the parts of its names that stand for a wrapper."""

    def bare(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in WRAPPING)

    if not any(WRAPPING.intersection(name.split(".")) for name in state):
        return state
    versions = versions_of(state)
    kept = None if versions is None else {bare(path): entry for path, entry in versions.items()}
    return with_versions({bare(name): value for name, value in state.items()}, kept)

"""Trained weights into a model whose head or first layer may have another size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_attn.errors import BackboneError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_weights(model: nn.Module, path: str) -> None:
    """Loads a state_dict file into a bare model. Counters of BatchNorm batches may be missing, the head may differ.

    Args:
        path: `.pt`, `.pth` (tensors only: nothing in the file is executed), `.safetensors` or `.npz`.

    Raises:
        BackboneError: the file cannot be read, or does not hold this model's weights.
    """
    fit(model, read_state(path), where=f"weights '{path}'")


def read_state(path: str) -> dict[str, Tensor]:
    """The state_dict in a file, unwrapped from `state_dict` or `model` and from a `module.` prefix.

    Raises:
        BackboneError: the file does not exist, cannot be read or holds something else.
    """
    import torch

    file = Path(path).expanduser()
    if not file.is_file():
        raise BackboneError(f"weights file '{path}' does not exist (looked in {Path.cwd()})")
    try:
        state = _read(file)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(f"weights file '{path}' cannot be read: {first}") from error
    for wrapper in ("state_dict", "model"):
        state = state[wrapper] if isinstance(state.get(wrapper), dict) else state
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BackboneError(f"weights file '{path}' holds no state_dict (names and tensors)")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _read(file: Path) -> dict[str, Any]:
    import torch

    if file.suffix == ".npz":
        import numpy as np

        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = load_file(str(file))
        return tensors
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}")
    return loaded


def fit(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Loads `state`; a first layer for another number of input channels is adapted, a head of another size stays random.

    Raises:
        BackboneError: names or shapes differ elsewhere.
    """
    own = model.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state and name not in optional]
    if missing:
        raise BackboneError(
            f"{where}: has no '{missing[0]}' ({len(missing)} of {len(own)} names are missing): "
            f"{did_you_mean(missing[0], state)}"
        )
    first, head = _ends(model)
    taken: dict[str, Tensor] = {}
    for name, value in own.items():
        given = state.get(name)
        if given is None or given.shape == value.shape:
            taken[name] = value if given is None else given
        elif name == first and given.ndim == 4:
            taken[name] = other_channels(given, value.shape[1])
        elif name.rpartition(".")[0] == head:
            taken[name] = value
        else:
            raise BackboneError(f"{where}: '{name}' has shape {tuple(given.shape)}, the model {tuple(value.shape)}")
    model.load_state_dict(taken)


def _ends(model: nn.Module) -> tuple[str | None, str | None]:
    """(name of the first convolution's weight, path of the last layer that has weights)."""
    from torch import nn

    convolutions = [path for path, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    layers = [path for path, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return (f"{convolutions[0]}.weight" if convolutions else None, layers[-1] if layers else None)


def other_channels(weight: Tensor, channels: int) -> Tensor:
    """A trained first convolution's weight (O, I, k, k) for another number of input channels.

    One channel: the sum, so that a grey image answers like the same image in equal channels; else repeated in turn
    and scaled to the same total.
    """
    import torch

    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turn = torch.arange(channels) % weight.shape[1]
    return weight[:, turn] * (weight.shape[1] / channels)

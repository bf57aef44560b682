"""Weights of networks: to and from files and the database, and into a model whose first or last
layer may have another size.

A state_dict also has the versions of the modules' formats, in an attribute that a plain dict loses
(MNASNet cannot be loaded without): `restore` gives it those of the network.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.backbones.torchvision_detectors import PREDICTORS
from nas_attn.errors import BackboneError, CheckpointError, few, first_line, several, shorten
from nas_attn.system.paths import user_path

WRAPPERS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights"),
    *("ema", "ema_state_dict", "model_ema", "state_dict_ema", "params_ema"),
)
"""Keys of a state_dict in training programs' files; the first existing one is used."""
WRAPPING = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a parameter's name that torch.compile, FSDP and activation checkpointing insert."""
COUNTER = "num_batches_tracked"
"""Last part of the name of a BatchNorm's counter, which may be missing in old and foreign files."""
EXTRA = "_extra_state"
"""Last part of the name of a module's state that is not a tensor."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.", "n_averaged")
"""Prefixes of names that are only for training: auxiliary heads, the counter of an average."""
_DEPTH = 4
_SAVE = "torch.save(model.state_dict(), FILE)"


def restore(model: nn.Module, state: Mapping[str, Any]) -> nn.Module:
    """Loads a state_dict of exactly this network, even without its modules' versions; returns the
    model.
    """
    given = OrderedDict(state)
    versions = getattr(state, "_metadata", None) or getattr(model.state_dict(), "_metadata", None)
    given._metadata = versions  # type: ignore[attr-defined]
    model.load_state_dict(given)
    return model


def pack(model: nn.Module) -> bytes:
    """A network's state_dict as bytes that `torch.load(weights_only=True)` reads."""
    state = model.state_dict()
    for name, value in state.items():
        if isinstance(value, Tensor):
            state[name] = value.detach().cpu().contiguous()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack(blob: bytes) -> Mapping[str, Any]:
    """The state_dict that `pack` wrote, on the CPU. CheckpointError: it is damaged, or holds more
    than tensors and plain values.
    """
    try:
        state: Mapping[str, Any] = torch.load(
            io.BytesIO(blob), map_location="cpu", weights_only=True
        )
    except Exception as error:
        # torch may raise any error
        raise CheckpointError(
            f"kept weights of {len(blob):,} bytes cannot be read: {first_line(error)}"
        ) from None
    return state


def read_state(path: str) -> tuple[Mapping[str, Any], list[str]]:
    """Gives the unwrapped state_dict of a file, and a sentence if the file has more of them.

    The file is `.npz`, `.safetensors`, or what `torch.save` wrote; nothing in it is executed.

    Raises:
        BackboneError: the file does not exist, cannot be read or holds something else.
    """
    shown = shorten(path)
    file = user_path(path, what="weights file", error=BackboneError)
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
            # torch's warnings about old formats are of no use here
            warnings.simplefilter("ignore")
            loaded = _read(file)
    except BackboneError:
        raise
    except Exception as error:
        # the readers may raise any error
        raise BackboneError(f"weights file '{shown}' cannot be read: {_why(file, error)}") from None
    state, notes = _unwrapped(loaded, where)
    return {_bare(name): value for name, value in state.items()}, notes


def _read(file: Path) -> Any:
    if file.suffix == ".npz":
        import numpy as np

        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
    if file.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise BackboneError(
                f"weights '{file}' need safetensors: pip install safetensors"
            ) from None
        return load_file(str(file))
    return torch.load(file, map_location="cpu", weights_only=True)


def _why(file: Path, error: Exception) -> str:
    """Why the file cannot be read, and the way out."""
    with file.open("rb") as opened:
        start = opened.read(256)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"
    if file.suffix in (".npz", ".safetensors"):
        return f"it is not a {file.suffix} file of plain arrays ({first_line(error)[:200]})"
    if "TorchScript" in str(error):
        return (
            f"it is a TorchScript program, not weights: load it with torch.jit.load, then {_SAVE}"
        )
    if unknown := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return (
            f"it holds a Python object ({unknown.group(1)}), which could run code when it is read:"
            f" if you trust the file, load it yourself and save only the weights with {_SAVE}"
        )
    return f"it is damaged, or it was not written by {_SAVE}"


def _unwrapped(loaded: Any, where: str) -> tuple[Mapping[str, Any], list[str]]:
    """(The state_dict inside, a sentence where it is one of several.)"""
    notes: list[str] = []
    for _ in range(_DEPTH):
        if _is_state(loaded):
            return loaded, notes
        if not isinstance(loaded, Mapping):
            kind = type(loaded).__name__
            raise BackboneError(
                f"{where} holds a {kind}, not a state_dict: use a file written by {_SAVE}"
            )
        inside = {key: value for key, value in loaded.items() if _holds(value)}
        known = [key for key in WRAPPERS if key in inside]
        if not known and len(inside) != 1:
            break
        if len(known) > 1:
            notes.append(f"{where}: it has {few(known)}; {known[0]} is used")
        loaded = inside[known[0]] if known else next(iter(inside.values()))
    held = f" (it has {few(list(map(str, loaded)))})" if loaded else ""
    raise BackboneError(
        f"{where} has no state_dict (names and tensors){held}: use a file written by {_SAVE}"
    )


def _is_state(value: Any) -> bool:
    """Whether it is a table of names and tensors; counters and extra state are allowed."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    return 2 * sum(isinstance(entry, Tensor) for entry in value.values()) > len(value)


def _holds(value: Any) -> bool:
    """Whether it is a state_dict, or holds one under a known key."""
    known = isinstance(value, Mapping) and any(_is_state(value.get(key)) for key in WRAPPERS)
    return known or _is_state(value)


def _bare(name: str) -> str:
    """A name without the parts that wrappers insert."""
    return ".".join(part for part in name.split(".") if part not in WRAPPING)


def require_same_norms(model: nn.Module, state: Mapping[str, Any], *, where: str) -> None:
    """Raises BackboneError: the weights have a trained BatchNorm, which counts batches, and the
    model has none that does.
    """
    counters = [name for name in state if name.endswith(COUNTER)]
    if counters and not any(name.endswith(COUNTER) for name in model.state_dict()):
        raise BackboneError(
            f"{where}: their norms were trained ('{counters[0]}'), and the network's are frozen:"
            " set backbone.norms = 'as_built'"
        )


class _Misfit(Exception):
    """Weights do not fit a network; the message says why, without naming the file."""


def fit(model: nn.Module, state: Mapping[str, Any], *, where: str) -> list[str]:
    """Loads weights into a bare backbone. Its first layer may have other input channels; last
    layers that are for other classes, or missing, begin anew (`_new`).

    Args:
        model: the network, which is changed only if all fits.
        state: a state_dict, perhaps with a prefix of all names.
        where: begins each sentence, `weights 'FILE'`.

    Returns:
        A sentence for each thing that a user should know of what is used.

    Raises:
        BackboneError: names or shapes differ elsewhere, or a value is not finite.
    """
    try:
        fitted, notes = _fitted(model, state)
        restore(model, fitted)
    except _Misfit as error:
        raise BackboneError(f"{where}: {error}") from None
    except Exception as error:
        # a module's own loading, and torch, may raise any error
        why = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"{where}: they do not fit the network ({type(error).__name__}: {why})"
        ) from None
    return [f"{where}: {note}" for note in notes]


def _fitted(model: nn.Module, state: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """(The network's state_dict with all that the weights have for it, notes.)"""
    if any("nas_attn" in name.split(".") for name in state):
        raise _Misfit(
            "they belong to a network with nas_attn attention, but every candidate starts from the"
            " bare backbone: give the bare backbone's weights (export the placement none)"
        )
    own = model.state_dict()
    heads = tuple(f"{path}." for path in _last_layers(model))
    needed = [name for name in own if not name.endswith((COUNTER, EXTRA))]
    body = [name for name in needed if not name.startswith(heads)] or needed
    first = next((name for name in needed if own[name].ndim == 4), None)
    state, notes = _without_prefix(state, body)
    _check_names(state, own, body, heads)
    fitted = dict(own)
    anew: list[str] = []
    for name, value in own.items():
        if name.endswith((COUNTER, EXTRA)) or name not in state:
            fitted[name] = state.get(name, value)
            continue
        given = state[name]
        _check_values(name, value, given)
        if given.shape == value.shape:
            fitted[name] = given
        elif name == first and _differs_only_at(1, given, value):
            notes.append(said_channels(given.shape[1], value.shape[1]))
            fitted[name] = other_channels(given, value.shape[1])
        elif name.startswith((*heads, *PREDICTORS)) and _differs_only_at(0, given, value):
            fitted[name] = _new(name, value, heads)
            anew.append(name)
        else:
            raise _Misfit(
                f"'{name}' has shape {tuple(given.shape)}, the network's is {tuple(value.shape)}"
            )
    predictors = [name for name in anew if name.startswith(PREDICTORS)]
    if predictors:
        notes.append(f"they are for other classes: {few(predictors, letters=80)} start anew")
    lacking = [name for name in needed if name not in state]
    if lacking:
        layers = dict.fromkeys(name.rpartition(".")[0] for name in lacking)
        notes.append(f"they have no {few(list(layers))}: this last layer starts at zero")
        fitted |= {name: _new(name, own[name], heads) for name in lacking}
    return fitted, notes


def _differs_only_at(dimension: int, one: Tensor, other: Tensor) -> bool:
    """Whether two shapes are the same but for their size in one dimension."""
    shapes = [list(tensor.shape) for tensor in (one, other)]
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) <= dimension:
        return False
    for shape in shapes:
        del shape[dimension]
    return shapes[0] == shapes[1]


def _new(name: str, own: Tensor, heads: Sequence[str]) -> Tensor:
    """What a new layer behind trained weights begins with: zeros, so that what it answers at first
    moves no trained weight. The first weights of some libraries' heads cost ten points of accuracy
    in a brief fine-tuning (docs/explain/training.md).

    What predicts a detector's classes keeps its biases: they say how rare objects are, without
    which the first steps diverge (Lin et al., 1708.02002, section 3.3). So does a layer that
    computes its weight from others, which may not be zero.
    """
    plain = [f"{head}{kind}" for head in heads for kind in ("weight", "bias")]
    zero = name.endswith(".weight") if name.startswith(PREDICTORS) else name in plain
    return torch.zeros_like(own) if zero else own


def _without_prefix(
    state: Mapping[str, Any], body: Sequence[str]
) -> tuple[Mapping[str, Any], list[str]]:
    """(The part of a state_dict with this network's names, without the prefix that a surrounding
    program gave them; a note if other names are ignored.)
    """
    found = sum(name in state for name in body)
    prefixes = [name.removesuffix(body[0]) for name in state if name.endswith(f".{body[0]}")]
    counts = {prefix: sum(f"{prefix}{name}" in state for name in body) for prefix in prefixes}
    prefix = max(prefixes, key=counts.__getitem__, default="")
    # half of another network's names may be the same by chance
    if found == len(body) or not prefix or counts[prefix] <= max(len(body) / 2, found):
        return state, []
    whole = [prefix for prefix in prefixes if counts[prefix] == len(body)]
    if len(whole) > 1:
        raise _Misfit(
            f"they contain this network {len(whole)} times, under {few(whole)}: write a file with"
            " only one of them"
        )
    inside = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    outside = [name for name in state if not name.startswith((prefix, *AUXILIARY))]
    if not outside:
        return inside, []
    note = (
        f"names that begin with '{prefix}' are used, {len(outside)} others are ignored:"
        f" {few(outside, letters=80)}"
    )
    return inside, [note]


def _check_names(
    state: Mapping[str, Any], own: Mapping[str, Any], body: Sequence[str], heads: Sequence[str]
) -> None:
    """Raises _Misfit: names of the body are missing, or there are others, so that the weights are
    another network's.
    """
    others = [str(name) for name in state if name not in own]
    missing = [name for name in body if name not in state]
    further = [
        name
        for name in others
        if not name.startswith((*AUXILIARY, *heads))
        and not name.endswith((COUNTER, EXTRA))
        and hasattr(state[name], "shape")
    ]
    if missing:
        needed = sum(not name.endswith((COUNTER, EXTRA)) for name in own)
        what = f"has no '{missing[0]}' ({len(missing)} of {needed} names are missing)"
        if others:
            what += f", but {few(others, letters=120)}"
    elif further:
        what = f"has '{further[0]}', which the backbone does not have ({len(further)} such names)"
    else:
        return
    raise _Misfit(
        f"{what}: give the weights of this backbone, or name the backbone that they belong to"
    )


def _check_values(name: str, own: Tensor, given: Any) -> None:
    """Raises _Misfit: a value is not a plain tensor of finite numbers."""
    if not isinstance(given, torch.Tensor):
        raise _Misfit(
            f"'{name}' is a {type(given).__name__}, not a tensor: give a plain state_dict"
        )
    if given.is_meta or given.layout != torch.strided or given.is_quantized:
        raise _Misfit(f"'{name}' is a tensor without plain numbers (meta, sparse or quantized)")
    if given.dtype != own.dtype and own.is_floating_point() != given.is_floating_point():
        raise _Misfit(f"'{name}' is of type {given.dtype}, the network's of {own.dtype}")
    wrong = int((~torch.isfinite(given)).sum())
    if wrong:
        raise _Misfit(
            f"'{name}' holds {wrong} of {given.numel()} values that are not finite numbers, as"
            " after a training that diverged: give earlier weights"
        )


def _last_layers(model: nn.Module) -> list[str]:
    """Paths of the layers that answer: the last one with weights, and those before it in the same
    module with as many outputs (LR-ASPP has two, DeiT has a second for distillation).
    """
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    if not layers:
        return []
    last = list(layers)[-1]
    outputs = layers[last].weight.shape[0]
    beside = last.rpartition(".")[0]
    return [
        path
        for path, layer in layers.items()
        if path.rpartition(".")[0] == beside and layer.weight.shape[0] == outputs
    ]


def new_for_other_classes(model: nn.Module) -> tuple[str, ...]:
    """Gives the prefixes of the names that `fit` may begin anew: of the last layers, and of those
    with which a detector predicts classes.
    """
    return (*(f"{path}." for path in _last_layers(model)), *PREDICTORS)


@torch.no_grad()
def begin_at_zero(model: nn.Module, layers: Sequence[str]) -> None:
    """Sets the new last layers behind trained weights to zero, as `fit` does.

    Args:
        model: the network, which is changed.
        layers: paths of the layers that predict classes.
    """
    names = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.zero_()


def said_channels(given: int, channels: int) -> str:
    """Says what `other_channels` makes of a first convolution for so many channels."""
    taken = f"its filters are repeated in turn and scaled by {given}/{channels}, as timm does"
    if channels == 1:
        taken = "the sum of its filters is taken"
    elif given < channels:
        taken += f", so that the first {given} bands keep theirs"
    trained = several(given, "channel")
    return f"the first convolution is trained on {trained}, the images have {channels}: {taken}"


def other_channels(weight: Tensor, channels: int) -> Tensor:
    """A trained first convolution's weight (O, I, k, k) for other input channels: repeated in turn,
    scaled to the same total; for one channel the sum, so that a grey image answers like the same
    image in equal channels.
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turn = torch.arange(channels) % weight.shape[1]
    return weight[:, turn] * (weight.shape[1] / channels)

"""Weights of networks: to and from files and the database, and into a model whose first or last
layer may have another size.

A state_dict also has the versions of the modules' formats, in an attribute that a plain dict loses
(MNASNet cannot be loaded without): `restore` gives it those of the network.
"""

from __future__ import annotations

import io
import itertools
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.backbones.torchvision_detectors import PREDICTORS
from nas_attn.errors import BackboneError, CheckpointError, few, first_line, several, shorten
from nas_attn.system.paths import user_path

WRAPPING = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a parameter's name that torch.compile, FSDP and activation checkpointing insert."""
UNNEEDED = ("num_batches_tracked", "_extra_state")
"""Last parts of names: a BatchNorm's counter, which may be missing in old and foreign files, and a
module's state that is not a tensor.
"""
AUXILIARY = ("aux", "Aux", "n_averaged")
"""Beginnings of names that are only for training: auxiliary heads, the counter of an average."""
_SAVE = "torch.save(model.state_dict(), FILE)"
THIS_BACKBONE = "give the weights of this backbone, or name the backbone that they belong to"


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
    """Gives the first state_dict in a file, and a sentence if the file has more of its size.

    The file is `.safetensors`, or what `torch.save` wrote; nothing in it is executed.

    Raises:
        BackboneError: the file does not exist, cannot be read or holds something else.
    """
    where = f"weights '{shorten(path)}'"
    file = user_path(path, what="weights file", error=BackboneError)
    try:
        file.open("rb").close()
    except OSError as error:
        raise BackboneError(f"{where} cannot be read: {error.strerror}") from None
    try:
        with warnings.catch_warnings():
            # torch's warnings about old formats are of no use here
            warnings.simplefilter("ignore")
            loaded = _read(file)
    except BackboneError:
        raise
    except Exception:
        # the readers may raise any error; torch's tells how to run what is in the file
        raise BackboneError(
            f"{where} are damaged, or hold more than plain tensors: use a file written by {_SAVE}"
        ) from None
    every = dict(_states(loaded))
    if not every:
        raise BackboneError(
            f"{where}: a {type(loaded).__name__} is no state_dict (names and tensors): use a file"
            f" written by {_SAVE}"
        )
    most = max(map(len, every.values()))
    # a few tensors are no network
    keys = [key for key, state in every.items() if 2 * len(state) > most]
    notes = [f"{where}: it has {few(keys)}; {keys[0]} is used"] if len(keys) > 1 else []
    bare = {
        ".".join(part for part in name.split(".") if part not in WRAPPING): value
        for name, value in every[keys[0]].items()
    }
    return bare, notes


def _read(file: Path) -> Any:
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise BackboneError(f"weights '{file}' need safetensors: pip install safetensors") from None
    return load_file(str(file))


def _states(loaded: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tables of names and tensors in a file, each with its name there. An optimizer's lie
    behind numbers, and are none.
    """
    if not isinstance(loaded, Mapping) or not all(isinstance(name, str) for name in loaded):
        return
    # counters and extra state are no tensors
    if 2 * sum(isinstance(value, Tensor) for value in loaded.values()) > len(loaded):
        yield key, loaded
        return
    for name, value in loaded.items():
        yield from _states(value, f"{key}.{name}" if key else name)


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
    except Exception as error:
        # a module's own loading, and torch, may raise any error
        raise BackboneError(f"{where}: {shorten(first_line(error), 500)}") from None
    return [f"{where}: {note}" for note in notes]


def _fitted(model: nn.Module, state: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """(The network's state_dict with all that the weights have for it, notes.) ValueError: they do
    not fit.
    """
    if any("nas_attn" in name.split(".") for name in state):
        raise ValueError(
            "they belong to a network with nas_attn attention, but every candidate starts from the"
            " bare backbone: give the bare backbone's weights (export the placement none)"
        )
    own = model.state_dict()
    heads = new_for_other_classes(model)
    needed = {name: value for name, value in own.items() if not name.endswith(UNNEEDED)}
    body = [name for name in needed if not name.startswith(heads)] or list(needed)
    given, notes = _without_prefix(state, body)
    first = next((name for name in needed if needed[name].ndim == 4), "")
    if first and _differing(given.get(first), needed[first]) == [1]:
        channels = own[first].shape[1]
        notes.append(said_channels(given[first].shape[1], channels))
        given[first] = other_channels(given[first], channels)
    anew = []
    for name in filter(lambda name: name.startswith(heads), needed):
        missing = name not in given
        if missing or _differing(given[name], own[name]) == [0]:
            given[name] = _new(name, own[name], heads)
            if missing or name.startswith(PREDICTORS):
                anew.append(name)
    if anew:
        notes.append(f"they have no {few(anew, letters=80)} for these classes: such start anew")
    _require_fit(given, needed)
    ignored = (*AUXILIARY, *heads)
    others = [n for n in given.keys() - own if not (n.endswith(UNNEEDED) or n.startswith(ignored))]
    if others:
        raise ValueError(f"the backbone has no {few(sorted(others), letters=120)}: {THIS_BACKBONE}")
    return own | {name: given[name] for name in given.keys() & own}, notes


def _differing(given: Any, own: Tensor) -> list[int] | None:
    """The dimensions in which a value is of another size than a network's tensor; None: it is no
    tensor of its kind.
    """
    if not isinstance(given, Tensor) or given.is_meta:
        return None
    kinds = [(t.ndim, t.layout, t.is_floating_point()) for t in (given, own)]
    if kinds[0] != kinds[1]:
        return None
    return [at for at, size in enumerate(own.shape) if size != given.shape[at]]


def _require_fit(given: Mapping[str, Any], needed: Mapping[str, Tensor]) -> None:
    """Raises ValueError: weights lack some of a network, have another shape, or are not finite."""
    missing = []
    for name, own in needed.items():
        differing = _differing(given.get(name), own)
        if differing is None:
            missing.append(name)
        elif differing:
            shapes = f"{tuple(given[name].shape)}, the network's is {tuple(own.shape)}"
            raise ValueError(f"'{name}' has shape {shapes}: {THIS_BACKBONE}")
        elif not torch.isfinite(given[name]).all():
            raise ValueError(
                f"'{name}' holds values that are not finite, as after a training that diverged:"
                " give earlier weights"
            )
    if missing:
        raise ValueError(
            f"they have no {few(missing, letters=120)} of this backbone's shape and type:"
            f" {THIS_BACKBONE}"
        )


def _new(name: str, own: Tensor, heads: Sequence[str]) -> Tensor:
    """What a new layer behind trained weights begins with: zeros, so that what it answers at first
    moves no trained weight. The first weights of some libraries' heads cost ten points of accuracy
    in a brief fine-tuning (docs/explain/training.md).

    What predicts a detector's classes keeps its biases: they say how rare objects are, without
    which the first steps diverge (Lin et al., 1708.02002, section 3.3). So does a layer that
    computes its weight from others, which may not be zero.
    """
    head, _, kind = name.rpartition(".")
    if name.startswith(PREDICTORS):
        zero = kind == "weight"
    else:
        zero = f"{head}." in heads and kind in ("weight", "bias")
    return torch.zeros_like(own) if zero else own


def _without_prefix(
    state: Mapping[str, Any], body: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """(The part of a state_dict with most of this network's names, without the prefix that a
    surrounding program gave them; a note if other names are ignored.)
    """
    first = body[0]
    prefixes = [name.removesuffix(first) for name in state if f".{name}".endswith(f".{first}")]
    prefix = max(prefixes, key=lambda p: sum(f"{p}{name}" in state for name in body), default="")
    inside = {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
    outside = [name for name in state if not name.startswith((prefix, *AUXILIARY))]
    note = f"names that begin with '{prefix}' are used, not {few(outside, letters=80)}"
    return inside, [note] if outside else []


def new_for_other_classes(model: nn.Module) -> tuple[str, ...]:
    """Gives the prefixes of the names that `fit` may begin anew: of the layers that answer, and of
    those with which a detector predicts classes. The last layer with weights answers, and so do
    those right before it in the same module with as many outputs (LR-ASPP has two, DeiT has a
    second for distillation).
    """
    # (module, outputs) of each
    layers = {
        path: (path.rpartition(".")[0], module.weight.shape[0])
        for path, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    _, answers = next(itertools.groupby(reversed(layers), layers.__getitem__), ("", ()))
    return (*(f"{path}." for path in list(answers)[::-1]), *PREDICTORS)


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

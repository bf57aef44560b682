"""Trained weights into a model whose head or first layer may have another size, and no other network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_attn.errors import BackboneError, few

if TYPE_CHECKING:
    from torch import Tensor, nn

COUNTER = "num_batches_tracked"
"""Last part of the name of a BatchNorm's counter, which old and foreign files do without."""
EXTRA = "_extra_state"
"""Last part of the name of a module's state that is no tensor."""
ATTENTION = "nas_attn"
"""Part of the names of attached attention's parameters."""
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.", "n_averaged")
"""Beginnings of names that serve training only: auxiliary heads, the counter of an average."""


def load_weights(model: nn.Module, path: str) -> tuple[str, ...]:
    """Loads a state_dict file into a bare model; a head for other classes stays random, a first layer is adapted.

    What wraps the weights is taken off: a dictionary of other things around them (`states.WRAPPERS`), a prefix
    before all names.

    Args:
        path: `.pt`, `.pth` (tensors only: nothing in the file is executed), `.safetensors` or `.npz`.

    Returns:
        What a user should know of the choice that was made, in sentences; mostly nothing.

    Raises:
        BackboneError: the file cannot be read, or does not hold this model's weights.
    """
    from nas_attn.backbones.states import read_state

    state, notes = read_state(path)
    return (*notes, *fit(model, state, where=f"weights '{path}'"))


def fit(model: nn.Module, state: Mapping[str, Any], *, where: str) -> tuple[str, ...]:
    """Loads `state`; a first layer for another number of input channels is adapted, a head of another size stays random.

    Returns:
        What a user should know, in sentences that begin with `where`.

    Raises:
        BackboneError: names or shapes differ elsewhere, or a value is not finite.
    """
    from nas_attn.backbones.states import restore, versions_of, with_versions

    own = model.state_dict()
    if any(ATTENTION in name.split(".") for name in state):
        raise BackboneError(
            f"{where}: they are of a network with attention of nas_attn in it, and every candidate starts from the bare "
            "backbone: give that one's weights (export the placement none)"
        )
    first, head = _ends(model)
    needed = [name for name in own if not name.endswith((COUNTER, EXTRA))]
    body = [name for name in needed if head is None or not name.startswith(f"{head}.")] or needed
    state, notes = _without_prefix(state, body, where)
    state = _without_other_predictors(state, own, notes)
    _check_names(needed, body, own, state, head, where)
    taken: dict[str, Any] = {}
    for name, value in own.items():
        given = state.get(name)
        in_head = head is not None and name.startswith(f"{head}.")
        if given is None or name.endswith(EXTRA):
            taken[name] = value if given is None else given
        else:
            _check_values(name, value, given, where)
            taken[name] = _fitting(name, value, given, adaptable=name == first, head=in_head, where=where)
    if head is not None and any(name not in state for name in needed if name.startswith(f"{head}.")):
        notes.append(f"no '{head}' is in them: this last layer starts at random")
        taken |= {name: value for name, value in own.items() if name.startswith(f"{head}.")}
    try:
        restore(model, with_versions(taken, versions_of(state)))
    except Exception as error:  # a module's own way of loading, and torch, raise what they like
        said = " ".join(str(error).split())[:300]
        raise BackboneError(f"{where}: they do not fit the network ({type(error).__name__}: {said})") from None
    return tuple(f"{where}: {note}" for note in notes)


def _without_prefix(state: Mapping[str, Any], body: Sequence[str], where: str) -> tuple[Mapping[str, Any], list[str]]:
    """The part of a state_dict that is this network, its names without what a program around it put before them.

    Args:
        body: names that this network's weights must have.
    """
    from nas_attn.backbones.states import versions_of, with_versions

    if all(name in state for name in body):
        return state, []
    last = body[0]
    prefixes = [name.removesuffix(last) for name in state if name.endswith(f".{last}")]
    counts = {prefix: sum(f"{prefix}{name}" in state for name in body) for prefix in prefixes}
    whole = [prefix for prefix in prefixes if counts[prefix] == len(body)]
    if len(whole) > 1:
        raise BackboneError(
            f"{where}: they contain this network {len(whole)} times, under {few(whole)}: write a file with only one of them"
        )
    prefix = max(prefixes, key=counts.__getitem__, default="")
    if not prefix or counts[prefix] <= max(len(body) / 2, sum(name in state for name in body)):
        return state, []
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    outside = [name for name in state if not name.startswith((prefix, *AUXILIARY))]
    module = prefix.removesuffix(".")
    versions = {
        path.removeprefix(module).removeprefix("."): entry
        for path, entry in (versions_of(state) or {}).items()
        if path == module or path.startswith(prefix)
    }
    note = f"names that begin with '{prefix}' are used, {len(outside)} others are ignored: {few(outside, letters=80)}"
    return with_versions(inside, versions or None), [note] if outside else []


def _without_other_predictors(state: Mapping[str, Any], own: Mapping[str, Any], notes: list[str]) -> Mapping[str, Any]:
    """A detector's weights, its own in place of those that predict other classes."""
    from nas_attn.backbones.detectors import PREDICTORS
    from nas_attn.backbones.states import versions_of, with_versions

    others = {
        name
        for name, value in own.items()
        if name.startswith(PREDICTORS) and getattr(state.get(name), "shape", value.shape)[1:] == value.shape[1:]
        if getattr(state.get(name), "shape", value.shape) != value.shape
    }
    if not others:
        return state
    notes.append(f"they are for other classes: {few(sorted(others), letters=80)} start at random")
    return with_versions({**state, **{name: own[name] for name in others}}, versions_of(state))


def _check_names(
    needed: Sequence[str],
    body: Sequence[str],
    own: Mapping[str, Any],
    state: Mapping[str, Any],
    head: str | None,
    where: str,
) -> None:
    """Raises:
    BackboneError: a name is missing, or there are others: the weights are another network's.
    """
    others = [str(name) for name in state if name not in own]
    if missing := [name for name in body if name not in state]:
        instead = f", but {few(others, letters=120)}" if others else ""
        what = f"has no '{missing[0]}' ({len(missing)} of {len(needed)} names are missing){instead}"
    elif further := [
        name
        for name in others
        if not name.startswith((f"{head}.", *AUXILIARY))
        and not name.endswith((COUNTER, EXTRA))
        and hasattr(state[name], "shape")
    ]:
        what = f"has '{further[0]}', which the backbone does not have ({len(further)} such names)"
    else:
        return
    raise BackboneError(f"{where}: {what}: give the weights of this backbone, or name the backbone that they belong to")


def _check_values(name: str, own: Tensor, given: Any, where: str) -> None:
    """Raises:
    BackboneError: it is no plain tensor of numbers, or one of them is not finite.
    """
    import torch

    if not isinstance(given, torch.Tensor):
        raise BackboneError(f"{where}: '{name}' is a {type(given).__name__}, not a tensor")
    if given.is_meta or given.layout != torch.strided or given.is_quantized:
        raise BackboneError(f"{where}: '{name}' is a tensor without plain numbers (meta, sparse or quantized)")
    if given.dtype != own.dtype and own.is_floating_point() != given.is_floating_point():
        raise BackboneError(f"{where}: '{name}' is of type {given.dtype}, the network's of {own.dtype}")
    wrong = int((~torch.isfinite(given)).sum()) if given.is_floating_point() else 0
    if wrong:
        raise BackboneError(
            f"{where}: '{name}' holds {wrong} of {given.numel()} values that are not finite numbers, as after a training that "
            "diverged: give weights from before"
        )


def _fitting(name: str, own: Tensor, given: Tensor, *, adaptable: bool, head: bool, where: str) -> Tensor:
    """What goes into the network in one place.

    Args:
        adaptable: it is the first convolution's weight.
        head: it is of the last layer, which stays random where it is for other classes.
    """
    if given.shape == own.shape:
        return given
    if head and given.ndim == own.ndim and given.shape[1:] == own.shape[1:]:
        return own
    same = given.ndim == 4 and (given.shape[0], *given.shape[2:]) == (own.shape[0], *own.shape[2:])
    if adaptable and same and given.shape[1] > 0:
        return other_channels(given, own.shape[1])
    raise BackboneError(f"{where}: '{name}' has shape {tuple(given.shape)}, the network's is {tuple(own.shape)}")


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

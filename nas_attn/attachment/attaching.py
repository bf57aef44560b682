"""Attention into a model and out again, in place.

The module at a point (the host) keeps its place, its parameters and its names; only its class is replaced by a subclass
whose `forward` sends the result through the attention (see `hosting`). So the bare model's state_dict keys stay, a deepcopy
or pickle carries its own attention, and whatever calls the host (torch.export, compile, DDP, a user's hook, a direct
`.forward`) gets attention with it. A forward hook would not do: fx's conv-bn fusion drops a hook on a BatchNorm without a
word, but it leaves a class alone that is not exactly BatchNorm2d.
"""

from typing import Any, cast

import torch
from torch import nn

from nas_attn.attachment import ultralytics
from nas_attn.attachment.hosting import CHILD, Attention, bare_class, is_attended, make_holder, make_host, unmake
from nas_attn.attention import catalogue
from nas_attn.backbones.ultralytics import refuse_wrapper
from nas_attn.errors import BackboneError, did_you_mean
from nas_attn.records import Choice, Point, ResolvedPlacement

PLACED = "_nas_attn_placed"
"""Attribute of a model that attention was attached to: path -> type of each module."""

ITERATING_NAMES = frozenset({"children", "named_children", "_modules", "modules", "named_modules"})
"""What a forward uses that runs all its children in turn: a child more would be run, too."""


def attach(model: nn.Module, resolved: ResolvedPlacement) -> nn.Module:
    """Puts attention into `model`, in place; its state_dict gains keys, none changes.

    New modules are initialised from torch's global generator and take the device, dtype and training mode of their host.

    Returns:
        the model.

    Raises:
        BackboneError: a point is not in the model, the model already carries attention, or a host cannot carry it;
            the model is then as before.
        KnobError: a module cannot be built for its point.
    """
    refuse_wrapped(model)
    if attached_modules(model):
        raise BackboneError("the model already has attention: call detach(model) before attaching another placement")
    modules = dict(model.named_modules())
    hosts = [(_host(modules, point), point, choices) for point, choices in resolved.modules]
    built = [_attention(model, host, point, choices, resolved.init) for host, point, choices in hosts]
    for (host, point, _), attention in zip(hosts, built, strict=True):
        make_host(host, attention, replaces=point.replaces)
    for point, _ in resolved.modules:
        names = point.path.split(".")
        for depth in range(len(names)):
            make_holder(modules[".".join(names[:depth])])
    model.__dict__[PLACED] = expected_modules(resolved)
    ultralytics.note(model, resolved)
    ultralytics.keep_in_rebuilt_networks()
    return model


def detach(model: nn.Module) -> nn.Module:
    """Takes all attention out of `model`, in place, and gives the bare model back."""
    for module in list(model.modules()):
        unmake(module)
        module.__dict__.pop(PLACED, None)
    ultralytics.forget(model)
    return model


def attached_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> attention module, in the order of `named_modules()`; empty for a bare model."""
    return {
        f"{path}.{CHILD}.{name}" if path else f"{CHILD}.{name}": module
        for path, host in model.named_modules()
        if is_attended(host)
        for name, module in cast(nn.Sequential, host._modules[CHILD]).named_children()
    }


def lost_modules(model: nn.Module) -> dict[str, str]:
    """Path -> type of each module that `attach` put into the model and that is not there any more."""
    there = {path for path, _ in model.named_modules(remove_duplicate=False)}
    return {
        path: kind
        for prefix, module in model.named_modules()
        for name, kind in module.__dict__.get(PLACED, {}).items()
        if (path := f"{prefix}.{name}" if prefix else name) not in there
    }


def expected_modules(resolved: ResolvedPlacement) -> dict[str, str]:
    """Path -> type of each module that `attach` puts into a model for a placement."""
    return {
        f"{point.path}.{CHILD}.{i}" if point.path else f"{CHILD}.{i}": choice.type
        for point, choices in resolved.modules
        for i, choice in enumerate(choices)
    }


def iterates_children(module: nn.Module) -> bool:
    """Whether the module's own forward runs through all its children, so that it cannot take another child."""
    # torch's containers iterate over themselves instead, which AttendedList and AttendedDict answer
    code = getattr(bare_class(module).forward, "__code__", None)
    return code is not None and not ITERATING_NAMES.isdisjoint(code.co_names)


def refuse_wrapped(model: nn.Module) -> None:
    """Raises BackboneError for what is a model no more but a wrapper or a program."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise BackboneError(
            "attach before wrapping the model in DistributedDataParallel, which would not see the new modules"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise BackboneError("a TorchScript model cannot take attention: attach it to the model before scripting")
    refuse_wrapper(model)


def _host(modules: dict[str, nn.Module], point: Point) -> nn.Module:
    host = modules.get(point.path)
    if host is None:
        raise BackboneError(f"the model has no module '{point.path}': {did_you_mean(point.path, modules)}")
    if isinstance(host, torch.jit.ScriptModule):
        raise BackboneError(f"'{point.path}' is a TorchScript module and cannot take attention")
    if iterates_children(host):
        raise BackboneError(
            f"'{point.path}' runs all its children in order and cannot take another: name one of its children"
        )
    return host


def _attention(
    model: nn.Module, host: nn.Module, point: Point, choices: tuple[Choice, ...], init: str
) -> nn.Sequential:
    built = (catalogue.build(c, point.channels, point.height, point.width, init=cast(Any, init)) for c in choices)
    attention = Attention(*built).train(host.training)
    like = _tensor_of(host, model)
    return attention if like is None else attention.to(device=like.device, dtype=like.dtype)


def _tensor_of(*modules: nn.Module) -> torch.Tensor | None:
    """The first floating-point parameter or buffer of the first module that has one."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None

"""Attaches attention to a model and detaches it, in place; which modules may be hosts."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from nas_attn.attachment.containers import CHILD, bare_class
from nas_attn.attachment.hosting import Attention, Nothing, make_holder, make_host, unmake
from nas_attn.attachment.integrations import host_packages
from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.errors import BackboneError, did_you_mean, first_line
from nas_attn.space.placement import Point, ResolvedPlacement

PLACED = "_nas_attn_placed"
"""Attribute of a model that attention was attached to: path -> type of each module."""
ITERATING_NAMES = frozenset({"children", "named_children", "_modules", "modules", "named_modules"})
"""Names in code that runs all of a module's children in turn: it would run another one, too."""


def attach(model: nn.Module, resolved: ResolvedPlacement) -> nn.Module:
    """Puts attention into `model`, in place, and returns it; its state_dict gains keys; existing
    ones do not change.

    New modules are initialised from torch's global generator and take the device, dtype and
    training mode of their host.

    Raises:
        BackboneError: a point is not in the model, the model already carries attention, or a host
            cannot carry it; the model is then as before.
        KnobError: a module cannot be built for its point.
    """
    refuse_wrapped(model)
    if attached_modules(model):
        raise BackboneError(
            "the model already has attention: call detach(model) before attaching another placement"
        )
    modules = dict(model.named_modules())
    hosts = [(_host(modules, point), point, choices) for point, choices in resolved.modules]
    # otherwise their weights could not be trained later
    with torch.inference_mode(False):
        built = [
            _attention(_surroundings(modules, point), point, choices, resolved.init)
            for _, point, choices in hosts
        ]
    try:
        for (host, point, _), attention in zip(hosts, built, strict=True):
            make_host(host, attention, replaces=point.replaces)
        for point, _ in resolved.modules:
            for around in _surroundings(modules, point)[1:]:
                make_holder(around)
    except Exception as error:
        # whatever a user's own class may raise
        detach(model)
        raise BackboneError(
            f"{type(model).__name__} cannot take attention ({type(error).__name__}:"
            f" {first_line(error)}): the model is as before"
        ) from error
    model.__dict__[PLACED] = expected_modules(resolved)
    for package in host_packages(type(model)):
        package.attached(model, resolved)
    return model


def detach(model: nn.Module) -> nn.Module:
    """Removes all attention from `model`, in place, and returns it."""
    for module in list(model.modules()):
        unmake(module)
        if isinstance(dict(module.named_children()).get(CHILD), nn.Sequential):
            del module._modules[CHILD]
        module.__dict__.pop(PLACED, None)
    for package in host_packages(type(model)):
        package.detached(model)
    return model


def attached_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> attention module, also on a module that is not a host any more, in the order of
    `named_modules()`; empty for a bare model.
    """
    modules = {}
    for path, host in model.named_modules():
        attention = dict(host.named_children()).get(CHILD)
        if isinstance(attention, nn.Sequential):
            for name, module in attention.named_children():
                modules[f"{path}.{CHILD}.{name}".lstrip(".")] = module
    return modules


def expected_modules(resolved: ResolvedPlacement) -> dict[str, str]:
    """Path -> type of each module that `attach` puts into a model for a placement."""
    types = {}
    for point, choices in resolved.modules:
        for i, choice in enumerate(choices):
            types[f"{point.path}.{CHILD}.{i}".lstrip(".")] = choice.type
    return types


def iterates_children(module: nn.Module) -> bool:
    """Whether the module cannot take another child: its own forward runs all of them, itself or in
    a method, or it is a graph of torch.fx, whose class is generated, or a program of TorchScript.
    """
    if isinstance(module, torch.fx.GraphModule | torch.jit.ScriptModule):
        return True
    names = _names_in_forward(bare_class(module))
    return not ITERATING_NAMES.isdisjoint(names)


def _names_in_forward(cls: type[nn.Module]) -> frozenset[str]:
    """The names in the code of a class' forward, and of its methods and properties among them."""
    names = {"forward"}
    waiting = ["forward"]
    while waiting:
        name = waiting.pop()
        function = getattr(cls, name, None)
        if isinstance(function, property):
            function = function.fget
        # torch's containers iterate over themselves, which AttendedList and AttendedDict answer
        is_torchs = str(getattr(function, "__module__", "")).startswith("torch.")
        if is_torchs and name != "forward":
            continue
        code = getattr(function, "__code__", None)
        new = set(getattr(code, "co_names", ())) - names
        names |= new
        waiting += new
    return frozenset(names)


def refuse_wrapped(model: nn.Module) -> None:
    """Raises BackboneError: it is a wrapper or a program, not a model."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise BackboneError(
            "attach before wrapping the model in DistributedDataParallel, which does not see"
            " modules that are added later"
        )
    if is_sharded(model):
        raise BackboneError(
            "attach before sharding the model (fully_shard, FSDP), which does not see modules that"
            " are added later"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise BackboneError(
            "a TorchScript model cannot take attention: attach it to the model before scripting"
        )
    for package in host_packages(type(model)):
        package.refuse(model)


def is_sharded(model: nn.Module) -> bool:
    """Whether torch has divided the weights of a model, or of a part of it, among processes: it
    cannot be copied.
    """
    return any(
        cls.__module__.startswith(("torch.distributed.fsdp.", "torch.distributed._composable."))
        for module in model.modules()
        for cls in type(module).__mro__
    )


def _host(modules: dict[str, nn.Module], point: Point) -> nn.Module:
    host = modules.get(point.path)
    if host is None:
        raise BackboneError(
            f"the model has no module '{point.path}': {did_you_mean(point.path, modules)}"
        )
    if isinstance(host, torch.jit.ScriptModule):
        raise BackboneError(f"'{point.path}' is a TorchScript module and cannot take attention")
    if iterates_children(host):
        raise BackboneError(
            f"'{point.path}' runs all its children itself and cannot take another: name one of them"
        )
    return host


def _surroundings(modules: Mapping[str, nn.Module], point: Point) -> list[nn.Module]:
    """The host, the module around it, and so on up to the model."""
    names = point.path.split(".")
    depths = range(len(names), -1, -1)
    return [modules[".".join(names[:depth])] for depth in depths]


def _attention(
    around: list[nn.Module], point: Point, choices: tuple[Choice, ...], init: str
) -> nn.Sequential:
    """The modules for a point, as its host, the first of `around`, computes; one without weights
    as what is around it.
    """
    # their numbers do not depend on the default device, nor are they lost on the device `meta`
    with torch.device("cpu"):
        built = [
            catalogue.build(c, point.channels, point.height, point.width, init=cast(Any, init))
            for c in choices
        ]
    modules = Nothing() if point.branch and not choices else Attention(*built)
    return modules.train(around[0].training).to(floating(*around))


def floating(*modules: nn.Module) -> torch.Tensor:
    """The first floating-point parameter or buffer in one of these modules, whose device and dtype
    others take.
    """
    tensors = (
        t
        for module in modules
        for t in (*module.parameters(), *module.buffers())
        if t.is_floating_point()
    )
    return next(tensors, torch.zeros((), device="cpu"))

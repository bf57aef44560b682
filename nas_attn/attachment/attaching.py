"""Attention into a model and out again, in place.

The module at a point (the host) keeps its place, its parameters and its names; only its class is replaced by a subclass
whose `forward` sends the result through the attention, which is the host's child `nas_attn`. So the bare model's
state_dict keys stay, a deepcopy or pickle carries its own attention, and whatever calls the host (torch.export, compile,
DDP, a user's hook, a direct `.forward`) gets attention with it. A forward hook would not do: fx's conv-bn fusion drops a
hook on a BatchNorm without a word, but it leaves a class alone that is not exactly BatchNorm2d.

    model.layer1[0].bn2            BatchNorm2d  ->  AttendedBatchNorm2d(BatchNorm2d)
    model.layer1[0].bn2.nas_attn   Sequential(SqueezeExcitation)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, cast

import torch
from torch import nn

from nas_attn.attention import catalogue
from nas_attn.errors import BackboneError, did_you_mean
from nas_attn.records import Choice, Point, ResolvedPlacement

CHILD = "nas_attn"
"""Name of the host's child that holds its attention modules."""

_FROZEN = "_nas_attn_frozen"
"""Attribute of a replaced module: its parameters that were trained before."""

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
        raise BackboneError(
            "the model already carries attention: call detach(model) before attaching another placement"
        )
    modules = dict(model.named_modules())
    hosts = [(_host(modules, point), point, choices) for point, choices in resolved.modules]
    built = [_attention(model, host, point, choices, resolved.init) for host, point, choices in hosts]
    for (host, point, _), attention in zip(hosts, built, strict=True):
        make_host(host, attention, replaces=point.replaces)
    return model


def detach(model: nn.Module) -> nn.Module:
    """Takes all attention out of `model`, in place, and gives the bare model back."""
    for host in list(_hosts(model).values()):
        del host._modules[CHILD]
        host.__class__ = bare_class(host)
        for parameter in host.__dict__.pop(_FROZEN, ()):
            parameter.requires_grad_(True)
    return model


def attached_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> attention module, in the order of `named_modules()`; empty for a bare model."""
    return {
        f"{path}.{CHILD}.{name}" if path else f"{CHILD}.{name}": module
        for path, host in _hosts(model).items()
        for name, module in cast(nn.Sequential, host._modules[CHILD]).named_children()
    }


def is_attended(module: nn.Module) -> bool:
    """Whether this very module is a host of attention."""
    return hasattr(type(module), "_nas_attn_host")


def make_host(module: nn.Module, attention: nn.Module, *, replaces: bool = False) -> None:
    """Sends the module's result through `attention` from now on.

    Args:
        replaces: sends its input there instead; the module keeps its parameters, but they are not trained.
    """
    cls = _attended(type(module), replaces)
    if replaces:
        frozen = [parameter.requires_grad_(False) for parameter in module.parameters() if parameter.requires_grad]
        module.__dict__[_FROZEN] = frozen
    module.add_module(CHILD, attention)
    module.__class__ = cls


def bare_class(module: nn.Module) -> type[nn.Module]:
    """The module's class, without attention."""
    cls: type[nn.Module] = getattr(type(module), "_nas_attn_host", type(module))
    return cls


def replaced_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that lie idle because attention took the module's place."""
    if not getattr(type(module), "_nas_attn_replaces", False):
        return []
    return [parameter for name, parameter in module.named_parameters() if not name.startswith(f"{CHILD}.")]


def iterates_children(module: nn.Module) -> bool:
    """Whether the module's own forward runs through all its children, so that it cannot take another child."""
    # torch's containers iterate over themselves instead, which _AttendedList and _AttendedDict answer
    code = getattr(bare_class(module).forward, "__code__", None)
    return code is not None and not ITERATING_NAMES.isdisjoint(code.co_names)


def refuse_wrapped(model: nn.Module) -> None:
    """Raises BackboneError for what is a model no more but a wrapper or a program."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise BackboneError(
            "give the model itself, before it is wrapped in DistributedDataParallel, which would not see what is attached"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise BackboneError("a TorchScript model cannot take attention: attach it to the model before scripting")


def _hosts(model: nn.Module) -> dict[str, nn.Module]:
    return {path: module for path, module in model.named_modules() if is_attended(module)}


def _host(modules: dict[str, nn.Module], point: Point) -> nn.Module:
    host = modules.get(point.path)
    if host is None:
        raise BackboneError(f"the model has no module '{point.path}': {did_you_mean(point.path, modules)}")
    if isinstance(host, torch.jit.ScriptModule):
        raise BackboneError(f"'{point.path}' is a TorchScript module and cannot take attention")
    if iterates_children(host):
        raise BackboneError(
            f"'{point.path}' runs all its children in turn and cannot take one more: name one of its children"
        )
    return host


def _attention(
    model: nn.Module, host: nn.Module, point: Point, choices: tuple[Choice, ...], init: str
) -> nn.Sequential:
    built = (catalogue.build(c, point.channels, point.height, point.width, init=cast(Any, init)) for c in choices)
    attention = nn.Sequential(*built).train(host.training)
    like = _tensor_of(host, model)
    return attention if like is None else attention.to(device=like.device, dtype=like.dtype)


def _tensor_of(*modules: nn.Module) -> torch.Tensor | None:
    """The first floating-point parameter or buffer of the first module that has one."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                return tensor
    return None


# ------------------------------------------------------------------------------------------- the class


def _attended(host: type[nn.Module], replaces: bool) -> type[nn.Module]:
    """The subclass of a host's class whose result goes through the host's attention; one per class.

    Args:
        replaces: the input goes there instead of the result.
    """
    known = _ATTENDED.get((host, replaces))
    if known is not None:
        return known

    def after(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._modules[CHILD](host.forward(self, *args, **kwargs))  # type: ignore[misc]

    def instead(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._modules[CHILD](*args, **kwargs)  # type: ignore[misc]

    forward = functools.wraps(host.forward)(instead if replaces else after)
    body = {
        "forward": forward,
        "__reduce_ex__": _reduce,
        "__module__": host.__module__,  # fx traces into what does not come from torch.nn
        "__doc__": host.__doc__,
        "_nas_attn_host": host,
        "_nas_attn_replaces": replaces,
    }
    bases: tuple[type, ...] = (host,)
    if issubclass(host, nn.Sequential | nn.ModuleList):
        bases = (_AttendedList, host)
    elif issubclass(host, nn.ModuleDict):
        bases = (_AttendedDict, host)
    return _ATTENDED.setdefault((host, replaces), type(f"Attended{host.__name__}", bases, body))


_ATTENDED: dict[tuple[type[nn.Module], bool], type[nn.Module]] = {}


def _reduce(self: Any, protocol: Any) -> tuple[Callable[..., Any], tuple[type[nn.Module], bool], Any]:
    return _blank, (type(self)._nas_attn_host, type(self)._nas_attn_replaces), self.__getstate__()


def _blank(host: type[nn.Module], replaces: bool) -> nn.Module:
    """An empty module of the attended class: what copy and pickle fill."""
    cls = _attended(host, replaces)
    return cls.__new__(cls)


class _AttendedDict:
    """Hides the attention from a container that asks itself for its children by name (a DenseNet's block)."""

    _modules: dict[str, nn.Module]

    def _own(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self._modules.items() if name != CHILD}

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own())

    def __contains__(self, key: object) -> bool:
        return key in self._own()

    def keys(self) -> KeysView[str]:
        return self._own().keys()

    def items(self) -> ItemsView[str, nn.Module]:
        return self._own().items()

    def values(self) -> ValuesView[nn.Module]:
        return self._own().values()


class _AttendedList:
    """Hides the attention from a container that runs its children in turn."""

    _modules: dict[str, nn.Module]

    def _own(self) -> list[nn.Module]:
        return [module for name, module in self._modules.items() if name != CHILD]

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own())

    def __getitem__(self, index: Any) -> Any:
        return nn.Sequential(*self._own()[index]) if isinstance(index, slice) else self._own()[index]

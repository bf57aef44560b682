"""Hosts of attention: modules whose class was changed in place.

    model.layer1[0].bn2            BatchNorm2d  ->  AttendedBatchNorm2d(BatchNorm2d)
    model.layer1[0].bn2.nas_attn   Sequential(SqueezeExcitation)

A host's class is replaced by a subclass whose `forward` sends the result through the attention. The
host keeps its place, its parameters and its names. A deepcopy or pickle has its own attention, and
every caller of the host (torch.export, compile, DDP, a hook, a direct `.forward`) runs it. A
forward hook would not do: fx's conv-bn fusion silently drops a BatchNorm's hooks.

Attention survives tools that rebuild networks. Some give a host another `forward` (YOLO's
`fuse()`): this replaces the host's own part only. Others put another module in a host's place
(SyncBatchNorm's conversion, a norm folded away by hand), or delete the module around a host (a
reparameterization): then the modules above the host, its holders, pass its attention on if this
gives the same results, and raise otherwise.
"""

import copy
import functools
import threading
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from nas_attn.attachment.containers import CHILD, AttendedDict, AttendedList, bare_class
from nas_attn.attachment.integrations import host_packages
from nas_attn.attachment.pickling import NamedFunction, packed, unpacked
from nas_attn.attention.gates import refuse_scripting
from nas_attn.errors import BackboneError, NasAttnWarning

Role = Literal["after", "instead", "holder"]
"""Role of a module: its result goes through attention, its input does instead, or a child is such a
host.
"""
_OWN = "_nas_attn_forward"
"""Attribute: a tool's replacement of the host's own forward."""
_FROZEN = "_nas_attn_frozen"
"""Attribute of a replaced module: its parameters that were trained before."""
_STATE = "_nas_attn_state"
"""Attribute, with the thread's number behind it, while a tool's forward runs, which may call the
former one: `running`, then `applied`.
"""
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
OF_A_NORM = ("eval", "requires_grad_", "float", "double", "half", "bfloat16")
"""Methods that code calls on each norm to freeze it, or to keep it in float32. Called on a host
itself they are the norm's alone; the network above reaches its attention by others.
"""


def make_holder(module: nn.Module) -> None:
    """Lets a module pass attention on if a child of it is replaced."""
    if role_of(module) is None and not isinstance(module, torch.fx.GraphModule):
        _become(module, _class(type(module), "holder"))


def role_of(module: nn.Module) -> Role | None:
    """A module's role; None for an ordinary one."""
    role: Role | None = getattr(type(module), "_nas_attn_role", None)
    return role


def is_attended(module: nn.Module) -> bool:
    """Whether this very module is a host of attention."""
    return role_of(module) in ("after", "instead")


def make_host(module: nn.Module, attention: nn.Module, *, replaces: bool = False) -> None:
    """Sends the module's result through `attention`. `replaces`: sends its input instead; its own
    parameters are not trained.
    """
    if replaces:
        module.__dict__[_FROZEN] = [
            p.requires_grad_(False) for p in module.parameters() if p.requires_grad
        ]
    nn.Module.add_module(module, CHILD, attention)
    _take(module, "instead" if replaces else "after")


def unmake(module: nn.Module) -> None:
    """Makes a host or a holder an ordinary module again; its attention is dropped."""
    if role_of(module) is None:
        return
    if is_attended(module):
        del module._modules[CHILD]
        for parameter in module.__dict__.pop(_FROZEN, ()):
            parameter.requires_grad_(True)
    _become(module, bare_class(module))
    if _OWN in module.__dict__:
        module.__dict__["forward"] = module.__dict__.pop(_OWN)


def replaced_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of modules that attention replaces, which are not used."""
    if role_of(module) == "instead":
        return own_parameters(module)
    return []


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module without those of its attention."""
    return [
        parameter
        for name, parameter in module.named_parameters()
        if not name.startswith(f"{CHILD}.")
    ]


def _take(module: nn.Module, role: Role) -> None:
    own = module.__dict__.pop("forward", None)
    _become(module, _class(bare_class(module), role))
    if own is not None:
        module.__dict__[_OWN] = own


def _forward(bare: type[nn.Module], role: Role) -> Callable[..., Any]:
    def after(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, _OWN) is not None:
            return _through(self, bare, args, kwargs)
        return self._modules[CHILD](bare.forward(self, *args, **kwargs))  # type: ignore[misc]

    def instead(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self._modules[CHILD](*args, **kwargs)  # type: ignore[misc]

    return functools.wraps(bare.forward)(after if role == "after" else instead)


def _through(
    host: nn.Module, bare: type[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of a host to which a tool has given another forward.

    That may be a method of the host's own class, or a function around the forward before it, which
    is the one with the attention: then it calls back, and the attention is applied there, once.
    """
    own = host.__dict__[_OWN]
    attention = cast(nn.Module, host._modules[CHILD])
    if _is_method(host, own):
        return attention(own(*args, **kwargs))
    state = f"{_STATE}{threading.get_ident()}"
    if state in host.__dict__:
        host.__dict__[state] = "applied"
        return attention(bare.forward(host, *args, **kwargs))
    host.__dict__[state] = "running"
    try:
        result = own(*args, **kwargs)
        applied = host.__dict__[state] == "applied"
    finally:
        del host.__dict__[state]
    return result if applied else attention(result)


def _is_method(host: nn.Module, function: Any) -> bool:
    """Whether a function is a method that the host's class has, bound to the host."""
    bound = isinstance(function, MethodType) and function.__self__ is host
    return bound and any(
        function.__func__ is vars(c).get(function.__func__.__name__) for c in type(host).__mro__
    )


_TRUE_CLASS: Any = vars(object)["__class__"]


def _become(module: nn.Module, cls: type[nn.Module]) -> None:
    """Changes a module's true class."""
    _TRUE_CLASS.__set__(module, cls)


def _set_class(self: nn.Module, cls: type[nn.Module]) -> None:
    """What `module.__class__ = cls` does: a tool gives the module another class (torch's
    parametrizations, FSDP). It keeps its attention.
    """
    role = role_of(self)
    is_ours = role is None or getattr(cls, "_nas_attn_role", None) == role
    _become(self, cls if is_ours else _class(cls, cast(Role, role)))


def _copy_by_own_method(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy by the `__deepcopy__` of the module's own class, which makes one without attention."""
    bare: Any = bare_class(self)
    copied: nn.Module = bare.__deepcopy__(self, memo)
    if type(copied) is not bare or copied is self:
        return copied
    if is_attended(self) and CHILD not in copied._modules:
        # the method builds a new module
        attention = copy.deepcopy(self._modules[CHILD], memo)
        nn.Module.add_module(copied, CHILD, attention)
    _become(copied, type(self))
    return copied


def _alone(bare: type[nn.Module], name: str) -> Callable[..., Any]:
    """A method of a norm that its attention has no part in."""
    method = getattr(bare, name)

    @functools.wraps(method)
    def of_the_norm(self: nn.Module, *args: Any) -> Any:
        attention = self._modules.pop(CHILD)
        try:
            return method(self, *args)
        finally:
            self._modules[CHILD] = attention

    return of_the_norm


def _to_alone(self: nn.Module, *args: Any, **options: Any) -> nn.Module:
    """`norm.to(dtype)` is the norm's alone; to a device goes its attention, too."""
    bare = bare_class(self)
    asked = (*args, *options.values())
    if len(asked) == 1 and isinstance(asked[0], torch.dtype):
        return cast(nn.Module, _alone(bare, "to")(self, *asked))
    return bare.to(self, *args, **options)


def _parameters_alone(
    self: nn.Module, *args: Any, **options: Any
) -> Iterator[tuple[str, nn.Parameter]]:
    """`named_parameters` of a norm, without those of its attention."""
    for name, parameter in bare_class(self).named_parameters(self, *args, **options):
        if CHILD not in name.split("."):
            yield name, parameter


def _set_attribute(self: nn.Module, name: str, value: Any) -> None:
    if name == "qconfig" and value is not None and isinstance(self, _ConvNd) and is_attended(self):
        kind = bare_class(self).__name__
        warnings.warn(
            f"a {kind} with attention behind it stays in float: torch's quantisation knows layers"
            f" by their exact type; put attention at a module behind the {kind}",
            NasAttnWarning,
            stacklevel=3,
        )
    if name == "forward" and is_attended(self):
        if (
            isinstance(value, MethodType)
            and value.__self__ is self
            and value.__func__ is type(self).forward
        ):
            # it was put back
            self.__dict__.pop(_OWN, None)
        else:
            self.__dict__[_OWN] = value
        return
    bare_class(self).__setattr__(self, name, _successor(self, name, value))


def _delete_attribute(self: nn.Module, name: str) -> None:
    if name == "forward" and _OWN in self.__dict__:
        del self.__dict__[_OWN]
        return
    _successor(self, name, None)
    bare_class(self).__delattr__(self, name)


def _add_module(self: nn.Module, name: str, module: nn.Module | None) -> None:
    bare_class(self).add_module(self, name, _successor(self, name, module))


def _successor(holder: nn.Module, name: str, new: Any) -> Any:
    """A child's replacement, with the attention of the former child. BackboneError: it cannot carry
    this attention.
    """
    old = holder.__dict__.get("_modules", {}).get(name)
    if old is None or new is old:
        return new
    hosts = _hosts(old)
    role = role_of(old)
    if role == "after" and isinstance(new, nn.Module) and _adapts(old, new):
        attention = cast(nn.Module, old._modules[CHILD])
        unmake(old)
        make_host(new, attention)
        return new
    if not hosts or (isinstance(new, nn.Module) and _takes_over(new, hosts)):
        return new
    if isinstance(new, nn.Module) and role in ("after", "instead"):
        # a conversion that keeps a module's children
        if CHILD in new._modules:
            _take(new, role)
            return new
        if role == "after" and _is_light(old) and _is_light(new):
            attention = cast(nn.Module, old._modules[CHILD])
            unmake(old)
            make_host(new, attention)
            return new
    carried: list[str] = []
    for host in hosts:
        attention = cast(nn.Module, host._modules[CHILD])
        carried += [type(module).__name__ for module in attention.children()]
    kinds = ", ".join(carried)
    what = "it cannot be removed"
    if new is not None:
        what = f"a {type(new).__name__} cannot take its place"
    where = f"'{name}' of {bare_class(holder).__name__}"
    raise BackboneError(
        f"{where} carries attention ({kinds}) and {what}: call detach(model) before, attach again"
        " after"
    )


def _hosts(module: nn.Module) -> list[nn.Module]:
    """The hosts among a module and those in it."""
    return [host for host in module.modules() if is_attended(host)]


def _takes_over(new: nn.Module, hosts: list[nn.Module]) -> bool:
    """Whether a module in another's place has its attention: it is put around it, as
    `torch.compile`, `DataParallel` and LoRA do, or it is a copy with attention.
    """
    inside = set(map(id, new.modules()))
    if all(id(host) in inside for host in hosts):
        return True
    return role_of(new) is not None and bool(_hosts(new))


def _adapts(old: nn.Module, new: nn.Module) -> bool:
    """Whether one is an adapter of the other (PEFT's LoRA, with its `base_layer` and `merge`). Its
    attention then comes behind both, as it does when the adapter is merged.
    """
    pairs = ((old, new), (new, old))
    return any(
        getattr(outer, "base_layer", None) is inner and callable(getattr(outer, "merge", None))
        for outer, inner in pairs
    )


def _is_light(module: nn.Module) -> bool:
    """Whether a module is a norm, or has no weights: such modules may replace each other, or be
    removed.
    """
    return not own_parameters(module) or isinstance(module, NORMS)


def _class(bare: type[nn.Module], role: Role) -> type[nn.Module]:
    """The subclass of a module's class for a role; one per class.

    Its objects say that they are of the module's own class, and take another one as that: so
    `super(self.__class__, self)` is what it was, and a parametrization can come and go.
    """
    if (bare, role) in _CLASSES:
        return _CLASSES[bare, role]
    body: dict[str, Any] = {
        "__setattr__": _set_attribute,
        "__delattr__": _delete_attribute,
        "add_module": _add_module,
        "__reduce_ex__": _reduce,
        "__prepare_scriptable__": refuse_scripting,
        # fx traces into what does not come from torch.nn
        "__module__": bare.__module__,
        "__doc__": bare.__doc__,
        "__class__": property(bare_class, _set_class),
        "_get_name": _name,
        "__init__": _initialiser(bare),
        "_nas_attn_bare": bare,
        "_nas_attn_role": role,
        _OWN: None,
    }
    if role != "holder" and issubclass(bare, NORMS):
        body |= {method: _alone(bare, method) for method in OF_A_NORM}
        body["named_parameters"] = _parameters_alone
        body["to"] = _to_alone
    if hasattr(bare, "__deepcopy__"):
        body["__deepcopy__"] = _copy_by_own_method
    bases: tuple[type, ...] = (bare,)
    if role != "holder":
        body["forward"] = _forward(bare, role)
        if issubclass(bare, nn.Sequential | nn.ModuleList):
            bases = (AttendedList, bare)
        elif issubclass(bare, nn.ModuleDict):
            bases = (AttendedDict, bare)
    name = bare.__name__ if role == "holder" else f"Attended{bare.__name__}"
    return _CLASSES.setdefault((bare, role), _made(name, bases, body))


def _initialiser(bare: type[nn.Module]) -> Callable[..., None]:
    """What `type(host)(...)` does, as PEFT makes its layers: a module of the bare class."""

    @functools.wraps(bare.__init__)
    def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        _become(self, bare)
        bare.__init__(self, *args, **kwargs)

    return initialise


class _Quiet:
    """Stands before the other bases while a class is made."""

    def __init_subclass__(cls, **options: object) -> None:
        """Keeps the class from the `__init_subclass__` of a user's base, which may keep a list of
        its subclasses, or need arguments.
        """


def _made(name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type[nn.Module]:
    """A class that its bases do not hear of."""
    metaclass = type(bases[-1])
    quiet = (_Quiet, *bases)
    if metaclass in (type, ABCMeta):
        cls = metaclass(name, quiet, body)
    else:
        # a metaclass may keep a list as well
        cls = type.__new__(metaclass, name, quiet, body)
    cls.__bases__ = bases
    return cast(type[nn.Module], cls)


def _name(self: nn.Module) -> str:
    """The name in the printed network."""
    return type(self).__name__


_CLASSES: dict[tuple[type[nn.Module], Role], type[nn.Module]] = {}


def _reduce(
    self: Any, _protocol: Any
) -> tuple[Callable[..., Any], tuple[type[nn.Module], Role], Any]:
    empty = NamedFunction(_empty, in_files=blank)
    return empty, (type(self)._nas_attn_bare, type(self)._nas_attn_role), self.__getstate__()


def blank(bare: type[nn.Module], role: Role) -> nn.Module:
    """An empty module of the class for a role, for a pickle to fill."""
    for package in host_packages(bare):
        package.unpickled()
    return _empty(bare, role)


def _empty(bare: type[nn.Module], role: Role) -> nn.Module:
    """An empty module of the class for a role, for a copy to fill."""
    cls = _class(bare, role)
    return cls.__new__(cls)


class Attention(nn.Sequential):
    """The attention modules behind one host, in turn."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(x, torch.Tensor) and x.dim() != 4:
            raise BackboneError(
                f"attention takes maps (N, C, H, W), not a tensor of shape {tuple(x.shape)}: give"
                " the network a batch of images"
            )
        y: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return y

    def __reduce_ex__(self, protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return NamedFunction(unpacked), (packed(self),)


class Nothing(Attention):
    """Stands for a removed branch: zeros, so that its block adds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

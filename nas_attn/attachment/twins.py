"""Copies of a network that can be run and changed without an effect on the network.

`copy.deepcopy` alone is not enough. It refuses tensors with a graph, which a network may keep after
a training step (an encoder's maps for its decoder). And it shares functions, so a hook of the copy
would write where the network's own hook does: the copy's decoder would read the maps of another
run.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nas_attn.attachment.containers import bare_class
from nas_attn.errors import BackboneError, first_line

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
)
"""Attributes of a module that hold the hooks which run in its forward, by number."""
HOOK_FLAGS = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
"""Attributes that hold settings of these hooks, by the same number."""
Container = dict[Any, Any] | list[Any] | set[Any]


class _WithoutGraphs(TorchFunctionMode):
    """Copies a tensor that a graph belongs to as its values alone."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            if id(tensor) not in memo:
                memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


class NoCopyError(BackboneError):
    """A network that cannot be copied."""


def copied(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """`copy.deepcopy`, of a network that may keep tensors with a graph, too. NoCopyError names what
    cannot be copied.
    """
    try:
        with _WithoutGraphs():
            return copy.deepcopy(model, {} if memo is None else memo)
    except Exception as error:
        # whatever a user's own object may raise
        raise NoCopyError(
            f"{type(model).__name__} cannot be copied, and it is looked at in a copy"
            f" ({first_line(error)}): {_what_cannot_be_copied(model)}"
        ) from error


def _what_cannot_be_copied(model: nn.Module) -> str:
    """Names the attribute that holds a lock, a queue, a file or a generator, and the way out."""
    of_torch = vars(nn.Module()).keys()
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in of_torch:
                continue
            try:
                with _WithoutGraphs():
                    copy.deepcopy(value)
            except Exception:
                where = f"{path}.{name}".lstrip(".")
                return (
                    f"'{where}' holds a {type(value).__name__}, so make it when it is first used,"
                    f" or let {bare_class(module).__name__} leave it out in __getstate__"
                )
    return "give its class a __deepcopy__"


@contextmanager
def twin_of(model: nn.Module, replaced: dict[int, Any] | None = None) -> Iterator[nn.Module]:
    """A copy to be run, with hooks of its own: what they keep is the copy's.

    Args:
        replaced: `id` of a parameter or buffer -> what the copy has in its place.

    Raises:
        NoCopyError: it cannot be copied.
    """
    memo = dict(replaced or {})
    shared = _global_containers(model)
    memo.update({id(container): container for container in shared})
    twin = copied(model, memo)
    for module in twin.modules():
        _own_hooks(module, memo)
    before = [copy.copy(container) for container in shared]
    try:
        # compiled parts would not call hooks that are new
        with torch.compiler.set_stance("force_eager"):
            yield twin
    finally:
        for container, content in zip(shared, before, strict=True):
            _restore(container, content)


def without_hooks(model: nn.Module) -> nn.Module:
    """The network without its hooks, in place, but those of torch that make a module's weights
    before it runs (weight norm, spectral norm).
    """
    for module in model.modules():
        for hooks in HOOKS:
            for number, hook in list(getattr(module, hooks).items()):
                is_torchs = hooks == "_forward_pre_hooks" and type(hook).__module__.startswith(
                    "torch."
                )
                if not is_torchs:
                    _remove(module, number)
    return model


def has_hooks(model: nn.Module) -> bool:
    """Whether a module has a hook that runs in its forward."""
    return any(getattr(module, hooks) for module in model.modules() for hooks in HOOKS)


def _remove(module: nn.Module, number: int) -> None:
    for name in (*HOOKS, *HOOK_FLAGS):
        getattr(module, name).pop(number, None)


def _functions(hook: Any) -> Iterator[FunctionType]:
    """The plain function behind a hook; a method's object is copied with the network."""
    while isinstance(hook, partial):
        hook = hook.func
    if isinstance(hook, FunctionType):
        yield hook


def _global_containers(model: nn.Module) -> list[Container]:
    """What hooks may write to that belongs to no network: global dictionaries and lists that their
    functions name. The copy uses them itself, and they get their content back.
    """
    containers: dict[int, Container] = {}
    for module in model.modules():
        for hooks in HOOKS:
            for hook in getattr(module, hooks).values():
                for function in _functions(hook):
                    named = (function.__globals__.get(n) for n in function.__code__.co_names)
                    containers.update({id(v): v for v in named if isinstance(v, dict | list | set)})
    return list(containers.values())


def _restore(container: Container, content: Container) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def _own_hooks(module: nn.Module, memo: dict[int, Any]) -> None:
    """Gives functions among the hooks copies of what they enclose. A hook that encloses something
    that cannot be copied is left out.
    """
    for name in HOOKS:
        hooks = getattr(module, name)
        for number, hook in list(hooks.items()):
            if not isinstance(hook, FunctionType) or hook.__closure__ is None:
                continue
            try:
                hooks[number] = _enclosing_copies(hook, memo)
            except Exception:
                # whatever a user's own object may raise
                _remove(module, number)


def _enclosing_copies(hook: FunctionType, memo: dict[int, Any]) -> FunctionType:
    with _WithoutGraphs():
        cells = tuple(
            CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in hook.__closure__ or ()
        )
    function = FunctionType(
        hook.__code__, hook.__globals__, hook.__name__, hook.__defaults__, cells
    )
    function.__kwdefaults__ = hook.__kwdefaults__
    return function

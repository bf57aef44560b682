"""Copies of a network that can be run and changed without an effect on the network.

`copy.deepcopy` alone is not enough. It refuses tensors with a graph, which a network may keep after
a training step (an encoder's maps for its decoder). And it shares functions, so a hook of the copy
would write where the network's own hook does: the copy's decoder would read the maps of another
run.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nas_attn.attachment.containers import bare_class
from nas_attn.errors import BackboneError, first_line


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
    """`copy.deepcopy`, of a network that may keep tensors with a graph, and whose hooks write to
    what they enclose. NoCopyError names what cannot be copied.

    Args:
        memo: `id` of a parameter or buffer -> what the copy has in its place.
    """
    memo = {} if memo is None else memo
    try:
        with _WithoutGraphs():
            twin = copy.deepcopy(model, memo)
            for module in twin.modules():
                for hooks in (module._forward_hooks, module._forward_pre_hooks):
                    hooks.update({number: _own(hook, memo) for number, hook in hooks.items()})
            return twin
    except Exception as error:
        # whatever a user's own object may raise
        raise NoCopyError(
            f"{type(model).__name__} cannot be copied, and it is looked at in a copy"
            f" ({first_line(error)}): {_what_cannot_be_copied(model)}"
        ) from error


def _own(hook: Any, memo: dict[int, Any]) -> Any:
    """The copy's hook: with copies of what it encloses, and of global objects that the network
    keeps as well.
    """
    if not isinstance(hook, FunctionType):
        return hook
    copies = {
        name: memo[id(value)]
        for name in hook.__code__.co_names
        if id(value := hook.__globals__.get(name)) in memo
    }
    if not (copies or hook.__closure__):
        return hook
    cells = [CellType(copy.deepcopy(cell.cell_contents, memo)) for cell in hook.__closure__ or ()]
    names = hook.__globals__ | copies
    return FunctionType(hook.__code__, names, hook.__name__, hook.__defaults__, tuple(cells))


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
    """A copy to be run. `replaced`: `id` of a parameter or buffer -> what the copy has in its
    place. NoCopyError: it cannot be copied.
    """
    # compiled parts would not call hooks that are new
    with torch.compiler.set_stance("force_eager"):
        yield copied(model, replaced)

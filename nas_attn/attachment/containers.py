"""Containers of layers that carry attention, which is not among the children that they run."""

from collections import OrderedDict
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from typing import Any

from torch import nn

CHILD = "nas_attn"
"""Name of the host's child that holds its attention modules."""


def bare_class(module: nn.Module) -> type[nn.Module]:
    """The module's class, without attention."""
    cls: type[nn.Module] = getattr(type(module), "_nas_attn_bare", type(module))
    return cls


class AttendedDict:
    """Hides the attention from a container that asks itself for its children by name (a DenseNet's
    block).
    """

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


class AttendedList:
    """Hides the attention from a container that runs its children in turn, and that numbers them
    anew when one is put in or taken out.
    """

    _modules: dict[str, nn.Module]

    def _own(self) -> list[nn.Module]:
        return [module for name, module in self._modules.items() if name != CHILD]

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._own())

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self._own()[index]
        names = [name for name in self._modules if name != CHILD]
        part = {name: self._modules[name] for name in names[index]}
        classes = type(self).__mro__
        kind: Any = classes[classes.index(AttendedList) + 1]
        return kind(part.values() if issubclass(kind, nn.ModuleList) else OrderedDict(part))

    def __setitem__(self, index: Any, module: nn.Module) -> None:
        with _without_attention(self):
            super().__setitem__(index, module)  # type: ignore[misc]

    def __delitem__(self, index: Any) -> None:
        with _without_attention(self):
            super().__delitem__(index)  # type: ignore[misc]

    def insert(self, index: int, module: nn.Module) -> Any:
        """Puts a module before the one at this index."""
        with _without_attention(self):
            return super().insert(index, module)  # type: ignore[misc]


@contextmanager
def _without_attention(container: Any) -> Iterator[None]:
    """Meanwhile, the container's attention is not among its children."""
    attention = container._modules.pop(CHILD)
    try:
        yield
    finally:
        container._modules[CHILD] = attention

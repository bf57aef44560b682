"""Pickles networks with attention by names that are looked up when the file is read, so that the
file imports nothing of this package.

A tool that reads a pickle without this package would otherwise see a missing module. Ultralytics
then installs whatever is registered under that module's name. A file written here fails with one
sentence instead.
"""

import pydoc
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any

from torch import nn

from nas_attn.errors import BackboneError

NOT_INSTALLED = "nas_attn: this file needs it, install it and try again"
"""The name under which a pickle asks for `_resolved`: without this package, Python's error message
ends in it.
"""


def packed(module: nn.Module) -> Any:
    """A module as plain values: modules of torch alone as they are, others as (class by name,
    attributes, children).
    """
    kind = type(module)
    if all(type(part).__module__.startswith("torch.") for part in module.modules()):
        return module
    attributes = dict(vars(module))
    del attributes["_modules"]
    for name, value in attributes.items():
        if isinstance(value, FunctionType) and value.__module__.startswith("nas_attn."):
            attributes[name] = NamedFunction(value)
    children = {}
    for name, child in module._modules.items():
        children[name] = None if child is None else packed(child)
    return f"{kind.__module__}:{kind.__qualname__}", attributes, children


def unpacked(given: Any) -> nn.Module | None:
    """The module that was packed; BackboneError: its class cannot be imported."""
    if given is None or isinstance(given, nn.Module):
        return given
    name, attributes, children = given
    module: nn.Module = _found(name).__new__(_found(name))
    vars(module).update(
        attributes, _modules={key: unpacked(child) for key, child in children.items()}
    )
    return module


def _found(name: str) -> Any:
    path, _, qualname = name.partition(":")
    try:
        value: Any = import_module(path)
        for part in qualname.split("."):
            value = getattr(value, part)
    except (ImportError, AttributeError) as error:
        raise BackboneError(f"the file needs '{name}', which cannot be imported: {error}") from None
    return value


class NamedFunction:
    """A function of this package, to be returned from `__reduce_ex__`: a copy calls it. A pickle
    has its name, or that of another function, which does more where the file is read.
    """

    def __init__(
        self, function: Callable[..., Any], *, in_files: Callable[..., Any] | None = None
    ) -> None:
        self._function = function
        self._in_files = in_files or function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _Resolver(), (f"{self._in_files.__module__}:{self._in_files.__qualname__}",)


class _Resolver:
    """`_found`, pickled as `getattr(pydoc.locate("nas_attn.attachment.pickling"), MISSING)`."""

    def __call__(self, name: str) -> Any:
        return _found(name)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return getattr, (_Here(), NOT_INSTALLED)


class _Here:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return pydoc.locate, (__name__,)


globals()[NOT_INSTALLED] = _found

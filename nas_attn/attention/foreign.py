"""Attention modules of other packages: entry points in the group `nas_attn.attention`, and `package.module:Class`.

    class MyAttention(nn.Module):
        def __init__(self, channels: int, *, reduction: int = 16, mode: Literal["max", "mean"] = "max") -> None: ...
        def forward(self, x: Tensor) -> Tensor: ...          # (N, C, H, W) -> the same shape

The keyword-only parameters are its knobs; `height`, `width` and `init` are passed where it has them. Without `init`,
the identity start is a blend around the module. Parameters and MACs are counted from an instance.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row
from nas_attn.errors import KnobError, did_you_mean
from nas_attn.importing import load_object
from nas_attn.records import Knob

GROUP = "nas_attn.attention"
RESERVED = ("height", "width", "init")
"""Keyword-only parameters that are no knobs: what a module may want to know."""


def find_foreign(name: str, known: Iterable[str]) -> Row:
    """The row of a module that is not ours.

    Raises:
        KnobError: there is none, it cannot be imported, or its signature does not fit.
    """
    if ":" in name:
        return _row(name, name)
    found = installed()
    if name in found:
        return _row(name, found[name].value)
    raise KnobError(f"unknown attention type '{name}': {did_you_mean(name, [*known, *found])}")


def installed() -> dict[str, EntryPoint]:
    """Name -> entry point of each module that an installed package offers; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _row(name: str, target: str) -> Row:
    cls = _load(name, target)
    return Row(
        name=name,
        target=target,
        title=inspect.cleandoc(cls.__doc__ or cls.__name__).splitlines()[0],
        paper="",
        family="foreign",
        fit=lambda fitting: _count(cls, fitting),
        knobs=tuple(_knobs(name, cls)),
    )


def _load(name: str, target: str) -> Any:
    what = "attention type" if name == target else f"attention type '{name}', entry point"
    cls = load_object(target, what=what, error=KnobError)
    from torch import nn

    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        kind = cls.__name__ if isinstance(cls, type) else type(cls).__name__
        raise KnobError(f"{what} '{target}' is not a subclass of torch.nn.Module, but {kind}")
    return cls


def _knobs(name: str, cls: type) -> Iterable[KnobSpec]:
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        hints = {}
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in RESERVED:
            continue
        default = parameter.default
        if type(default) not in (int, float, bool, str):
            raise KnobError(
                f"attention type '{name}': knob '{parameter.name}' needs a default that is a number, a truth value or a text"
            )
        hint = hints.get(parameter.name)
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        yield KnobSpec(parameter.name, type(default), default, "", choices=choices)


def _count(cls: type, fitting: Fitting) -> Count:
    """Parameters and MACs of an instance, counted by torch on one map of zeros."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    knobs: dict[str, Knob] = fitting.values
    accepted = inspect.signature(cls).parameters
    extra = {
        n: v for n, v in zip(RESERVED, (fitting.height, fitting.width, fitting.init), strict=True) if n in accepted
    }
    shape = (1, fitting.channels, fitting.height, fitting.width)
    try:
        with torch.random.fork_rng(devices=()):
            module = cls(fitting.channels, **knobs, **extra).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            y = module(torch.zeros(shape))
    except Exception as error:  # a stranger's code: whatever it raises
        raise KnobError(
            f"{fitting.row.name} does not work on {fitting.channels} channels: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(y, torch.Tensor) or tuple(y.shape) != shape:
        given = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise KnobError(f"{fitting.row.name} must keep the shape {shape}, but gives {given}")
    blend = int(fitting.init == "identity" and "init" not in accepted)
    return Count(sum(p.numel() for p in module.parameters()) + blend, counter.get_total_flops() // 2)

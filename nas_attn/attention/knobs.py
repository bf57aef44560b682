"""Knobs of a module, read from its class: its keyword-only parameters, with annotations, defaults
and what `Args:` says of them. No torch.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from nas_attn.attention.choice import Knob, format_knob
from nas_attn.attention.fitting import Fitting
from nas_attn.errors import KnobError, did_you_mean

SHAPED = ("height", "width", "init")
"""Keyword-only parameters that are not knobs: facts about the map and the start."""


@dataclass(frozen=True, slots=True)
class KnobLimits:
    """What an annotation says of a number: bounds, inclusive, and how it is made possible."""

    low: int | float = -math.inf
    high: int | float = math.inf
    fit: Callable[[Fitting, str], object] | None = None
    """None: every value within the bounds is possible. A row's own `fit` takes its place where
    knobs depend on one another.
    """


UNLIMITED = KnobLimits()
WIDEST_MAP = 65536
"""Channels of the widest map that anybody asked for, so also its groups."""
Positive = Annotated[int, KnobLimits(1, 4096)]
Reduction = Annotated[int, KnobLimits(1, 4096, Fitting.hidden)]
"""Channels divided by a hidden width of at least 1."""
Odd = Annotated[int, KnobLimits(1, 31, Fitting.odd)]
"""A length or a side with a middle."""
LongOdd = Annotated[int, KnobLimits(1, 63, Fitting.odd)]
Neighbours = Annotated[int, KnobLimits(1, 63, Fitting.neighbours)]
Groups = Annotated[int, KnobLimits(1, WIDEST_MAP, Fitting.divisor)]
FewGroups = Annotated[int, KnobLimits(1, 4, Fitting.divisor)]
Frequencies = Annotated[int, KnobLimits(1, 32, Fitting.divisor)]
Heads = Annotated[int, KnobLimits(1, 4096, Fitting.divisor)]
MapSide = Annotated[int, KnobLimits(1, 64, Fitting.within_map)]
Dilation = Annotated[int, KnobLimits(1, 64)]
Branches = Annotated[int, KnobLimits(2, 8)]
AddedVariance = Annotated[float, KnobLimits(1e-12, 1e3)]


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """One setting of an attention module."""

    name: str
    kind: type[int] | type[float] | type[bool] | type[str]
    default: Knob
    doc: str
    limits: KnobLimits = UNLIMITED
    choices: tuple[Knob, ...] = ()
    """The allowed values; empty: all of the type in the range."""
    preset: bool = False
    """Whether it only chooses other knobs and vanishes in the canonical form (`variant`)."""

    @property
    def auto(self) -> bool:
        """Whether the value may be `auto`: it is then computed from the shape."""
        return self.kind is not str and self.default == "auto"

    @property
    def range(self) -> str:
        """The allowed values in words: `1 to 64, or auto`, `one of T, B, S, L`."""
        if self.choices:
            text = f"one of {', '.join(map(format_knob, self.choices))}"
        elif self.kind is bool:
            text = "true or false"
        elif self.limits is not UNLIMITED:
            text = f"{format_knob(self.limits.low)} to {format_knob(self.limits.high)}"
        else:
            text = f"any {self.kind.__name__}"
        return f"{text}, or auto" if self.auto else text

    def check(self, value: object, where: str) -> Knob:
        """The value in the knob's type; KnobError names the module, `where`."""
        if self.auto and value == "auto":
            return "auto"
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is self.kind and isinstance(value, int | float | str):
            free = isinstance(value, str) or (
                math.isfinite(value) and self.limits.low <= value <= self.limits.high
            )
            if value in self.choices if self.choices else free:
                return value
        if self.choices and isinstance(value, str):
            raise KnobError(
                f"{where}: unknown {self.name} '{value}':"
                f" {did_you_mean(value, map(str, self.choices))}"
            )
        raise KnobError(
            f"{where}: {self.name}={shown(value)} is not possible, it must be {self.range}"
        )


def shown(value: object) -> str:
    """Any value, a knob's as it is written in notation."""
    if isinstance(value, int | float):
        return format_knob(value)
    return repr(value)


def read_knobs(name: str, cls: type) -> Iterator[KnobSpec]:
    """Reads a class' knobs: `reduction: Reduction = 16`, `order: Literal["top", "low"] = "top"`.

    A number without a default is `auto`, which its row computes from the map. KnobError: a
    parameter's default is no number, bool or text.
    """
    try:
        hints: dict[str, Any] = typing.get_type_hints(cls.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError):
        hints = {}
    docs = documented(cls)
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in SHAPED:
            continue
        hint = hints.get(parameter.name)
        default = parameter.default
        kind = type(default)
        choices: tuple[Knob, ...] = ()
        limits = UNLIMITED
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
        elif isinstance(getattr(hint, "__metadata__", (None,))[0], KnobLimits):
            kind, limits = typing.get_args(hint)
            if default is parameter.empty:
                default = "auto"
        if kind not in (int, float, bool, str):
            raise KnobError(
                f"attention type '{name}': knob '{parameter.name}' needs a number, bool or text as"
                " default"
            )
        doc = docs.get(parameter.name, "")
        yield KnobSpec(parameter.name, kind, default, doc, limits, choices)


def documented(cls: type) -> dict[str, str]:
    """Reads what `Args:` in the class' docstring says of each parameter."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:\n")
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}

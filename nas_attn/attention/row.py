"""A row of the catalogue: an attention module's name, class and knobs, and how these are made
explicit on a shape. Loads no torch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from nas_attn.attention.choice import Knob, format_knob
from nas_attn.errors import KnobError, NasAttnWarning, did_you_mean

if TYPE_CHECKING:
    from torch import nn

Init = Literal["paper", "identity"]
INITS: tuple[Init, ...] = ("paper", "identity")
KnobPairs = Mapping[str, Knob] | Iterable[tuple[str, Knob]]


class Count(NamedTuple):
    """Cost of a module at batch size 1; MACs are those of convolutions, linear layers and matrix
    products.
    """

    parameters: int
    macs: int


CanonicalKnobs = tuple[tuple[str, Knob], ...]
"""(name, value) of every knob, in the row's order. Equal networks have equal canonical knobs."""


class MapShape(NamedTuple):
    """The map that a module is made for."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class KnobSpec:
    """One setting of an attention module."""

    name: str
    kind: type[int] | type[float] | type[bool] | type[str]
    default: Knob
    doc: str
    low: int | float | None = None
    high: int | float | None = None
    """Bounds, inclusive."""
    choices: tuple[Knob, ...] = ()
    """The allowed values; empty: all of the type in the range."""
    auto: bool = False
    """Whether the value may be `auto`: it is then computed from the shape."""
    preset: bool = False
    """Whether it only chooses other knobs and vanishes in the canonical form (`variant`)."""
    fit: Callable[[Fitting], object] | None = None
    """Makes its value possible on the shape; None: every value in the range is possible. A row's
    own `fit` takes its place where knobs depend on one another.
    """

    @property
    def range(self) -> str:
        """The allowed values in words: `1 to 64, or auto`, `one of T, B, S, L`."""
        if self.choices:
            text = f"one of {', '.join(map(format_knob, self.choices))}"
        elif self.kind is bool:
            text = "true or false"
        elif self.low is not None and self.high is not None:
            text = f"{format_knob(self.low)} to {format_knob(self.high)}"
        else:
            if self.low is not None:
                text = f"at least {format_knob(self.low)}"
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
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            free = isinstance(value, str) or (math.isfinite(value) and low <= value <= high)
            if value in self.choices if self.choices else free:
                return value
        if self.choices and isinstance(value, str):
            raise KnobError(
                f"{where}: unknown {self.name} '{value}':"
                f" {did_you_mean(value, map(str, self.choices))}"
            )
        raise KnobError(
            f"{where}: {self.name}={_shown(value)} is not possible, it must be {self.range}"
        )


class Fitting:
    """Brings one module's knobs to the canonical form for one shape; the `fit` of a knob or of a
    row works on it.

    Its functions take the nearest possible value; if `strict`, they raise KnobError for impossible
    values that the user gave.
    """

    def __init__(
        self, row: Row, given: dict[str, Knob], shape: MapShape, *, strict: bool, init: Init
    ) -> None:
        self.row = row
        self.given = given
        """What was asked for by name."""
        self.channels = shape.channels
        self.height = shape.height
        self.width = shape.width
        self.strict = strict
        self.init = init
        self.values: dict[str, Knob] = {
            knob.name: given.get(knob.name, knob.default) for knob in row.knobs
        }
        """All knobs; becomes canonical while fitting."""

    def integer(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def hidden(self, *, smallest: int = 1) -> int:
        """Hidden width `C // reduction`, at least `smallest`; the canonical reduction is the
        largest that gives it.
        """
        channels = self.channels
        reduction = self.integer("reduction")
        smallest = min(smallest, channels)
        largest = channels // smallest
        if reduction > largest:
            self.refuse(
                "reduction",
                f"leaves less than {smallest} of {channels} channels, the largest possible is"
                f" {largest}",
            )
        hidden = channels // min(reduction, largest)
        self.values["reduction"] = channels // hidden
        return hidden

    def odd(self, name: str, *, largest: int | None = None) -> int:
        """An odd kernel size, at most `largest` (odd)."""
        size = self.integer(name)
        if size % 2 == 0:
            self.refuse(
                name,
                f"is even and cannot be centred, the nearest possible are {size - 1} and"
                f" {size + 1}",
            )
            size += 1
        if largest is not None and size > largest:
            self.refuse(
                name,
                f"reaches beyond all {self.channels} channels, the largest possible is {largest}",
            )
            size = largest
        self.values[name] = size
        return size

    def divisor(
        self, name: str, of: int, what: str = "channels", *, largest: int | None = None
    ) -> int:
        """The largest divisor of `of` not above the knob's value (and `largest`); if strict, it
        warns about a value that the user gave.
        """
        asked = self.integer(name)
        taken = largest_divisor(of, asked if largest is None else min(asked, largest))
        if taken != asked and self.strict and name in self.given:
            self.warn(f"{name}={asked} does not divide {of} {what}: {name}={taken} was taken")
        self.values[name] = taken
        return taken

    def at_most(self, name: str, largest: int) -> int:
        """The knob's value, or `largest` where that is less."""
        value = min(self.integer(name), largest)
        self.values[name] = value
        return value

    def ignore(self, *names: str) -> None:
        """Resets knobs without effect here to their defaults, so that equal networks stay equal."""
        for knob in self.row.knobs:
            if knob.name in names:
                self.values[knob.name] = knob.default

    def refuse(self, name: str, why: str) -> None:
        """Raises KnobError if strict and the user gave this knob."""
        if self.strict and name in self.given:
            raise KnobError(f"{self.row.name}: {name}={format_knob(self.given[name])} {why}")

    def warn(self, what: str) -> None:
        warnings.warn(f"{self.row.name}: {what}", NasAttnWarning, stacklevel=6)


SHAPED = ("height", "width", "init")
"""Keyword-only parameters that are not knobs: facts about the map and the start."""


@dataclass(frozen=True, slots=True)
class Row:
    """An attention module of the catalogue."""

    name: str
    load: Callable[[], type[nn.Module]]
    """Gives the class, which is imported then: it needs torch, and a row does not."""
    title: str
    paper: str
    """Authors, year, identifier."""
    family: str
    knobs: tuple[KnobSpec, ...] = ()
    fit: Callable[[Fitting], None] | None = None
    """Makes the knobs explicit on a shape where they depend on one another; None: each knob's own
    `fit` does.
    """
    control: bool = False
    """Whether it is a plain layer, not attention: a control, which a study tries at all sites."""

    @property
    def class_path(self) -> str:
        """`package.module:Class`; imports the class."""
        cls = self.load()
        return f"{cls.__module__}:{cls.__qualname__}"

    def __post_init__(self) -> None:
        for knob in self.knobs:
            if knob.name in SHAPED:
                raise ValueError(
                    f"{self.name}: '{knob.name}' tells a module of its map: give the knob another"
                    " name"
                )

    def knob(self, name: str) -> KnobSpec:
        """The knob of this name; KnobError names the nearest."""
        knobs = {knob.name: knob for knob in self.knobs}
        if name not in knobs:
            close = did_you_mean(name, knobs) if knobs else "it has none"
            raise KnobError(f"{self.name}: unknown knob '{name}': {close}")
        return knobs[name]

    def check(self, name: str, value: object) -> Knob:
        """A knob's value in its type, for any shape. KnobError: it is unknown, of a wrong type or
        out of range.
        """
        return self.knob(name).check(value, self.name)

    def resolve(
        self,
        knobs: KnobPairs,
        channels: int,
        height: int,
        width: int,
        *,
        strict: bool = True,
        init: Init = "paper",
    ) -> CanonicalKnobs:
        """Canonical knobs on a map of this shape, in this form; what is not given has its default.

        Args:
            strict: for a user's text: an impossible value is an error, and a group count that does
                not divide gives a warning. Otherwise, for a search space: takes the nearest
                possible value.

        Raises:
            KnobError: unknown knob, wrong type or range, presets that contradict; strict:
                impossible on this shape.
        """
        given: dict[str, Knob] = {}
        for name, value in knobs.items() if isinstance(knobs, Mapping) else knobs:
            if name in given:
                raise KnobError(
                    f"{self.name}: {name} is given twice, as {_shown(given[name])} and as"
                    f" {_shown(value)}"
                )
            given[name] = self.check(name, value)
        for what, size in (("channels", channels), ("height", height), ("width", width)):
            if type(size) is not int or size < 1:
                raise KnobError(
                    f"{self.name}: {what}={_shown(size)} is not possible, it must be at least 1"
                )
        shape = MapShape(channels, height, width)
        fitting = Fitting(self, given, shape, strict=strict, init=init)
        self._fit(fitting)
        return tuple(
            (knob.name, fitting.values[knob.name]) for knob in self.knobs if not knob.preset
        )

    def _fit(self, fitting: Fitting) -> None:
        if self.fit is not None:
            self.fit(fitting)
            return
        for knob in self.knobs:
            if knob.fit is not None:
                knob.fit(fitting)


def largest_divisor(of: int, at_most: int) -> int:
    """The largest divisor of `of` that is not above `at_most` (at least 1)."""
    return next(d for d in range(min(of, max(at_most, 1)), 0, -1) if of % d == 0)


def hidden_width(channels: int, reduction: int, divisor: int) -> int:
    """C / reduction rounded down (`divisor` 1), or to the nearest multiple of `divisor`; never
    0.
    """
    if divisor == 1:
        return max(1, channels // reduction)
    return max(divisor, int(channels / reduction + divisor / 2) // divisor * divisor)


def hidden_knobs(channels: int, hidden: int, usual: int) -> tuple[int, int]:
    """The canonical (reduction, floor) of a hidden width: with the usual floor if possible, else 1,
    else the width itself.
    """
    for floor in (usual, 1):
        # C // hidden is the largest reduction without a floor; one more may fall below the floor,
        # and is lifted to it.
        for reduction in (max(1, channels // hidden), channels // hidden + 1):
            if max(floor, channels // reduction) == hidden:
                return reduction, floor
    return channels // hidden + 1, hidden


def _shown(value: object) -> str:
    if isinstance(value, int | float):
        return format_knob(value)
    return repr(value)

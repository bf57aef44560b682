"""A row of the catalogue: an attention module's name, class and knobs. Loads no torch until it is
asked for its class or a knob.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nas_attn.attention.choice import Init, Knob
from nas_attn.attention.fitting import Fitting, MapShape
from nas_attn.attention.knobs import SHAPED, KnobSpec, read_knobs, shown
from nas_attn.errors import KnobError, did_you_mean
from nas_attn.system.importing import load_object

if TYPE_CHECKING:
    from torch import nn

KnobPairs = Mapping[str, Knob] | Iterable[tuple[str, Knob]]


CanonicalKnobs = tuple[tuple[str, Knob], ...]
"""(name, value) of every knob, in the class' order. Equal networks have equal canonical knobs."""


@dataclass(frozen=True)
class Row:
    """An attention module of the catalogue.

    The head of its class' docstring is its title, a line `Paper:` and what `Args:` says of its
    knobs.
    """

    name: str
    path: str
    """`package.module:Class`; of this package, `.file:Class`."""
    family: str = "foreign"
    fit: Callable[[Fitting], None] | None = None
    """Makes the knobs explicit on a shape where they depend on one another; None: each knob's own
    `fit` does.
    """
    presets: tuple[KnobSpec, ...] = ()
    """Knobs that choose others, and which the class does not have."""
    control: bool = False
    """Whether it is a plain layer, not attention: a control, which a study tries at all sites."""

    def load(self) -> type[nn.Module]:
        """The class, which is imported then. KnobError: it cannot be, or is no module."""
        if self.path.startswith("."):
            file, _, name = self.path.partition(":")
            own: type[nn.Module] = getattr(importlib.import_module(file, __package__), name)
            return own
        what = "attention type"
        if self.name != self.path:
            what = f"attention type '{self.name}', entry point"
        cls = load_object(self.path, what=what, error=KnobError)
        from torch import nn

        if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
            kind = cls.__name__ if isinstance(cls, type) else type(cls).__name__
            raise KnobError(
                f"{what} '{self.path}' is not a subclass of torch.nn.Module, but {kind}"
            )
        return cls

    @property
    def class_path(self) -> str:
        """`package.module:Class`; imports the class."""
        cls = self.load()
        return f"{cls.__module__}:{cls.__qualname__}"

    @property
    def title(self) -> str:
        """The first line of the class' docstring."""
        cls = self.load()
        return inspect.cleandoc(cls.__doc__ or cls.__name__).splitlines()[0]

    @property
    def paper(self) -> str:
        """Authors, year, identifier; empty if the class names none."""
        found = re.search(r"^ *Paper: (.*)\.$", self.load().__doc__ or "", re.MULTILINE)
        return found[1] if found else ""

    @cached_property
    def knobs(self) -> tuple[KnobSpec, ...]:
        """Presets, then those of the class."""
        return (*self.presets, *read_knobs(self.name, self.load()))

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
        """Makes the knobs canonical on a map of this shape, in this form.

        Args:
            knobs: what is given; the others have their defaults.
            channels: of the map.
            height: rows of the map.
            width: columns of the map.
            strict: for a user's text: an impossible value is an error, and a group count that does
                not divide gives a warning. Otherwise, for a search space: takes the nearest
                possible value.
            init: the form of the module.

        Raises:
            KnobError: unknown knob, wrong type or range, presets that contradict; strict:
                impossible on this shape.
        """
        given: dict[str, Knob] = {}
        for name, value in knobs.items() if isinstance(knobs, Mapping) else knobs:
            if name in given:
                raise KnobError(
                    f"{self.name}: {name} is given twice, as {shown(given[name])} and as"
                    f" {shown(value)}"
                )
            given[name] = self.check(name, value)
        shape = MapShape(channels, height, width)
        for what, size in shape._asdict().items():
            if type(size) is not int or size < 1:
                raise KnobError(
                    f"{self.name}: {what}={shown(size)} is not possible, it must be at least 1"
                )
        defaults = {knob.name: knob.default for knob in self.knobs}
        fitting = Fitting(self.name, defaults, given, shape, strict=strict, init=init)
        if self.fit is not None:
            self.fit(fitting)
        else:
            for knob in self.knobs:
                if knob.limits.fit is not None:
                    knob.limits.fit(fitting, knob.name)
        if self.family == "foreign":
            self._try(fitting, shape)
        return tuple(
            (knob.name, fitting.values[knob.name]) for knob in self.knobs if not knob.preset
        )

    def arguments(
        self, knobs: Mapping[str, Knob], height: int, width: int, init: Init
    ) -> dict[str, Any]:
        """Collects what the class is called with, besides the channels.

        Args:
            knobs: canonical.
            height: rows of the map, if the class takes `height`.
            width: columns of the map, if the class takes `width`.
            init: the form, if the class takes `init`; the caller blends otherwise.
        """
        accepted = inspect.signature(self.load()).parameters
        shaped = dict(zip(SHAPED, (height, width, init), strict=True))
        return {**knobs, **{name: shaped[name] for name in SHAPED if name in accepted}}

    def _try(self, fitting: Fitting, shape: MapShape) -> None:
        """Runs another package's module on one map of zeros. KnobError: it raises, or changes the
        shape.
        """
        import torch

        from nas_attn.attention import module_cost

        arguments = self.arguments(fitting.values, shape.height, shape.width, fitting.init)
        try:
            y, _ = module_cost.run(
                lambda: self.load()(shape.channels, **arguments), shape, device="cpu"
            )
        except Exception as error:
            # whatever it raises
            reason = f"{type(error).__name__}: {error}"
            raise KnobError(
                f"{self.name} does not work on {shape.channels} channels: {reason}"
            ) from error
        expected = (1, *shape)
        given = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        if given != expected:
            raise KnobError(f"{self.name} must keep the shape {expected}, but gives {given}")

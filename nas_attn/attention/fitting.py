"""How knobs are made explicit and possible on a shape: equal networks get equal knobs. No torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from nas_attn.attention.choice import Init, Knob, format_knob
from nas_attn.errors import KnobError, NasAttnWarning


class MapShape(NamedTuple):
    """The map that a module is made for."""

    channels: int
    height: int
    width: int


class Count(NamedTuple):
    """Cost of a module at batch size 1; MACs are those of convolutions, linear layers and matrix
    products.
    """

    parameters: int
    macs: int


class Fitting:
    """Brings one module's knobs to the canonical form for one shape.

    Its methods take the nearest possible value; if `strict`, they raise KnobError for impossible
    values that the user gave.
    """

    def __init__(
        self,
        module: str,
        defaults: Mapping[str, Knob],
        given: Mapping[str, Knob],
        shape: MapShape,
        *,
        strict: bool,
        init: Init,
    ) -> None:
        """Starts from what is given and the defaults.

        Args:
            module: its name.
            defaults: of all its knobs, by name.
            given: what was asked for by name, checked.
            shape: the map.
            strict: whether an impossible value is an error.
            init: the form of the module.
        """
        self.module = module
        self.defaults = defaults
        self.given = given
        self.channels = shape.channels
        self.height = shape.height
        self.width = shape.width
        self.strict = strict
        self.init = init
        self.values: dict[str, Knob] = {**defaults, **given}
        """All knobs; becomes canonical while fitting."""

    def integer(self, name: str) -> int:
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def hidden(self, name: str = "reduction", *, smallest: int = 1) -> int:
        """Hidden width `C // reduction`, at least `smallest`; the canonical reduction is the
        largest that gives it.
        """
        channels = self.channels
        reduction = self.integer(name)
        smallest = min(smallest, channels)
        largest = channels // smallest
        if reduction > largest:
            self.refuse(
                name,
                f"leaves less than {smallest} of {channels} channels, the largest possible is"
                f" {largest}",
            )
        hidden = channels // min(reduction, largest)
        self.values[name] = channels // hidden
        return hidden

    def odd(self, name: str, *, largest: int | None = None) -> int:
        """An odd kernel size, at most `largest` (odd); an even one becomes the next."""
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

    def neighbours(self, name: str) -> None:
        """An odd number of neighbouring channels; `auto` by ECA's rule: |(log2 C + 1) / 2|, an odd
        integer.
        """
        if self.values[name] == "auto":
            size = int((math.log2(self.channels) + 1) / 2)
            self.values[name] = size if size % 2 else size + 1
        self.odd(name, largest=min(2 * self.channels - 1, 63))

    def divisor(
        self,
        name: str,
        of: int | None = None,
        what: str = "channels",
        *,
        largest: int | None = None,
    ) -> int:
        """A number of groups or heads: the largest divisor of `of` (the channels) not above it.

        Args:
            name: the knob; if strict and given, another value is a warning.
            of: what is divided; None: the channels.
            what: `of` in words.
            largest: the number of groups is at most this, too.
        """
        asked = self.integer(name)
        of = of or self.channels
        taken = largest_divisor(of, asked if largest is None else min(asked, largest))
        if taken != asked and self.strict and name in self.given:
            self.warn(f"{name}={asked} does not divide {of} {what}: {name}={taken} was taken")
        self.values[name] = taken
        return taken

    def within_map(self, name: str) -> None:
        """A side of windows or cells, at most the map's longer one."""
        self.values[name] = min(self.integer(name), max(self.height, self.width))

    def ignore(self, *names: str) -> None:
        """Resets knobs without effect here to their defaults, so that equal networks stay equal."""
        for name in names:
            self.values[name] = self.defaults[name]

    def refuse(self, name: str, why: str) -> None:
        """Raises KnobError if strict and the user gave this knob."""
        if self.strict and name in self.given:
            raise KnobError(f"{self.module}: {name}={format_knob(self.given[name])} {why}")

    def warn(self, what: str) -> None:
        warnings.warn(f"{self.module}: {what}", NasAttnWarning, stacklevel=5)


def largest_divisor(of: int, at_most: int) -> int:
    """The largest divisor of `of` that is not above `at_most` (at least 1)."""
    return next(d for d in range(min(of, max(at_most, 1)), 0, -1) if of % d == 0)


COORDINATE_HIDDEN = 8
"""Least hidden width of coordinate attention, as in its paper."""
SELECTIVE_HIDDEN = 32
"""Least hidden width of selective kernels, as in their paper."""


# -------------------------------------------------------------------------------------------
# modules whose knobs depend on one another


def gc(fitting: Fitting) -> None:
    """`auto` is the paper's 16, or less where that leaves fewer than 4 hidden values for the layer
    norm: of two it gives only which is larger, and trainings fail (research/notes/training.md).
    """
    if fitting.values["reduction"] == "auto":
        fitting.values["reduction"] = min(16, max(1, fitting.channels // 4))
    # of a single hidden value, the layer norm would be a constant
    fitting.hidden(smallest=2)


def gam(fitting: Fitting) -> None:
    common = math.gcd(fitting.channels, fitting.hidden())
    fitting.divisor("groups", common, "channels and hidden channels")


def shuffle(fitting: Fitting) -> None:
    """Each group has two halves; an odd number of channels has groups with unequal ones."""
    channels = fitting.channels
    if channels % 2 == 0:
        fitting.divisor("groups", channels // 2, "pairs of channels")
    else:
        fitting.divisor("groups", largest=max(1, channels // 2))


def sge(fitting: Fitting) -> None:
    """`auto` is the paper's 64, or as many as leave two channels each: of a single channel, the
    statistic changes its sign with the channel's mean, and trainings collapse.
    """
    if fitting.values["groups"] == "auto":
        most = min(64, fitting.channels // 2)
        fitting.values["groups"] = largest_divisor(fitting.channels, most)
    fitting.divisor("groups")


def ge(fitting: Fitting) -> None:
    if fitting.values["mlp"]:
        fitting.hidden()
    else:
        fitting.ignore("reduction")


def sk(fitting: Fitting) -> None:
    _floored(fitting, SELECTIVE_HIDDEN)
    fitting.divisor("groups")


def coord(fitting: Fitting) -> None:
    channels = fitting.channels
    if fitting.integer("reduction") > channels:
        fitting.refuse(
            "reduction", f"is more than the {channels} channels, the largest possible is {channels}"
        )
    _floored(fitting, COORDINATE_HIDDEN)


def _floored(fitting: Fitting, floor: int) -> None:
    """A hidden width of at least `floor`; the canonical reduction is the largest that gives it
    without the floor's help, if there is one.
    """
    channels = fitting.channels
    hidden = max(floor, channels // fitting.integer("reduction"))
    # one more may fall below the floor, and is lifted to it
    largest = max(1, channels // hidden)
    fitting.values["reduction"] = next(
        reduction
        for reduction in (largest, largest + 1)
        if max(floor, channels // reduction) == hidden
    )


ELA_VARIANTS = {"T": (5, 1, 32), "B": (7, 1, 16), "S": (5, 8, 16), "L": (7, 8, 16)}
"""ELA's published sizes: kernel, channels per convolution group, groups of the normalisation."""


def ela(fitting: Fitting) -> None:
    size, width, norm_groups = ELA_VARIANTS[str(fitting.values["variant"])]
    groups = max(1, fitting.channels // width)
    _preset(fitting, "kernel_size", size, size)
    _preset(fitting, "groups", groups, largest_divisor(fitting.channels, groups))
    _preset(fitting, "norm_groups", norm_groups, largest_divisor(fitting.channels, norm_groups))
    fitting.odd("kernel_size")
    fitting.divisor("groups")
    fitting.divisor("norm_groups")


def _preset(fitting: Fitting, name: str, published: int, fitted: int) -> None:
    """Uses the variant's size, as far as it fits, for a knob that is not given."""
    variant = fitting.values["variant"]
    asked = fitting.given.get(name, "auto")
    if asked == "auto":
        fitting.values[name] = fitted
        if fitted != published and fitting.strict and "variant" in fitting.given:
            fitting.warn(
                f"variant={variant} has {name}={published}, which does not divide"
                f" {fitting.channels} channels: {fitted} was taken"
            )
    elif "variant" in fitting.given and asked not in (published, fitted):
        means = f"variant={variant} means {name}={fitted} on {fitting.channels} channels"
        raise KnobError(
            f"ela: {means}, and {name}={format_knob(asked)} contradicts it: leave one out"
        )


def c2psa(fitting: Fitting) -> None:
    """Heads of 64 channels by itself; of `reduction`, the largest with the same width of a head's
    keys.
    """
    width = _head_width(fitting, usual=64)
    key_width = max(1, width // fitting.integer("reduction"))
    fitting.values["reduction"] = width // key_width


def area(fitting: Fitting) -> None:
    """Heads of 32 channels by itself; the fewest areas of the same length."""
    _head_width(fitting, usual=32)
    pixels = fitting.height * fitting.width
    length = -(-pixels // fitting.integer("areas"))
    fitting.values["areas"] = -(-pixels // length)


def _head_width(fitting: Fitting, usual: int) -> int:
    """Channels of a head, `usual` where their number is `auto`."""
    if fitting.values["heads"] == "auto":
        fitting.values["heads"] = max(1, fitting.channels // usual)
    return fitting.channels // fitting.divisor("heads")

"""Rows of the modules in `direction.py`. No torch."""

from __future__ import annotations

from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.choice import format_knob
from nas_attn.attention.row import Fitting, KnobSpec, Row, hidden_knobs, largest_divisor
from nas_attn.errors import KnobError


def _coord(fitting: Fitting) -> None:
    channels = fitting.channels
    asked = fitting.integer("reduction")
    if asked > channels:
        fitting.refuse(
            "reduction", f"is more than the {channels} channels, the largest possible is {channels}"
        )
    hidden = max(fitting.integer("min_hidden"), channels // asked)
    reduction_taken, floor = hidden_knobs(channels, hidden, 8)
    fitting.values["reduction"] = reduction_taken
    fitting.values["min_hidden"] = floor


VARIANTS = {"T": (5, 1, 32), "B": (7, 1, 16), "S": (5, 8, 16), "L": (7, 8, 16)}
"""ELA's published sizes: kernel, channels per convolution group, groups of the normalisation."""


def _ela(fitting: Fitting) -> None:
    size, width, norm_groups = VARIANTS[str(fitting.values["variant"])]
    groups = max(1, fitting.channels // width)
    _preset(fitting, "kernel_size", size, size)
    _preset(fitting, "groups", groups, largest_divisor(fitting.channels, groups))
    _preset(fitting, "norm_groups", norm_groups, largest_divisor(fitting.channels, norm_groups))
    fitting.odd("kernel_size")
    fitting.divisor("groups", fitting.channels)
    fitting.divisor("norm_groups", fitting.channels)


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


def _direction() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import direction

    return direction


ROWS = (
    Row(
        "coord",
        lambda: _direction().CoordinateAttention,
        "Coordinate attention",
        "Hou et al. 2021, arXiv:2103.02907",
        "direction",
        (
            knobs.reduction(32),
            KnobSpec("min_hidden", int, 8, "the hidden width is at least this", low=1, high=4096),
        ),
        fit=_coord,
    ),
    Row(
        "ela",
        lambda: _direction().EfficientLocalAttention,
        "Efficient local attention",
        "Xu and Wan 2024, arXiv:2403.01123",
        "direction",
        (
            KnobSpec(
                "variant",
                str,
                "B",
                "the paper's sizes for auto knobs",
                choices=tuple(VARIANTS),
                preset=True,
            ),
            KnobSpec(
                "kernel_size",
                int,
                "auto",
                "odd length of the convolutions",
                low=1,
                high=63,
                auto=True,
            ),
            KnobSpec(
                "groups",
                int,
                "auto",
                "groups of the convolution",
                low=1,
                high=knobs.WIDEST_MAP,
                auto=True,
            ),
            KnobSpec(
                "norm_groups",
                int,
                "auto",
                "groups of the group normalisation",
                low=1,
                high=knobs.WIDEST_MAP,
                auto=True,
            ),
            knobs.switch(
                "shared",
                True,
                "one convolution and norm for both directions, as in all copies (paper: two)",
            ),
            knobs.choice("activation", "before the sigmoid (timm: silu)", "none", "silu"),
        ),
        fit=_ela,
    ),
    Row(
        "scsa",
        lambda: _direction().SynergisticAttention,
        "Spatial and channel synergistic attention",
        "Si et al. 2025, arXiv:2407.05128",
        "direction",
        (
            knobs.divisor("heads", 8, "heads in which channels attend to channels", high=4096),
            KnobSpec(
                "window_size",
                int,
                7,
                "side of the windows whose means they are compared by",
                low=1,
                high=64,
                fit=lambda fitting: fitting.at_most(
                    "window_size", max(fitting.height, fitting.width)
                ),
            ),
            knobs.divisor("groups", 4, "groups of channels with strips of 3, 5, 7 and 9", high=4),
        ),
    ),
)

"""Modules with one gate along the height and one along the width."""

from __future__ import annotations

from functools import partial

from nas_attn.attention.row import Count, Fitting, KnobSpec, Row, hidden_knobs, largest_divisor
from nas_attn.errors import KnobError
from nas_attn.records import format_knob


def _fit_coord(f: Fitting) -> Count:
    channels, reduction, floor = f.channels, f.integer("reduction"), f.integer("min_hidden")
    if reduction > channels:
        f.refuse("reduction", f"is more than the {channels} channels, the largest possible is {channels}")
    hidden = max(floor, channels // reduction)
    f.values["reduction"], f.values["min_hidden"] = hidden_knobs(channels, hidden, 8)
    macs = (channels * hidden) * (f.height + f.width) * 2
    return Count(3 * channels * hidden + 3 * hidden + 2 * channels, macs)


VARIANTS = {"T": (5, 1, 32), "B": (7, 1, 16), "S": (5, 8, 16), "L": (7, 8, 16)}
"""ELA's published sizes: kernel, channels per convolution group, groups of the normalisation."""


def _fit_ela(f: Fitting) -> Count:
    _expand_variant(f)
    channels, size = f.channels, f.odd("kernel_size")
    groups = f.divisor("groups", channels)
    f.divisor("norm_groups", channels)
    weights = channels * (channels // groups) * size
    copies = 1 if f.values["shared"] else 2
    return Count(copies * (weights + 2 * channels), weights * (f.height + f.width))


def _expand_variant(f: Fitting) -> None:
    """Put the variant's sizes where none are given.

    Raises:
        KnobError: a variant and another size were both asked for.
    """
    variant = str(f.values["variant"])
    size, width, norm = VARIANTS[variant]
    for name, preset in (("kernel_size", size), ("groups", max(1, f.channels // width)), ("norm_groups", norm)):
        fitted = preset if name == "kernel_size" else largest_divisor(f.channels, preset)
        asked = f.given.get(name, "auto")
        if asked == "auto":
            f.values[name] = fitted
            if fitted != preset and f.strict and "variant" in f.given:
                f.warn(
                    f"variant={variant} has {name}={preset}, which does not divide {f.channels} channels: {fitted} was taken"
                )
        elif "variant" in f.given and asked not in (preset, fitted):
            raise KnobError(
                f"ela: variant={variant} means {name}={fitted} on {f.channels} channels, "
                f"and {name}={format_knob(asked)} says another: leave one out"
            )


def _fit_scsa(f: Fitting) -> Count:
    channels, width = f.channels, f.channels // f.divisor("heads", f.channels)
    groups = f.divisor("groups", channels)
    side = f.values["window_size"] = min(f.integer("window_size"), max(f.height, f.width))
    windows = (f.height // min(side, f.height)) * (f.width // min(side, f.width))
    taps = channels // groups * sum((3, 5, 7, 9)[:groups])
    macs = taps * (f.height + f.width) + (3 + width) * channels * windows + channels * width
    return Count(taps + 10 * channels, macs)


_row = partial(Row, family="direction")

ROWS = (
    _row(
        name="coord",
        target="nas_attn.attention.coord:CoordinateAttention",
        title="Coordinate attention",
        paper="Hou et al. 2021, arXiv:2103.02907",
        fit=_fit_coord,
        knobs=(
            KnobSpec("reduction", int, 32, "channels divided by the hidden width", low=1, high=4096),
            KnobSpec("min_hidden", int, 8, "the hidden width is at least this", low=1, high=4096),
        ),
    ),
    _row(
        name="ela",
        target="nas_attn.attention.coord:EfficientLocalAttention",
        title="Efficient local attention",
        paper="Xu and Wan 2024, arXiv:2403.01123",
        fit=_fit_ela,
        knobs=(
            KnobSpec("variant", str, "B", "the paper's sizes for auto knobs", choices=tuple(VARIANTS), preset=True),
            KnobSpec("kernel_size", int, "auto", "odd length of the convolutions", low=1, high=63, auto=True),
            KnobSpec("groups", int, "auto", "groups of the convolution", low=1, high=65536, auto=True),
            KnobSpec("norm_groups", int, "auto", "groups of the group normalisation", low=1, high=65536, auto=True),
            KnobSpec(
                "shared", bool, True, "one convolution and norm for both directions, as in all copies (paper: two)"
            ),
            KnobSpec("activation", str, "none", "before the sigmoid (timm: silu)", choices=("none", "silu")),
        ),
    ),
    _row(
        name="scsa",
        target="nas_attn.attention.scsa:SynergisticAttention",
        title="Spatial and channel synergistic attention",
        paper="Si et al. 2025, arXiv:2407.05128",
        fit=_fit_scsa,
        knobs=(
            KnobSpec("heads", int, 8, "heads in which channels attend to channels", low=1, high=4096),
            KnobSpec("window_size", int, 7, "side of the windows whose means they are compared by", low=1, high=64),
            KnobSpec("groups", int, 4, "groups of channels with strips of 3, 5, 7 and 9", low=1, high=4),
        ),
    ),
)

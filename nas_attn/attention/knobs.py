"""Knobs that several modules have: what they are, and how they are made possible on a shape. No
torch.
"""

from __future__ import annotations

from nas_attn.attention.row import KnobSpec

WIDEST_MAP = 65536
"""Channels of the widest map that anybody asked for, so also its groups."""


def reduction(default: int = 16, doc: str = "channels divided by the hidden width") -> KnobSpec:
    """The hidden width `C // reduction` is at least 1; equal widths are one reduction."""
    return KnobSpec(
        "reduction",
        int,
        default,
        doc,
        low=1,
        high=4096,
        fit=lambda fitting: fitting.hidden(),
    )


def odd(name: str, default: int, doc: str, *, high: int = 31) -> KnobSpec:
    """A length or a side with a middle: an even one becomes the next."""
    return KnobSpec(
        name, int, default, doc, low=1, high=high, fit=lambda fitting: fitting.odd(name)
    )


def divisor(name: str, default: int, doc: str, *, high: int = WIDEST_MAP) -> KnobSpec:
    """A number of groups or heads: the largest divisor of the channels not above it."""
    return KnobSpec(
        name,
        int,
        default,
        doc,
        low=1,
        high=high,
        fit=lambda fitting: fitting.divisor(name, fitting.channels),
    )


def choice(name: str, doc: str, *choices: str) -> KnobSpec:
    """One of some words, the first by default."""
    return KnobSpec(name, str, choices[0], doc, choices=choices)


def switch(name: str, default: bool, doc: str) -> KnobSpec:
    """True or false."""
    return KnobSpec(name, bool, default, doc)

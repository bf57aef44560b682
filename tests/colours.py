"""How colours look: contrast, and what is left of it for the colour-blind."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WITHOUT_COLOURS: Mapping[str, Floats] = {
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
"""Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision
Deficiency, IEEE TVCG 15(6), 2009: severity 1.0, applied to linear RGB.
"""
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def rgb(colour: str) -> Floats:
    """`#1f77d0` as three shares."""
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255


def laid_over(colour: str, ground: Floats) -> Floats:
    """`rgba(1,2,3,0.5)` over a ground."""
    red, green, blue, alpha = (float(part) for part in re.findall(r"[\d.]+", colour))
    return alpha * np.array([red, green, blue]) / 255 + (1 - alpha) * ground


def linear(shares: Floats) -> Floats:
    """sRGB without its gamma."""
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def contrast(one: Floats, other: Floats) -> float:
    """As WCAG 2 measures it: 1 to 21."""
    dark, light = sorted(float(_XYZ[1] @ linear(shares)) for shares in (one, other))
    return (light + 0.05) / (dark + 0.05)


def difference(seen: Floats, one: str, other: str) -> float:
    """Distance in CIELAB of two colours as someone sees them."""
    return float(np.linalg.norm(_lab(seen, one) - _lab(seen, other)))


def _lab(seen: Floats, colour: str) -> Floats:
    xyz = _XYZ @ np.clip(seen @ linear(rgb(colour)), 0, 1) / _WHITE
    steep = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * steep[1] - 16, 500 * (steep[0] - steep[1]), 200 * (steep[1] - steep[2])])

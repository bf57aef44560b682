"""The figure of the trial: gains of all modules in both places, a panel for each problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from research.drawing import AXIS, BLUE, GREEN, GRID, ORANGE, dot, head, stroke, text
from research.means import Mean
from research.trial.gains import COLLAPSED, MEAN, PLACE, SUMMED, WIDER, Trial
from research.trial.table import LAST, MODULES, WIDTHS, everywhere

NAMES = 84
"""Pixels of the modules' names, left of the panels."""
PANEL = 128
GAP = 16
TOP = 54
ROW = 15
BOTTOM = 44
ASIDE = 3
"""Pixels between the two places of a module."""
TICKS = 4
UNKNOWN = "not known yet"
TITLES = {"transfer": "transfer (fine-tuned)", MEAN: "mean of the four"}
KINDS = {"every stage": BLUE, "last stage": ORANGE, "larger network": GREEN}


@dataclass(frozen=True)
class Panel:
    """Where a problem's gains are drawn."""

    left: float
    low: float
    """Points at its left end."""
    high: float

    def x(self, points: float) -> float:
        """Pixels; what lies beyond an end is drawn at it."""
        share = (points - self.low) / (self.high - self.low)
        return self.left + PANEL * min(max(share, 0.0), 1.0)


@dataclass(frozen=True)
class Drawn:
    """A gain in a panel."""

    row: str
    """The module, or the larger network."""
    y: float
    colour: str
    gain: Mean


def figure(trial: Trial) -> str:
    """An SVG; a panel without gains says that they are not known yet."""
    names = rows(trial)
    height = TOP + ROW * len(names) + BOTTOM
    width = NAMES + len(SUMMED) * (PANEL + GAP)
    lines = [head(width, height, 11), *_legend()]
    for number, name in enumerate(names):
        lines.append(text(NAMES - 8, _y(number) + 4, name, "end"))
    for number, problem in enumerate(SUMMED):
        left = NAMES + number * (PANEL + GAP)
        lines.append(text(left + PANEL / 2, TOP - 10, TITLES.get(problem, problem), "middle"))
        lines += _panel(trial, problem, names, left)
    said = "points of accuracy against the bare backbone, 95 %"
    lines.append(text(NAMES + (width - NAMES) / 2, height - 6, said, "middle"))
    return "\n".join([*lines, "</svg>", ""])


def rows(trial: Trial) -> list[str]:
    """Larger networks, then modules, those with the largest mean gain first."""

    def order(module: str) -> float:
        gains = [trial.gain(MEAN, network) for network in _networks(module)]
        known = [gain.mean for gain in gains if gain is not None]
        return -max(known, default=-math.inf)

    return [*(f"{width} channels" for width in WIDTHS), *sorted(MODULES, key=order)]


def _networks(module: str) -> dict[str, str]:
    """Network -> colour, of the places in which a module is tried."""
    both = {everywhere(module): KINDS["every stage"], f"{LAST}={module}": KINDS["last stage"]}
    return {network: colour for network, colour in both.items() if network in PLACE}


def _y(row: float) -> float:
    return TOP + ROW * (row + 0.5)


def _legend() -> Iterator[str]:
    for number, (kind, colour) in enumerate(KINDS.items()):
        left = NAMES + 130 * number
        yield dot(left, 16, colour, 3.5)
        yield text(left + 9, 20, kind)


def _drawn(trial: Trial, problem: str, names: list[str]) -> list[Drawn]:
    found: list[Drawn] = []
    for number, name in enumerate(names):
        if number < len(WIDER):
            networks = {WIDER[number]: KINDS["larger network"]}
            asides = [0.0]
        else:
            networks = _networks(name)
            asides = [-ASIDE, ASIDE] if len(networks) > 1 else [ASIDE]
        for aside, (network, colour) in zip(asides, networks.items(), strict=True):
            gain = trial.gain(problem, network)
            if gain is not None:
                found.append(Drawn(name, _y(number) + aside, colour, gain))
    return found


def _panel(trial: Trial, problem: str, names: list[str], left: float) -> Iterator[str]:
    bottom = _y(len(names) - 0.5)
    drawn = _drawn(trial, problem, names)
    if not drawn:
        yield stroke(left + PANEL / 2, TOP, left + PANEL / 2, bottom, GRID)
        yield text(left + PANEL / 2, (TOP + bottom) / 2, UNKNOWN, "middle")
        return
    low, high = _ends([one.gain for one in drawn if one.row != COLLAPSED])
    panel = Panel(left, low, high)
    step = max(1, math.ceil((high - low) / TICKS))
    for tick in range(-step * (-low // step), high + 1, step):
        style = GRID if tick else AXIS
        yield stroke(panel.x(tick), TOP, panel.x(tick), bottom, style)
        yield text(panel.x(tick), bottom + 14, str(tick), "middle")
    for one in drawn:
        yield dot(panel.x(one.gain.mean), one.y, one.colour, 2.4)
        if one.gain.mean >= low:
            style = f'stroke="{one.colour}" stroke-width="1.2"'
            start = panel.x(one.gain.mean - one.gain.half)
            end = panel.x(one.gain.mean + one.gain.half)
            yield stroke(start, one.y, end, one.y, style)
    yield from _beyond([one for one in drawn if one.gain.mean < low], left)


def _beyond(drawn: list[Drawn], left: float) -> Iterator[str]:
    """The figures of the module whose dots stand at the left end."""
    if drawn:
        said = ", ".join(f"{one.gain.mean:.0f}" for one in drawn)
        middle = float(np.mean([one.y for one in drawn]))
        yield text(left + 8, middle + 4, said)


def _ends(gains: list[Mean]) -> tuple[int, int]:
    """Whole points with these means between them, zero, and what is usual of the intervals."""
    middle = [gain.mean for gain in gains]
    usual = float(np.median([gain.half for gain in gains]))
    spread = max(middle) - min(middle) + 1
    margin = min(usual, spread)
    return math.floor(min(0.0, *middle) - margin), math.ceil(max(0.0, *middle) + margin)

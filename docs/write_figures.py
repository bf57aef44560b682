"""Draws the figures of docs/benchmarks from the tables in docs/benchmarks/data.

python docs/write_figures.py
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parent
DATA = DOCS / "benchmarks" / "data"
PICTURES = DOCS / "pictures"

SIDE = 360
"""Pixels of the square between the axes."""
LEFT, TOP, RIGHT, BOTTOM = 56, 16, 150, 44
COLOURS = {"fine-tuning": "#2f81d6", "from scratch": "#e08a00"}
"""Colour-blind people can tell blue from orange."""


@dataclass(frozen=True)
class Share:
    """How often it is true what was stated with a probability."""

    group: str
    stated: float
    true: float
    error: float
    """Standard error of `true`."""


def shares() -> list[Share]:
    """The table of the kinds of study that were thought up after the model."""
    with (DATA / "trust-later.csv").open(encoding="utf-8", newline="") as file:
        return [
            Share(row["training"], *(float(row[name]) for name in ("stated", "true", "error")))
            for row in csv.DictReader(file)
        ]


def reliability() -> str:
    """An SVG of stated probabilities against true shares, in percent."""
    return "\n".join([*_frame(), *_points(shares()), *_legend(), "</svg>", ""])


def _x(percent: float) -> float:
    return LEFT + SIDE * percent / 100


def _y(percent: float) -> float:
    return TOP + SIDE * (1 - percent / 100)


def _frame() -> Iterator[str]:
    width, height = LEFT + SIDE + RIGHT, TOP + SIDE + BOTTOM
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        ' font-family="system-ui, sans-serif" font-size="13" fill="#7d8590">'
    )
    for percent in range(0, 101, 20):
        x, y = _x(percent), _y(percent)
        yield _line(x, _y(0), x, _y(100), 'stroke="#8a919c" stroke-opacity="0.2"')
        yield _line(_x(0), y, _x(100), y, 'stroke="#8a919c" stroke-opacity="0.2"')
        yield f'<text x="{x:.0f}" y="{_y(0) + 18:.0f}" text-anchor="middle">{percent}</text>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{percent}</text>'
    yield _line(_x(0), _y(0), _x(100), _y(100), 'stroke="#8a919c" stroke-dasharray="4 4"')
    yield f'<text x="{_x(50):.0f}" y="{height - 6}" text-anchor="middle">stated, %</text>'
    middle = f"{_y(50):.0f}"
    turned = f"translate(14 {middle}) rotate(-90)"
    yield f'<text transform="{turned}" text-anchor="middle">true, %</text>'


def _points(found: list[Share]) -> Iterator[str]:
    for share in found:
        colour = COLOURS[share.group]
        x = _x(share.stated)
        low, high = max(share.true - 2 * share.error, 0), min(share.true + 2 * share.error, 100)
        yield _line(x, _y(low), x, _y(high), f'stroke="{colour}" stroke-width="1.5"')
        yield f'<circle cx="{x:.1f}" cy="{_y(share.true):.1f}" r="4" fill="{colour}"/>'


def _legend() -> Iterator[str]:
    for number, (group, colour) in enumerate(COLOURS.items()):
        y = TOP + 14 + 22 * number
        yield f'<circle cx="{LEFT + SIDE + 18}" cy="{y}" r="4" fill="{colour}"/>'
        yield f'<text x="{LEFT + SIDE + 30}" y="{y + 4}">{group}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


FIGURES = {"trust-reliability.svg": reliability}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (PICTURES / name).write_text(draw(), "utf-8")

"""Strokes, dots and texts of the experiments' figures, in colours for light and dark pages."""

from __future__ import annotations

BLUE = "#2f81d6"
ORANGE = "#e08a00"
"""Colour-blind people can tell it from blue."""
GREEN = "#009e73"
AXIS = 'stroke="#8a919c"'
GRID = 'stroke="#8a919c" stroke-opacity="0.2"'


def head(width: int, height: int, size: int = 13) -> str:
    """The first line of an SVG, whose text has this size in pixels."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" font-family="system-ui, sans-serif" font-size="{size}"'
        ' fill="#7d8590">'
    )


def stroke(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """`anchor`: what of the words is at x: `start`, `middle` or `end`."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'


def dot(x: float, y: float, colour: str, radius: float = 4) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>'

"""The sites of a network as table rows and as a page: text only, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log2

from nas_attn.records import Site

COLUMNS = ("site", "position", "modules", "channels", "map", "MACs")
"""Headings of `rows`, where all is backbone."""


def columns(sites: Sequence[Site]) -> tuple[str, ...]:
    """Headings of `rows`: with the part of the network, where it has several."""
    return (COLUMNS[0], "part", *COLUMNS[1:]) if _has_parts(sites) else COLUMNS


def _has_parts(sites: Sequence[Site]) -> bool:
    return any(site.role != "backbone" for site in sites)


def rows(sites: Sequence[Site]) -> list[tuple[str, ...]]:
    """One row per site and position, as text under `columns`; a site's name, part and share stand in its first row only."""
    table: list[tuple[str, ...]] = []
    parts = _has_parts(sites)
    for site in sites:
        for i, (position, points) in enumerate(site.points):
            point = points[0]
            default = " (default)" if position == site.default_position and len(site.points) > 1 else ""
            table.append(
                (
                    site.name if i == 0 else "",
                    *([site.role if i == 0 else ""] if parts else []),
                    position + default,
                    _paths([p.path for p in points]),
                    str(point.channels),
                    f"{point.height}x{point.width}",
                    f"{100 * site.macs_share:.1f} %" if i == 0 else "",
                )
            )
    return table


def records(sites: Sequence[Site]) -> list[dict[str, object]]:
    """The same for machines: one entry per site, its positions with all module paths."""
    return [
        {
            "site": site.name,
            "role": site.role,
            "faint": site.faint,
            "macs_share": site.macs_share,
            "default_position": site.default_position,
            "positions": {
                position: {
                    "paths": [point.path for point in points],
                    "channels": points[0].channels,
                    "height": points[0].height,
                    "width": points[0].width,
                }
                for position, points in site.points
            },
        }
        for site in sites
    ]


def _paths(paths: list[str]) -> str:
    """`layer1.0.bn2 … layer1.2.bn2 (3)`."""
    if len(paths) == 1:
        return paths[0]
    return f"{paths[0]} {'…' if len(paths) > 2 else 'and'} {paths[-1]} ({len(paths)})"


# ------------------------------------------------------------------------------------------- page

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; text-anchor: middle; }
.map { fill: #4c78a8; fill-opacity: .25; stroke: #4c78a8; }
.block { fill: #4c78a8; }
.flow { stroke: currentColor; stroke-opacity: .5; fill: none; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""

_WIDTH, _HEIGHT, _GAP = 960, 240, 28
_LETTER = 8
"""Width of a letter in a name, with some room."""


def page(sites: Sequence[Site], *, title: str) -> str:
    """A self-contained HTML page: the sites drawn to scale over their table; of stages and their blocks, the stages.

    A column is as wide as its share of the MACs and as high as the side of its map (logarithmic); each bar in it is one
    module that the default position attaches to.
    """
    drawn = [site for site in sites if "." not in site.name] or sites
    head = "".join(f"<th>{escape(name)}</th>" for name in columns(sites))
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="number">{escape(cell)}</td>'
            if name in ("channels", "map", "MACs")
            else f"<td>{_cell(name, cell)}</td>"
            for name, cell in zip(columns(sites), row, strict=True)
        )
        + "</tr>"
        for row in rows(sites)
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(title)}</h1>{svg(drawn)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></body></html>"
    )


def _cell(name: str, cell: str) -> str:
    return f"<code>{escape(cell)}</code>" if name in ("site", "modules") else escape(cell)


def svg(sites: Sequence[Site]) -> str:
    """The drawing alone."""
    if not sites:
        return ""
    shares = [site.macs_share + 0.03 for site in sites]
    room = _WIDTH - _GAP * (len(sites) + 1)
    if room < 8 * len(sites):
        shares, room = [1.0] * len(sites), 8 * len(sites)
    sides = [site.points[0][1][0].height for site in sites]
    tallest = log2(1 + max(sides))
    x, parts = float(_GAP), []
    for site, share, side in zip(sites, shares, sides, strict=True):
        width = room * share / sum(shares)
        height = _HEIGHT * log2(1 + side) / tallest
        beside = max(0.0, _LETTER * len(site.name) - width - _GAP) / 2  # names must not run into each other
        parts.append(_column(site, x + beside, width, height))
        x += width + _GAP + 2 * beside
    total = max(x, float(_WIDTH))
    middle = 20 + _HEIGHT / 2
    line = f'<path class="flow" d="M0 {middle:.0f}H{total:.0f}"/>'
    return f'<svg viewBox="0 0 {total:.0f} {_HEIGHT + 60}" role="img" aria-label="sites">{line}{"".join(parts)}</svg>'


def _column(site: Site, x: float, width: float, height: float) -> str:
    points = site.at(site.default_position)
    top, centre = 20 + (_HEIGHT - height) / 2, x + width / 2
    pitch = width / len(points)
    bars = "".join(
        f'<rect class="block" x="{x + pitch * (i + 0.35):.1f}" y="{top + height * 0.2:.1f}" width="{pitch * 0.3:.1f}" '
        f'height="{height * 0.6:.1f}"><title>{escape(point.path)}</title></rect>'
        for i, point in enumerate(points)
    )
    shape = f"{points[0].channels}x{points[0].height}x{points[0].width}"
    return (
        f'<g><rect class="map" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>{bars}'
        f'<text x="{centre:.1f}" y="14">{escape(site.name)}</text>'
        f'<text x="{centre:.1f}" y="{_HEIGHT + 38}">{shape}</text>'
        f'<text x="{centre:.1f}" y="{_HEIGHT + 54}">{100 * site.macs_share:.0f} % MACs</text></g>'
    )

"""Draws the figures of docs/benchmarks from the tables in docs/benchmarks/data, and where modules
go in a block.

python docs/write_figures.py
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
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


@dataclass(frozen=True)
class Problem:
    """A problem on which samplers were compared."""

    table: str
    """File in docs/benchmarks/data."""
    name: str
    """What the table calls it."""
    title: str


PROBLEMS = (
    Problem("search.csv", "nb201 0.5", "NAS-Bench-201, much noise"),
    Problem("search.csv", "nb201 1", "NAS-Bench-201, less noise"),
    Problem("search.csv", "nb201 3", "NAS-Bench-201, little noise"),
    Problem("search.csv", "relabelled 1", "choices permuted"),
    Problem("search.csv", "shared 0.5", "effects shared by sites"),
    Problem("search.csv", "unshared 0.5", "effects of each site"),
    Problem("search.csv", "imagenet", "ImageNet, SE on or off"),
    Problem("search.csv", "fashion-mnist", "Fashion-MNIST"),
    Problem("search.csv", "sparse 1", "one choice matters"),
    Problem("search.csv", "pairs 1", "pairs"),
    Problem("search-later.csv", "count 1", "number of modules"),
    Problem("search-later.csv", "heavy 1", "heavy tails"),
)
SAMPLERS = {"ours": "#2f81d6", "TPE": "#e08a00", "NSGA-II": "#009e73", "random": "#7d8590"}
BUDGETS = (30, 60, 120)
"""Numbers of runs; each is as far from the next, since it is half of it."""
HIGHEST = 1.2
"""Regret at the upper end of a panel."""
COLUMNS = 4
STEP, TALL = 46, 120
"""Pixels between two budgets, and from regret 0 to `HIGHEST`."""
CELL_WIDTH, CELL_HEIGHT = 186, 172
MARGIN, CAPTION = 34, 26
"""Pixels left of a panel for its scale, and above it for its title."""
DODGE = 3
"""Pixels between the bars of two samplers with the same budget."""
LABEL = 12
"""Least distance in pixels between two labels."""


@dataclass(frozen=True)
class Regret:
    """What a sampler's front lacks on average over searches."""

    runs: int
    mean: float
    error: float
    """Standard error of `mean`."""


@dataclass(frozen=True)
class Panel:
    """Where one problem's curves are drawn."""

    left: int
    """Pixels of the first budget."""
    bottom: int
    """Pixels of regret 0."""

    def x(self, runs: int) -> float:
        return self.left + STEP * BUDGETS.index(runs)

    def y(self, regret: float) -> float:
        return self.bottom - TALL * regret / HIGHEST


def regrets(problem: Problem) -> dict[str, list[Regret]]:
    """Each sampler's regret by number of runs."""
    curves: dict[str, list[Regret]] = {sampler: [] for sampler in SAMPLERS}
    with (DATA / problem.table).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["problem"] != problem.name:
                continue
            for sampler, curve in curves.items():
                mean, _, error = row[sampler].partition(" ± ")
                curve.append(Regret(int(row["runs"]), float(mean), float(error)))
    return curves


def regret() -> str:
    """An SVG of regret against the number of runs: a panel a problem, a line a sampler."""
    rows = -(-len(PROBLEMS) // COLUMNS)
    width = COLUMNS * CELL_WIDTH + MARGIN
    height = rows * CELL_HEIGHT + CAPTION
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        ' font-family="system-ui, sans-serif" font-size="11" fill="#7d8590">'
    )
    lines = [head]
    for number, problem in enumerate(PROBLEMS):
        row, column = divmod(number, COLUMNS)
        panel = Panel(
            left=column * CELL_WIDTH + MARGIN + 8, bottom=row * CELL_HEIGHT + CAPTION + TALL
        )
        curves = regrets(problem)
        lines += _scale(panel, problem)
        for place, (sampler, curve) in enumerate(curves.items()):
            lines += _curve(panel, curve, SAMPLERS[sampler], DODGE * (place - 1.5))
        lines += _labels(panel, curves)
    lines.append(
        f'<text x="{width / 2:.0f}" y="{height - 6}" text-anchor="middle">'
        "regret against runs; bars are one standard error</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def _scale(panel: Panel, problem: Problem) -> Iterator[str]:
    start = panel.x(BUDGETS[0]) - 8
    end = panel.x(BUDGETS[-1]) + 8
    yield (
        f'<text x="{start:.0f}" y="{panel.y(HIGHEST) - 8:.0f}" font-weight="600">'
        f"{problem.title}</text>"
    )
    for value in (0, 0.5, 1):
        y = panel.y(value)
        yield _line(start, y, end, y, 'stroke="#8a919c" stroke-opacity="0.3"')
        yield f'<text x="{start - 5:.0f}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>'
    for runs in BUDGETS:
        yield (
            f'<text x="{panel.x(runs):.0f}" y="{panel.y(0) + 15:.0f}" text-anchor="middle">'
            f"{runs}</text>"
        )


def _curve(panel: Panel, curve: list[Regret], colour: str, aside: float) -> Iterator[str]:
    style = f'stroke="{colour}" stroke-width="1.5"'
    for before, after in pairwise(curve):
        yield _line(
            panel.x(before.runs) + aside,
            panel.y(before.mean),
            panel.x(after.runs) + aside,
            panel.y(after.mean),
            style,
        )
    for point in curve:
        x = panel.x(point.runs) + aside
        yield _line(
            x, panel.y(point.mean - point.error), x, panel.y(point.mean + point.error), style
        )
        yield f'<circle cx="{x:.1f}" cy="{panel.y(point.mean):.1f}" r="2.2" fill="{colour}"/>'


def _labels(panel: Panel, curves: dict[str, list[Regret]]) -> Iterator[str]:
    """Each sampler's name where its line ends."""
    ends = {sampler: curve[-1] for sampler, curve in curves.items()}
    heights = _apart(
        {sampler: panel.y(end.mean) for sampler, end in ends.items()}, lowest=panel.y(0)
    )
    for sampler, y in heights.items():
        colour = SAMPLERS[sampler]
        end = ends[sampler]
        x = panel.x(end.runs) + DODGE * 1.5 + 3
        yield _line(x, panel.y(end.mean), x + 9, y, f'stroke="{colour}" stroke-opacity="0.6"')
        weight = ' font-weight="600"' if sampler == "ours" else ""
        yield f'<text x="{x + 11:.0f}" y="{y + 4:.0f}" fill="{colour}"{weight}>{sampler}</text>'


def _apart(heights: dict[str, float], lowest: float) -> dict[str, float]:
    """The heights of labels in pixels from above, those that would overlap pushed apart."""
    apart = dict(sorted(heights.items(), key=lambda item: item[1]))
    last = list(apart)[-1]
    for _ in range(100):
        apart[last] = min(apart[last], lowest)
        for upper, lower in pairwise(apart):
            overlap = LABEL - (apart[lower] - apart[upper])
            if overlap > 0:
                apart[upper] -= overlap / 2
                apart[lower] += overlap / 2
    return apart


LAYERS = ("conv", "norm", "ReLU", "conv", "norm")
"""Of the branch of a ResNet's basic block."""
BOX, GAP = 54, 12
POSITIONS = {"residual": "#2f81d6", "block": "#e08a00", "stage": "#009e73"}
ROW_Y, SHORTCUT_Y = 84, 34


def positions() -> str:
    """An SVG of a stage of two blocks, with each position at which a module can stand."""
    block_width = len(LAYERS) * (BOX + GAP) + 150
    width = 40 + 2 * block_width + 60
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 150" width="{width}"'
            ' font-family="system-ui, sans-serif" font-size="13" fill="#7d8590">'
        ),
        _line(10, ROW_Y, width - 10, ROW_Y, 'stroke="#8a919c"'),
    ]
    for number in (1, 2):
        parts += _block(30 + (number - 1) * block_width, number)
    parts.append(_module(30 + 2 * block_width + 36, "stage"))
    return "\n".join([*parts, "</svg>", ""])


def _block(left: float, number: int) -> Iterator[str]:
    yield f'<text x="{left + 2:.0f}" y="18">stage2.block{number}</text>'
    for place, layer in enumerate(LAYERS):
        yield _box(left + 10 + place * (BOX + GAP), layer)
    branch_end = left + 10 + len(LAYERS) * (BOX + GAP)
    yield _module(branch_end, "residual")
    add = branch_end + 40
    for x1, y1, x2, y2 in (
        (left, ROW_Y, left, SHORTCUT_Y),
        (left, SHORTCUT_Y, add, SHORTCUT_Y),
        (add, SHORTCUT_Y, add, ROW_Y),
    ):
        yield _line(x1, y1, x2, y2, 'stroke="#8a919c"')
    yield f'<circle cx="{add:.0f}" cy="{ROW_Y}" r="9" fill="none" stroke="#8a919c"/>'
    yield f'<text x="{add:.0f}" y="{ROW_Y + 5}" text-anchor="middle">+</text>'
    yield _box(add + 18, "ReLU")
    yield _module(add + 18 + BOX + GAP / 2, "block")


def _box(left: float, word: str) -> str:
    middle = left + BOX / 2
    return (
        f'<rect x="{left:.0f}" y="{ROW_Y - 15}" width="{BOX}" height="30" rx="4" fill="#8a919c"'
        f' fill-opacity="0.25"/><text x="{middle:.0f}" y="{ROW_Y + 5}"'
        f' text-anchor="middle">{word}</text>'
    )


def _module(left: float, position: str) -> str:
    """A small square in the position's colour, and its name below."""
    colour = POSITIONS[position]
    return (
        f'<rect x="{left:.0f}" y="{ROW_Y - 8}" width="16" height="16" fill="{colour}"/>'
        f'<text x="{left + 8:.0f}" y="{ROW_Y + 44}" text-anchor="middle"'
        f' fill="{colour}">{position}</text>'
    )


FIGURES = {
    "trust-reliability.svg": reliability,
    "search-regret.svg": regret,
    "positions.svg": positions,
}


if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (PICTURES / name).write_text(draw(), "utf-8")

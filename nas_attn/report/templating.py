"""The templates of the HTML report, and the figures of one page. What is put into a template is escaped by Jinja2."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import NamedTuple

import plotly.graph_objects as go
import plotly.io
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

PLOTLY = "plotly-cartesian.min.js.gz"
"""Plotly's own bundle of the cartesian traces (npm: plotly.js-cartesian-dist-min), a third of the whole one."""


@cache
def templates() -> Environment:
    """The environment of `nas_attn/report/templates`."""
    made = Environment(
        loader=PackageLoader("nas_attn.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["code"] = code
    made.filters["when"] = when
    return made


def code(sentence: str) -> Markup:
    """A sentence with what stands between backquotes as code."""
    parts = escape(sentence.replace(" %", "\N{NO-BREAK SPACE}%")).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts))


def when(seconds: float) -> str:
    """Unix seconds as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def trusted(file: str) -> Markup:
    """A file of ours, as it is: the style sheet or the script."""
    return Markup(resources.files("nas_attn.report").joinpath("templates", file).read_text("utf-8"))


@cache
def plotly_script() -> Markup:
    """What draws the figures in a browser."""
    packed = resources.files("nas_attn.report").joinpath("assets", PLOTLY).read_bytes()
    return Markup(gzip.decompress(packed).decode())


class Drawn(NamedTuple):
    """A figure of a page."""

    name: str
    json: Markup
    label: str
    """The figure in words, for those who do not see it."""
    height: int
    width: int
    """Pixels that it needs at least."""


class Page:
    """Collects the figures of one page."""

    def __init__(self) -> None:
        self.figures: list[Drawn] = []

    def draw(self, figure: go.Figure | None, label: str = "") -> Drawn | None:
        """Adds a figure; None without one."""
        if figure is None:
            return None
        axes = [axis.title.text for axis in (figure.layout.yaxis, figure.layout.xaxis) if axis.title.text]
        text = str(plotly.io.to_json(figure)).replace("<", "\\u003c")  # so that no text can end the element
        drawn = Drawn(
            name=f"figure-{len(self.figures) + 1}",
            json=Markup(text),
            label=label or f"Figure: {' against '.join(axes)}",
            height=int(figure.layout.height),
            width=int((figure.layout.meta or {}).get("width", 0)),
        )
        self.figures.append(drawn)
        return drawn

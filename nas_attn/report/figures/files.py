"""Figures as files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from nas_attn.errors import OperationError, UserError, shorten
from nas_attn.report.browser import Size, open_browser
from nas_attn.system.paths import user_path, whole_file

FIGURE_FORMATS = ("svg", "pdf", "png")
# Pixels; a PNG has twice as many
PIXELS = 900
PNG_SCALE = 2
# Plotly's names within an SVG: new ones in each drawing
OWN_NAME = re.compile(rb'id="defs-([0-9a-f]+)"')
LINES_NAME = re.compile(rb"\btrace[0-9a-f]{6}\b")


def write_figures(drawn: Mapping[str, go.Figure], folder: Path, format_: str) -> list[Path]:
    """Writes each figure on white as NAME.svg (or .png, .pdf), and replaces existing files. The
    same figure gives the same SVG.

    UserError: unknown format. OperationError: no Chrome or Chromium, it did not work, or the files
    cannot be written.
    """
    if format_ not in FIGURE_FORMATS:
        raise UserError(
            f"figures cannot be written as '{shorten(format_)}': give {', '.join(FIGURE_FORMATS)}"
        )
    place = user_path(folder, what="figures' folder", error=UserError)
    try:
        place.mkdir(parents=True, exist_ok=True)
        images = _images(list(drawn.values()), place, format_) if drawn else []
        written = []
        for name, image in zip(drawn, images, strict=True):
            path = place / f"{name}.{format_}"
            with whole_file(path) as file:
                file.write(image)
            written.append(path)
    except OSError as error:
        raise OperationError(f"figures cannot be written to '{place}': {error}") from None
    return written


def _images(figures: list[go.Figure], place: Path, format_: str) -> list[bytes]:
    """The files' contents, in the figures' order."""
    sized = [(figure, Size(PIXELS, int(figure.layout.height))) for figure in figures]
    with open_browser(place) as browser:
        if format_ == "png":
            return browser.draw(sized, "png", scale=PNG_SCALE)
        pictures = [_steady(svg) for svg in browser.draw(sized, "svg", scale=1)]
        if format_ == "svg":
            return pictures
        return [browser.print(svg, size) for svg, (_, size) in zip(pictures, sized, strict=True)]


def _steady(svg: bytes) -> bytes:
    """The SVG with names that are the same in each drawing."""
    svg = LINES_NAME.sub(b"lines", svg)
    own = OWN_NAME.search(svg)
    return svg if own is None else svg.replace(own[1], b"figure")

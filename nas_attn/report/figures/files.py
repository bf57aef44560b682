"""Figures as files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from nas_attn.errors import OperationError, UserError, shorten
from nas_attn.report.browser import draw, print_pdf
from nas_attn.report.figures.style import titled
from nas_attn.system.paths import user_path, whole_file

FIGURE_FORMATS = ("svg", "pdf", "png")
# Plotly's names within an SVG: new ones in each drawing
OWN_NAME = re.compile(rb"\b((?:top)?defs-|trace|legend|clip)[0-9a-f]{6}")


def write_figures(drawn: Mapping[str, go.Figure], folder: Path, format_: str) -> list[Path]:
    """Writes each figure with its title, on white, as NAME.svg (or .png, .pdf), and replaces
    existing files. The same figure gives the same SVG.

    UserError: unknown format. OperationError: no Chrome or Chromium, it did not work, or the files
    cannot be written.
    """
    if format_ not in FIGURE_FORMATS:
        raise UserError(
            f"figures cannot be written as '{shorten(format_)}': give {', '.join(FIGURE_FORMATS)}"
        )
    place = user_path(folder, what="figures' folder", error=UserError).absolute()
    figures = [titled(figure) for figure in drawn.values()]
    paths = [place / f"{name}.{format_}" for name in drawn]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for path, image in zip(paths, _images(figures, place, format_), strict=True):
            with whole_file(path) as file:
                file.write(image)
    except OSError as error:
        raise OperationError(f"figures cannot be written to '{place}': {error}") from None
    return paths


def _images(figures: list[go.Figure], place: Path, format_: str) -> list[bytes]:
    """The files' contents, in the figures' order."""
    # Some browsers see only the user's own folders, not those for temporary files. What the browser
    # still writes while it ends is no reason to fail.
    with tempfile.TemporaryDirectory("drawing-", dir=place, ignore_cleanup_errors=True) as own:
        if format_ == "png":
            return draw(figures, "png", Path(own))
        pictures = [OWN_NAME.sub(rb"\1own", svg) for svg in draw(figures, "svg", Path(own))]
        if format_ == "svg":
            return pictures
        return [
            print_pdf(svg, figure.layout.height, Path(own))
            for svg, figure in zip(pictures, figures, strict=True)
        ]

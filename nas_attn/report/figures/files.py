"""Figures as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from nas_attn.errors import OperationError, UserError, first_line, shorten
from nas_attn.paths import user_path

FORMATS = ("svg", "pdf", "png")
# Pixels; a PNG has twice as many
PIXELS = 900


def write_figures(drawn: Mapping[str, go.Figure], folder: Path, format_: str) -> list[Path]:
    """Writes each figure on white as NAME.svg (or .png, .pdf), and replaces existing files.

    UserError: unknown format, or no kaleido. OperationError: no Chromium, or the files cannot be
        written.
    """
    if format_ not in FORMATS:
        raise UserError(
            f"figures cannot be written as '{shorten(format_)}': give {', '.join(FORMATS)}"
        )
    try:
        import kaleido  # noqa: F401 - plotly needs it
    except ImportError:
        raise UserError(
            "figures as files need kaleido, which is not installed: pip install 'nas-attn[figures]'"
        ) from None
    place = user_path(folder, what="figures' folder", error=UserError)
    written = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            path = place / f"{name}.{format_}"
            figure.write_image(
                path, width=PIXELS, height=figure.layout.height, scale=2 if format_ == "png" else 1
            )
            written.append(path)
    except OSError as error:
        raise OperationError(f"figures cannot be written to '{place}': {error}") from None
    except Exception as error:
        # kaleido's own, for a browser that is missing or does not answer
        first = first_line(error)
        raise OperationError(
            f"Chrome or Chromium, which draws figures, did not work ({shorten(first)}): install"
            " one, or name it in BROWSER_PATH"
        ) from error
    return written

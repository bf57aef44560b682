"""A study's figures as files: SVG, PDF or PNG, drawn by a Chromium that is installed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import OperationError, UserError, first_line, shorten
from nas_attn.paths import user_path
from nas_attn.report import effect_map, figures

FORMATS = ("svg", "pdf", "png")
WIDTH = 900
"""Pixels; a PNG has twice as many."""


def all_figures(snapshot: Snapshot) -> dict[str, go.Figure]:
    """Name -> figure, of those that the study can show by now: `front`, `effects-accuracy`, `effects-latency`, `curves`, `noise` …"""
    found: dict[str, go.Figure | None] = {
        "front" if number == 1 else f"front-{number}": figure
        for number, figure in enumerate(figures.front_figures(snapshot), 1)
    }
    found |= {"curves": figures.learning_curves(snapshot)}
    for what, figure in effect_map.effect_maps(snapshot):  # a metric's own name may hold anything
        found[f"effects-{re.sub('[^A-Za-z0-9_-]', '_', what)}"] = figure
    found |= {"noise": figures.noise_figure(snapshot)}
    found |= {f"retrained-{i}": figure for i, figure in enumerate(figures.retraining_curves(snapshot), 1)}
    return {name: figure for name, figure in found.items() if figure is not None}


def write_figures(drawn: Mapping[str, go.Figure], folder: Path, format_: str) -> list[Path]:
    """Writes each figure on white, NAME.svg and so on; what was there before is replaced.

    Raises:
        UserError: unknown format, or kaleido is not installed.
        OperationError: there is no Chromium, or the files cannot be written.
    """
    if format_ not in FORMATS:
        raise UserError(f"figures cannot be written as '{shorten(format_)}': give {', '.join(FORMATS)}")
    try:
        import kaleido  # noqa: F401 - plotly draws by it
    except ImportError:
        raise UserError(
            "figures as files need kaleido, which is not installed: pip install 'nas-attn[figures]'"
        ) from None
    place = user_path(folder, what="folder for figures", error=UserError)
    written = []
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            path = place / f"{name}.{format_}"
            paper = go.Figure(figure).update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color="#333")
            paper.update_traces(textfont_color="#222", selector={"type": "heatmap"})
            paper.write_image(path, width=WIDTH, height=figure.layout.height, scale=2 if format_ == "png" else 1)
            written.append(path)
    except OSError as error:
        raise OperationError(f"figures cannot be written to '{place}': {error}") from None
    except Exception as error:  # kaleido's own, for a browser that is missing or does not answer
        first = first_line(error)
        raise OperationError(
            f"figures are drawn by Chrome or Chromium, which did not work ({shorten(first)}): install one, or name it in BROWSER_PATH"
        ) from error
    return written

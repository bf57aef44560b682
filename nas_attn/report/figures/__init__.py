"""A study's figures (plotly): a kind of figure is a file here and a row of `FIGURE_KINDS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from nas_attn.answer.snapshot import Snapshot
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.effects import map_of
from nas_attn.report.figures.front import front_figures
from nas_attn.report.figures.noise import noise_figure
from nas_attn.report.figures.retrained import retraining_curves
from nas_attn.report.headings import FIGURES


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A kind of figure that a study may have; a row of `FIGURE_KINDS`."""

    name: str
    """Of its file and its artifact; a further figure of the kind has a number or a name of its own
    after it.
    """
    title: str
    """Of a figure that brings no title of its own."""
    draw: Callable[[Snapshot], Mapping[str, go.Figure]]
    """Snapshot -> the figures that the study has, each by what follows the name: `""`, `2`,
    `accuracy`; none where nothing is known yet.
    """


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure of a study."""

    title: str
    figure: go.Figure


def _fronts(snapshot: Snapshot) -> dict[str, go.Figure]:
    return {
        "" if number == 1 else str(number): figure
        for number, figure in enumerate(front_figures(snapshot), 1)
    }


def _map_of_the_metric(snapshot: Snapshot) -> dict[str, go.Figure]:
    metric = snapshot.primary
    figure = None if metric is None else map_of(snapshot, metric)
    if metric is None or figure is None:
        return {}
    # A metric's own name may hold anything, and this becomes the name of a file.
    return {re.sub("[^A-Za-z0-9_-]", "_", metric): figure}


def _retrained(snapshot: Snapshot) -> dict[str, go.Figure]:
    return {str(number): figure for number, figure in enumerate(retraining_curves(snapshot), 1)}


def _one(
    draw: Callable[[Snapshot], go.Figure | None],
) -> Callable[[Snapshot], dict[str, go.Figure]]:
    """The figures of a kind of which a study has one or none."""

    def figures(snapshot: Snapshot) -> dict[str, go.Figure]:
        figure = draw(snapshot)
        return {} if figure is None else {"": figure}

    return figures


FIGURE_KINDS = (
    FigureKind("front", FIGURES["front"], _fronts),
    FigureKind("curves", FIGURES["curves"], _one(learning_curves)),
    FigureKind("effects", FIGURES["effects"], _map_of_the_metric),
    FigureKind(
        "effects-latency",
        FIGURES["effects-latency"],
        _one(lambda snapshot: map_of(snapshot, "latency")),
    ),
    FigureKind("noise", FIGURES["noise"], _one(noise_figure)),
    FigureKind("retrained", FIGURES["retrained"], _retrained),
)
"""All kinds of figure: a new one is a row here."""


def drawn_figures(snapshot: Snapshot) -> dict[str, Drawn]:
    """Name -> figure with its title, as far as the study has them: `front`, `effects-accuracy`,
    `effects-latency`, `curves`, `noise` …
    """
    figures_by_name: dict[str, Drawn] = {}
    for kind in FIGURE_KINDS:
        for rest, figure in kind.draw(snapshot).items():
            name = f"{kind.name}-{rest}" if rest else kind.name
            figures_by_name[name] = Drawn(kind.title, figure)
    return figures_by_name


def all_figures(snapshot: Snapshot) -> dict[str, go.Figure]:
    """Name -> figure, as `drawn_figures`."""
    return {name: drawn.figure for name, drawn in drawn_figures(snapshot).items()}

"""A study's figures (plotly): a kind of figure is a file here and a row of `FIGURE_KINDS`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.effect_map import map_of
from nas_attn.report.figures.front import front_figures


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure of a study."""

    title: str
    figure: go.Figure


def _map_of_the_metric(answer: Answer) -> go.Figure | None:
    return None if answer.now.primary is None else map_of(answer, answer.now.primary)


Draw = Callable[[Answer], go.Figure | Sequence[go.Figure] | None]
FIGURE_KINDS: Mapping[str, tuple[str, Draw]] = {
    "front": ("Front and baselines, as estimated now", front_figures),
    "curves": ("Learning curves", learning_curves),
    "effects": ("What each choice adds at each site", _map_of_the_metric),
    "effects-latency": (
        "What each choice adds to the latency at each site",
        lambda answer: map_of(answer, "latency"),
    ),
}
"""Name of a kind -> the title of a figure that brings none of its own, and the function that draws
what the study has of it: one figure, several, or None.
"""


def drawn_figures(answer: Answer) -> dict[str, Drawn]:
    """Name -> figure with its title, as far as the study has them: `front`, `front-2`, `curves`,
    `effects-accuracy`, `effects-latency`.
    """
    drawn: dict[str, Drawn] = {}
    for kind, (title, draw) in FIGURE_KINDS.items():
        found = draw(answer)
        figures = [found] if isinstance(found, go.Figure) else found or []
        name = kind
        if kind == "effects":
            # a metric's own name may hold anything, and this becomes the name of a file
            name += "-" + re.sub("[^A-Za-z0-9_-]", "_", answer.now.primary or "")
        for number, figure in enumerate(figures, 1):
            drawn[name if number == 1 else f"{name}-{number}"] = Drawn(title, figure)
    return drawn


def all_figures(answer: Answer) -> dict[str, go.Figure]:
    """Name -> figure, as `drawn_figures`."""
    return {name: drawn.figure for name, drawn in drawn_figures(answer).items()}

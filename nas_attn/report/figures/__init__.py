"""The figures of a study."""

from __future__ import annotations

import re

import plotly.graph_objects as go

from nas_attn.answer.answer import Answer
from nas_attn.answer.effects import Effects, both_effects
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.effect_map import effect_map
from nas_attn.report.figures.front import front_figures


def all_figures(answer: Answer) -> dict[str, go.Figure]:
    """Name -> figure, as far as the study has them: `front`, `front-2`, `curves`,
    `effects-accuracy`, `effects-latency`.
    """
    drawn: dict[str, go.Figure | None] = {}
    for number, figure in enumerate(front_figures(answer), 1):
        drawn["front" if number == 1 else f"front-{number}"] = figure
    drawn["curves"] = learning_curves(answer)
    for effects in both_effects(answer.now):
        # a map in which nothing is sure is left out
        drawn[effects_name(effects)] = effect_map(effects) if effects.sure else None
    return {name: figure for name, figure in drawn.items() if figure is not None}


def effects_name(effects: Effects) -> str:
    """The name of the map of effects: a metric's own may hold anything, and this names a file."""
    return f"effects-{re.sub('[^A-Za-z0-9_-]', '_', effects.of)}"

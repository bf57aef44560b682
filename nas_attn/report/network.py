"""The answer as HTML, with a small drawing of its network: its stages in a row, with the attention
that stands in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nas_attn.answer.answer import Answer, DrawnStage, PlacedModule
from nas_attn.answer.answer_text import below, rows
from nas_attn.answer.headline import headline
from nas_attn.answer.reasons import reasons, remarks
from nas_attn.errors import listed
from nas_attn.report.figures.drawing import BLUE
from nas_attn.report.templating import templates

# Pixels: of a letter of 12 pixels, of a line, between boxes, and of a row at most, for a phone
STAGE_LETTER_WIDTH = 7.4
STAGE_LINE = 20
STAGE_GAP = 18
DRAWING_WIDTH = 330
# Pixels of the rim inside a box
STAGE_RIM = 8
# Pixels between two rows
DRAWING_ROWS_GAP = 14
INK_ON_BLUE = "#ffffff"


@dataclass(frozen=True, slots=True)
class StageBox:
    """A stage as it is drawn; modules stand below its name."""

    x: float
    y: float
    width: float
    height: float
    name: str
    modules: tuple[str, ...]

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def drawn_answer(answer: Answer) -> dict[str, Any]:
    """What `templates/parts.html` writes of an answer, in a report and in a notebook."""
    return {
        "headline": headline(answer),
        "drawing": network_drawing(answer.drawing),
        "rows": rows(answer),
        "below": below(answer),
        "remarks": remarks(answer),
        "reasons": [] if answer.taken is None else reasons(answer),
    }


def network_drawing(stages: Sequence[DrawnStage]) -> Markup:
    """The drawing as SVG; empty without stages."""
    if not stages:
        return Markup("")
    lines = max(1, *(len(stage.modules) for stage in stages))
    height = STAGE_LINE * (1 + lines) + 2 * STAGE_RIM
    boxes: list[StageBox] = []
    x = float(STAGE_GAP)
    y = 1.0
    for stage in stages:
        names = tuple(_module_name(module) for module in stage.modules)
        letters = max(len(stage.name), *map(len, names), 6)
        width = round(STAGE_LETTER_WIDTH * letters) + 2 * STAGE_RIM
        if x > STAGE_GAP and x + width + STAGE_GAP > DRAWING_WIDTH:
            x = float(STAGE_GAP)
            y += height + DRAWING_ROWS_GAP
        boxes.append(StageBox(x, y, width, height, stage.name, names))
        x += width + STAGE_GAP
    return Markup(
        templates()
        .get_template("network.svg")
        .render(
            boxes=boxes,
            width=max(box.x + box.width for box in boxes) + STAGE_GAP,
            height=boxes[-1].y + height + 1,
            label=_drawing_in_words(stages),
            gap=STAGE_GAP,
            line=STAGE_LINE,
            rim=STAGE_RIM,
            colour=BLUE,
            ink=INK_ON_BLUE,
        )
    )


def _module_name(module: PlacedModule) -> str:
    return f"{module.type}@{module.block}" if module.block else module.type


def _drawing_in_words(stages: Sequence[DrawnStage]) -> str:
    """The drawing for who cannot see it: `The network: cbam in stage1; nothing in stage2.`"""
    parts = []
    for stage in stages:
        modules = [
            f"{module.type}{f' at {module.block}' if module.block else ''}"
            for module in stage.modules
        ]
        parts.append(f"{listed(modules) or 'nothing'} in {stage.name}")
    return f"The network: {'; '.join(parts)}."

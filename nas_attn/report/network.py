"""The small drawing of a network: its stages in a row, with the attention that stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nas_attn.answer.card import DrawnStage, PlacedModule
from nas_attn.report.figures.drawing import BLUE
from nas_attn.report.templating import templates
from nas_attn.words.card import drawing_in_words

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
            label=drawing_in_words(stages),
            gap=STAGE_GAP,
            line=STAGE_LINE,
            rim=STAGE_RIM,
            colour=BLUE,
            ink=INK_ON_BLUE,
        )
    )


def _module_name(module: PlacedModule) -> str:
    return f"{module.type}@{module.block}" if module.block else module.type

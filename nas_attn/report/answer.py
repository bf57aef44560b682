"""The card of a study, as the report and the notebook draw it."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from nas_attn.answer.snapshot import Snapshot
from nas_attn.report.network import network_drawing
from nas_attn.words.card import CardText, card_text
from nas_attn.words.remarks import remarks


@dataclass(frozen=True, slots=True)
class DrawnCard:
    """The card with the small drawing of its network; `templates/parts.html` writes it."""

    text: CardText
    drawing: Markup
    remarks: tuple[str, ...]


def drawn_card(snapshot: Snapshot) -> DrawnCard:
    text = card_text(snapshot)
    return DrawnCard(text, network_drawing(text.drawing), tuple(remarks(snapshot)))

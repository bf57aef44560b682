"""The answer of a study, line by line."""

from __future__ import annotations

from nas_attn.answer.snapshot import Snapshot
from nas_attn.words.card import card_lines, card_text


def answer(now: Snapshot, at: str | None = None) -> list[str]:
    """The card as lines of text.

    `at`: the option with the database, for a command line; None elsewhere.
    """
    return card_lines(card_text(now, at))

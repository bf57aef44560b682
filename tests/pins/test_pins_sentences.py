"""Sentences that a person reads in one go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import studies
from nas_attn.analysis.effects import both_effects
from nas_attn.study.reading import snapshot
from nas_attn.words.card import card_text
from nas_attn.words.effects import effect_sentences
from nas_attn.words.remarks import remarks
from nas_attn.words.validation import validation_sentences

MOST_WORDS = 25
END = re.compile(r"(?<=[.:;])\s+")


@pytest.mark.parametrize("make", [studies.tested_better, studies.better_control, studies.in_int8])
def test_no_sentence_is_long(
    make: studies.Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = snapshot(make(tmp_path, monkeypatch).store)
    card = card_text(now, "")
    paragraphs = [card.headline, *card.reasons, *remarks(now)]
    paragraphs += [row.text for row in (*card.rows, *card.below) if not row.is_placement]
    for effects in both_effects(now):
        paragraphs += effect_sentences(effects)
    for result in now.validations:
        paragraphs += validation_sentences(result, now)
    for sentence in (part for text in paragraphs for part in END.split(text)):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        assert len(words) <= MOST_WORDS, sentence

"""The reference page is the one that the catalogue gives."""

from __future__ import annotations

from pathlib import Path

from nas_attn.attention import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "attention.md"


def test_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == reference.page(), "run: python -m nas_attn.attention.reference " + str(PAGE)

"""The terms of pages: the same as in the glossary, each explained once."""

from __future__ import annotations

import re
from pathlib import Path

from nas_attn.report.templating import Explaining
from nas_attn.report.terms import TERMS

GLOSSARY = Path(__file__).parents[2] / "docs" / "reference" / "glossary.md"


def test_the_terms_are_those_of_the_glossary() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    assert list(TERMS) == words[: len(TERMS)], "pages have more words than reports"


def test_a_term_is_explained_where_it_is_first_said_and_never_in_code() -> None:
    explain = Explaining({"gain": "how much better", "site": "a place", "test": "new runs"})
    first = explain("Type `nas-attn test`: the gains at a site.")
    assert first.count('class="tip"') == 2
    assert "<code>nas-attn test</code>" in first
    assert "gains<span" in first
    assert explain("A gain again, and <b>a test</b>.").count('class="tip"') == 1
    assert "&lt;b&gt;" in explain("<b>")
    assert "tip" not in explain("latest, against, gain")


def test_a_term_in_what_is_folded_is_explained_again_where_it_is_open() -> None:
    explain = Explaining({"gain": "how much better"})
    assert 'class="tip"' in explain.aside()("The gain is large.")
    assert 'class="tip"' in explain("Gain")
    assert "tip" not in explain.aside()("The gain is large.")

"""What is said of images that a study has known since before their facts were kept."""

from __future__ import annotations

from nas_attn.words.images import unchecked_text


def test_a_study_from_before_says_what_it_has_kept() -> None:
    assert unchecked_text("as kept before", "external") == "as kept before"

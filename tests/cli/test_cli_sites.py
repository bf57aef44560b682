"""What is said of modules that are no sites."""

from __future__ import annotations

from typing import get_args

import pytest

from nas_attn.cli.sites import site_note_text
from nas_attn.space.placement import SiteNote, SiteNoteKind

PATHS = tuple(f"blocks.{i}" for i in range(5))


@pytest.mark.parametrize("kind", get_args(SiteNoteKind))
def test_a_note_names_three_modules_and_counts_the_others(kind: SiteNoteKind) -> None:
    text = site_note_text(SiteNote(kind, PATHS))
    assert ", ".join(PATHS[:3]) in text
    assert "2 more" in text
    assert PATHS[3] not in text


def test_a_note_names_the_shapes_of_maps() -> None:
    note = SiteNote("several_shapes", ("tower",), shapes=((8, 32, 32), (8, 16, 16)))
    assert "8x32x32, 8x16x16" in site_note_text(note)

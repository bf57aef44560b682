"""The reference page is the one that the catalogue gives, and every drawing leads from x to y."""

from __future__ import annotations

import itertools
from pathlib import Path

from attention_asking import ROWS

from nas_attn.attention import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "attention.md"


def test_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == reference.page(), "run: python -m nas_attn.attention.reference " + str(PAGE)


def test_every_node_lies_between_x_and_y() -> None:
    for row in ROWS:
        edges = [edge for path in row.flow for edge in itertools.pairwise(path.split(" -> "))]
        nodes = {node for edge in edges for node in edge}
        assert {"x", "y"} <= nodes, row.name
        assert nodes - {b for _, b in edges} <= {"x", "position tables"}, row.name
        assert nodes - {a for a, _ in edges} == {"y"}, row.name

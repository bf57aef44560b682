"""The sites as rows and as a page."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from nas_attn.attachment import drawing
from nas_attn.records import Point, Site

POINTS = tuple(Point(f"layer1.{i}.bn2", 16, 32, 24) for i in range(3))
SITES = (
    Site("stage1", (("residual", POINTS), ("stage", (Point("layer1.2", 16, 32, 24),))), 0.349),
    Site("stage2", (("block", (Point("a<b>", 32, 16, 12),)),), 0.2),
)


def test_rows_say_all_of_a_site() -> None:
    assert drawing.rows(SITES) == [
        ("stage1", "residual (default)", "layer1.0.bn2 … layer1.2.bn2 (3)", "16", "32x24", "34.9 %"),
        ("", "stage", "layer1.2", "16", "32x24", ""),
        ("stage2", "block", "a<b>", "32", "16x12", "20.0 %"),
    ]
    assert all(len(row) == len(drawing.COLUMNS) for row in drawing.rows(SITES))


def test_records_are_json_with_every_path() -> None:
    first = json.loads(json.dumps(drawing.records(SITES)))[0]
    assert first["positions"]["residual"]["paths"] == [p.path for p in POINTS]
    assert first["default_position"] == "residual"
    assert first["macs_share"] == 0.349


def test_the_page_is_whole_and_escapes() -> None:
    page = drawing.page(SITES, title="mine & <yours>")
    assert "mine &amp; &lt;yours&gt;" in page
    assert "a<b>" not in page
    assert "http" not in page
    assert page.count("<tr>") == 1 + len(drawing.rows(SITES))


def test_the_drawing_has_a_column_per_site_and_a_bar_per_point() -> None:
    image = ElementTree.fromstring(drawing.svg(SITES))
    assert [len(group.findall("rect[@class='block']")) for group in image.findall("g")] == [3, 1]
    widths = [float(rect.get("width", 0)) for rect in image.findall("g/rect[@class='map']")]
    heights = [float(rect.get("height", 0)) for rect in image.findall("g/rect[@class='map']")]
    assert widths[0] > widths[1]
    assert heights[0] > heights[1]


def test_many_sites_stay_drawable() -> None:
    many = tuple(Site(f"stage{i}", (("block", (Point("a", 1, 1, 1),)),), 0.0) for i in range(80))
    image = ElementTree.fromstring(drawing.svg(many))
    assert all(float(rect.get("width", 0)) > 0 for rect in image.findall("g/rect[@class='map']"))
    assert drawing.svg(()) == ""

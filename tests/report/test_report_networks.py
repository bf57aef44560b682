"""Placements drawn on the backbone, to scale."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from made_study import MadeStudy, everywhere, usual

from nas_attn.analysis.snapshot import snapshot
from nas_attn.analysis.stages import Stage
from nas_attn.report.networks import Piece, added, networks_figure, parts, pieces

SE = "se(reduction=8)"


def test_a_network_is_as_long_as_its_measured_latency(tmp_path: Path) -> None:
    study = usual(tmp_path, searched=24)
    study.stages(blocks=3)
    now = snapshot(study.store)
    view = next(v for v in now.candidates if v.placement == everywhere(SE))
    assert view.latency is not None
    found = pieces(parts(now), view, added(now), view.latency.ratio - 1)
    assert [piece.part for piece in found][:3] == ["stem", "stage1", "stage1"]
    assert sum(piece.length for piece in found) == pytest.approx(4.0 * view.latency.ratio)
    assert all(a.start + a.length == pytest.approx(b.start) for a, b in pairwise(found))
    modules = [piece for piece in found if piece.choice]
    assert [piece.choice for piece in modules] == [SE] * 9
    assert sum(p.length for p in found if p.part == "stage1" and not p.choice) == pytest.approx(1.8)


def test_a_module_sits_where_its_position_says() -> None:
    stages = (Stage("stage1", 2.0, "", 2), Stage("stage2", 1.0, "", 2))

    def order(placement: str) -> list[str]:
        return [f"{p.part}{'+' if p.choice else ''}" for p in pieces(stages, view_of(placement), {}, 0.5)]

    assert order(f"stage1={SE}") == ["stage1", "stage1+", "stage1", "stage1+", "stage2"]
    assert order(f"stage1@stage={SE}") == ["stage1", "stage1", "stage1+", "stage2"]
    assert order(f"stage2.block1={SE}") == ["stage1", "stage2", "stage2+", "stage2"]
    assert order("none") == ["stage1", "stage2"]


def view_of(placement: str):  # type: ignore[no-untyped-def]
    """What `pieces` reads of a candidate."""
    from types import SimpleNamespace

    from nas_attn.space import parse

    chosen = [a for a in parse(placement).assignments if not a.choice.is_none]
    return SimpleNamespace(choices={f"{a.site}@{a.position}" if a.position else a.site: str(a.choice) for a in chosen})


def test_what_modules_add_is_divided_as_the_model_says_and_evenly_without_one() -> None:
    stages = (Stage("stage1", 2.0), Stage("stage2", 2.0))
    view = view_of(f"stage1={SE} stage2={SE}")
    model = {f"stage1={SE}": 0.3, f"stage2={SE}": 0.1}

    def modules(found: list[Piece]) -> list[float]:
        return [piece.length for piece in found if piece.choice]

    assert modules(pieces(stages, view, model, 0.8)) == pytest.approx([2.4, 0.8])
    assert modules(pieces(stages, view, {}, 0.8)) == pytest.approx([1.6, 1.6])
    assert modules(pieces(stages, view, model, None)) == pytest.approx([1.2, 0.4])


def test_without_times_stages_are_equally_wide_and_the_axis_says_so(tmp_path: Path) -> None:
    study = usual(tmp_path)
    figure = networks_figure(snapshot(study.store))
    assert figure is not None
    assert "times of stages are not known" in figure.layout.xaxis.title.text
    bare = [x for x, y in zip(figure.data[0].x, figure.data[0].y, strict=True) if y == "none"]
    assert len(set(bare)) == 1
    study.stages()
    timed = networks_figure(snapshot(study.store))
    assert timed is not None
    assert timed.layout.xaxis.title.text == "milliseconds"
    assert [x for x, y in zip(timed.data[0].x, timed.data[0].y, strict=True) if y == "none"] == [
        0.3,
        1.8,
        1.1,
        0.7,
        0.1,
    ]


def test_there_is_none_without_a_front(tmp_path: Path) -> None:
    assert networks_figure(snapshot(MadeStudy(tmp_path).store)) is None

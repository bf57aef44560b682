"""Figures as files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from browser import CHROMIUM
from made_study import MadeStudy, usual

from nas_attn.errors import UserError
from nas_attn.report.figures import all_figures, write_figures
from nas_attn.study.reading import snapshot

BEGINNINGS = {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}


def test_what_a_study_can_show_grows_with_it(tmp_path: Path) -> None:
    made = usual(tmp_path, searched=24)
    assert set(all_figures(snapshot(made.store))) == {
        *("front", "effects-accuracy", "effects-latency", "curves", "noise")
    }
    assert set(all_figures(snapshot(MadeStudy(tmp_path, name="young").store))) == {"front"}


def test_what_is_missing_or_wrong_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot be written as 'gif': give svg, pdf, png"):
        write_figures({}, tmp_path, "gif")
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(UserError, match=r"need kaleido, which is not installed: pip install 'nas-attn\[figures\]'"):
        write_figures({}, tmp_path, "svg")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_figures_become_svg_pdf_and_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed (extra `figures`)")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    monkeypatch.setenv("BROWSER_PATH", CHROMIUM)
    made = usual(tmp_path, searched=24)
    drawn = {name: all_figures(snapshot(made.store))[name] for name in ("front", "effects-latency")}
    for format_, beginning in BEGINNINGS.items():
        files = write_figures(drawn, tmp_path / "figures", format_)
        assert [file.name for file in files] == [f"front.{format_}", f"effects-latency.{format_}"]
        assert all(file.read_bytes().startswith(beginning) for file in files)

"""The report on a fidelity study: what it draws and says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_attn.analysis.fidelity import Fidelity, Runs, assess
from nas_attn.errors import StudyError
from nas_attn.report.fidelity import cells, fidelity_figure, render, write_fidelity_report


@pytest.fixture(scope="module")
def found() -> Fidelity:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((10, 1))
    seeds = truth + 0.2 * rng.standard_normal((10, 4))
    reference = Runs("scratch", 1.0, (20,), "accuracy", truth + 0.2 * rng.standard_normal((10, 4)), 40.0)
    cheap = [
        Runs("backbone", 1.0, (1,), "accuracy", seeds, 2.0),
        Runs("backbone", 0.5, (1, 2), "accuracy", -seeds, 2.0),
        Runs("backbone", 1.0, (1,), "loss", seeds, 2.0),
    ]
    placements = ["none", *(f"stage1=<i>{i}</i>" for i in range(9))]
    return assess(placements, np.arange(10.0), "latency", reference, cheap)


def test_figure_has_every_way_the_floor_and_the_recommendation(found: Fidelity) -> None:
    figure = fidelity_figure(found)
    names = [trace.name for trace in figure.data]
    assert {"backbone, 1 seed", "backbone, 50 % of images, 4 seeds", "recommended"} <= set(names)
    assert "noise floor: one run of the reference" in names
    (ring,) = (trace for trace in figure.data if trace.name == "recommended")
    row = next(row for row in found.rows if row.setting == found.advice.setting)
    assert (ring.x, ring.y) == ((row.device_s,), (row.tau,))
    bars = figure.data[0].error_y
    assert figure.data[0].y[0] + bars.array[0] == pytest.approx(found.rows[0].high)
    assert figure.data[0].y[0] - bars.arrayminus[0] == pytest.approx(found.rows[0].low)
    assert figure.layout.shapes[0].y0 == found.floor.low


def test_page_has_all_settings_and_nothing_of_a_placement_is_markup(found: Fidelity, tmp_path: Path) -> None:
    text = render(found, "a<b>")
    assert "<b>" not in text.partition("<script>")[0]
    assert "&lt;i&gt;3" in text
    assert text.count('<tr class="front">') == 1
    assert text.count("of images</td>") == len([row for row in found.rows if row.setting.subset < 1])
    for sentence in found.advice.sentences:
        assert sentence.split(":")[0].split(" %")[0] in text.replace("&nbsp;%", " %")
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match="cannot be written"):
        write_fidelity_report(found, "x", tmp_path / "file" / "x.html")
    assert write_fidelity_report(found, "x", tmp_path / "x.html").read_text("utf-8").startswith("<!doctype html>")


def test_a_row_in_words(found: Fidelity) -> None:
    row = next(row for row in found.rows if row.setting.subset == 0.5 and row.setting.seeds == 1)
    assert cells(row)[:3] == ["backbone, 2 epochs, 50 % of images", "1", "accuracy"]
    assert cells(row)[3].startswith("-0.")

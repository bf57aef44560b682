"""Figures, maps of effects among them, and figures as files."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from made_study import TRUE_COST, MadeStudy, everywhere, recipe, recommended, taking
from PIL import Image

from nas_attn import errors
from nas_attn.answer.answer import answer_of
from nas_attn.answer.effects import Effect, Effects, average_effects
from nas_attn.answer.effects_text import effects_message
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.recipe import units
from nas_attn.report import browser, figures
from nas_attn.report.browser import PIXELS
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.figures.effect_map import BAD, GOOD_COLOUR, effect_map
from nas_attn.report.figures.files import write_figures
from nas_attn.report.figures.front import front_figures
from nas_attn.report.figures.style import blank_figure, tell, titled
from nas_attn.report.page_tables import front_table, gains_of_runs

SE = "se(reduction=8)"


def named(figure: go.Figure, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_every_scored_candidate_is_a_point_and_can_be_picked(made: Snapshot) -> None:
    (figure,) = front_figures(answer_of(made))
    points = [trace for trace in figure.data if trace.customdata is not None]
    placements = [placement for trace in points for placement in trace.customdata]
    scored = [view for view in made.candidates if view.state == "scored"]
    assert sorted(placements) == sorted(str(view.placement) for view in scored)
    (star,) = named(figure, "recommended")
    assert list(star.customdata) == [str(recommended(made).placement)]
    instead = taking(made, scored[-1].key)
    (star,) = named(front_figures(instead)[0], "recommended")
    assert list(star.customdata) == [str(scored[-1].placement)], "the answer takes it instead"
    (bare,) = named(figure, "bare backbone")
    assert (bare.x[0], bare.y[0], bare.error_y.array[0]) == (1.0, 0.0, 0.0)
    (front,) = named(figure, "front")
    view = next(view for view in made.candidates if str(view.placement) == front.customdata[0])
    gain = view.gains["accuracy"]
    assert front.y[0] == pytest.approx(100 * gain.mean, abs=1e-4)
    assert front.error_y.array[0] == pytest.approx(100 * (gain.high - gain.mean), abs=1e-4)
    assert front.error_y.arrayminus[0] == pytest.approx(100 * (gain.mean - gain.low), abs=1e-4)
    assert "points" in figure.layout.yaxis.title.text
    names = [name for trace in points for name in trace.text if name]
    assert len(names) <= 4
    assert "bare backbone" in names


def test_one_figure_for_each_further_objective(tmp_path: Path) -> None:
    for objectives, axes in (
        (["accuracy"], ["trial"]),
        (["loss", "latency", "params"], ["latency", "parameters"]),
    ):
        study = MadeStudy(tmp_path, recipe(objectives=objectives), name="-".join(objectives))
        study.candidate(everywhere(SE))
        study.sessions(1)
        drawn = front_figures(answer_of(snapshot(study.store)))
        assert [re.split("[ <]", figure.layout.xaxis.title.text)[0] for figure in drawn] == axes


def test_pruned_curves_end_early_in_a_cross(made: Snapshot) -> None:
    figure = learning_curves(answer_of(made))
    assert figure is not None
    (pruned,) = (trace for trace in figure.data if trace.name == "stopped early")
    assert list(pruned.x) == [1, None] * made.counts["pruned"]
    assert [symbol for x, symbol in zip(pruned.x, pruned.marker.symbol, strict=True) if x] == [
        "x"
    ] * made.counts["pruned"]
    (bare,) = (trace for trace in figure.data if trace.name == "bare backbone")
    assert list(bare.x) == [1, 3, None] * 3
    assert "seed" in bare.text[0]
    assert "none" in bare.text[0]
    assert set(bare.marker.symbol) == {"circle"}


def test_one_rung_makes_no_learning_curve(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path, recipe(training={"rungs": [3]}))
    study.candidate("none", baseline="none", rungs=1)
    study.candidate(everywhere(SE), rungs=1)
    study.sessions(1)
    assert learning_curves(answer_of(snapshot(study.store))) is None


def test_a_candidates_runs_are_compared_with_the_bare_backbones_of_their_seeds(
    made: Snapshot,
) -> None:
    bare, se = made.candidates[:2]
    scores = {
        view.key: {p.seed: p.metrics["accuracy"] for p in view.scores if p.rung == 1}
        for view in (se, bare)
    }
    expected = [score - scores[bare.key][seed] for seed, score in scores[se.key].items()]
    assert gains_of_runs(made, "accuracy", se) == pytest.approx(expected)
    assert len(expected) == 3
    table = front_table(answer_of(made))
    assert table is not None
    at = list(table.head).index("gains of its runs")
    cells = {row.cells[0].notation: row.cells[at] for row in table.rows}
    low, high = min(expected), max(expected)
    assert cells[str(se.placement)].text == units.difference_range("accuracy", low, high)
    assert cells["none"].says_nothing


def test_numbers_as_a_person_reads_them() -> None:
    for share in ("accuracy", "mean_iou", "map50_95"):
        assert units.plus_minus(share, 0.0061, 0.002) == "+0.61 ± 0.20 points"
    assert units.difference_range("latency", -0.01, 0.051) == "−1.0 to +5.1 %"
    assert units.size("macs", -12_000) == "12 k"
    assert units.value("accuracy", 0.72414) == "72.41 %"
    assert units.value("latency", 1.1324) == "1.132 ×"
    assert units.value("params", 78_512) == "78.5 k"
    assert units.value("macs", 12_510_000) == "12.5 M"
    assert units.value("memory", 3e6) == "3 MB"
    assert units.value("-rmse", 0.123456) == "0.1235"
    assert units.value("loss", None) == units.value("loss", float("nan")) == "–"
    assert units.value_plus_minus("accuracy", 0.7, 0.692, 0.708) == "70.0 ± 0.8 %"
    assert [units.duration(s) for s in (45.2, 200, 7500)] == ["45 s", "3 min", "2.1 h"]


def map_of(now: Snapshot, what: str) -> go.Figure:
    """The map of effects on a metric, or on latency."""
    effects = average_effects(now, what)
    assert effects is not None
    return effect_map(effects)


def cell(figure: go.Figure, site: str, choice: str) -> dict[str, Any]:
    """What a map has at a place."""
    trace = figure.data[0]
    row, at = list(trace.y).index(choice), list(trace.x).index(site)
    return {name: getattr(trace, name)[row][at] for name in ("z", "text")}


def test_a_cell_has_the_effect_its_interval_and_the_placement_it_stands_for(made: Snapshot) -> None:
    accuracy = map_of(made, "accuracy")
    latency = map_of(made, "latency")
    effects = average_effects(made, "latency")
    assert effects is not None
    cbam = "cbam(reduction=16, spatial_kernel_size=7)"
    row = next(e for e in effects.at("choice") if (e.site, e.name) == ("stage2", cbam))
    found = cell(latency, "stage2", "cbam")
    assert found["z"] == pytest.approx(100 * row.mean)
    assert found["text"] == f"<b>+{100 * row.mean:.1f}<br>± {100 * row.half:.1f}</b>"
    assert abs(row.mean - TRUE_COST[cbam]) < 0.03
    assert cell(latency, "stage4", "cbam")["z"] is None
    assert cell(accuracy, "stage1", "ela")["z"] < 0


def test_blue_does_good_whichever_way_the_metric_goes_and_nothing_is_in_the_middle(
    made: Snapshot,
) -> None:
    accuracy = map_of(made, "accuracy")
    latency = map_of(made, "latency")
    loss = average_effects(made, "loss")
    assert loss is not None
    maps, worst, best = (
        (accuracy, latency, effect_map(loss)),
        BAD,
        GOOD_COLOUR,
    )
    ends = [(f.data[0].colorscale[0][1], f.data[0].colorscale[-1][1]) for f in maps]
    assert ends == [
        (worst, best),
        (best, worst),
        (worst, best),
    ], "a gain in log-loss is a lower one"
    for figure in (accuracy, latency):
        assert figure.data[0].zmid == 0
        assert figure.data[0].zmin == -figure.data[0].zmax


def test_in_words_it_names_what_is_sure(made: Snapshot) -> None:
    effects = average_effects(made, "latency")
    assert effects is not None
    said = effects_message(effects)
    assert said.startswith("Shown to cost or to save latency: cbam at stage3 ")
    assert effect_map(effects).layout.meta["message"] == said


def test_a_map_in_which_nothing_is_sure_is_left_out_and_grey_is_what_is_not(
    made: Snapshot,
) -> None:
    effects = average_effects(made, "accuracy")
    assert effects is not None
    rows = tuple(replace(row, low=-1.0, high=1.0) for row in effects.rows)
    assert replace(effects, rows=rows).sure == []
    figure = effect_map(effects)
    for row in effects.at("choice"):
        shade = cell(figure, row.site, row.type)["z"]
        assert (shade == 0) == (row.low <= 0 <= row.high), row


def effect(site: str, kind: str, knobs: str) -> Effect:
    return Effect(
        0.01,
        0.0,
        0.02,
        level="choice",
        site=site,
        type=kind,
        knobs=knobs,
        better=0.9,
        worse=0.1,
        observations=3,
        elsewhere=2,
    )


def test_a_knob_that_the_site_decides_makes_no_row_of_its_own() -> None:
    rows = [effect(f"stage{n}", "coord", f"reduction={2**n}") for n in (1, 2, 3)]
    rows += [effect("stage1", "se", f"reduction={r}, gate=hard") for r in (4, 8)]
    figure = effect_map(Effects("accuracy", tuple(rows)))
    assert list(figure.data[0].y) == [
        "coord",
        "se<br>(reduction=4)",
        "se<br>(reduction=8)",
    ]


def test_many_sites_are_read_by_pointing() -> None:
    rows = [effect(f"stage{n}", "se", "") for n in range(30)]
    figure = effect_map(Effects("accuracy", tuple(rows)))
    assert figure.data[0].texttemplate is None
    assert "%{text}" in figure.data[0].hovertemplate


BEGINNINGS = {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}


def test_what_a_study_can_show_grows_with_it(made: Snapshot, tmp_path: Path) -> None:
    assert set(figures.all_figures(answer_of(made))) == {
        "front",
        "effects-accuracy",
        "effects-latency",
        "curves",
    }
    assert set(
        figures.all_figures(answer_of(snapshot(MadeStudy(tmp_path, name="young").store)))
    ) == {"front"}


def test_what_is_missing_or_wrong_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.UserError, match=r"'gif': .*svg, pdf, png"):
        write_figures({}, tmp_path, "gif")
    one = {"front": tell(blank_figure(height=300), "A front", "")}
    monkeypatch.setenv("BROWSER_PATH", "no-such-browser")
    with pytest.raises(errors.OperationError, match=r"BROWSER_PATH is 'no-such-browser'.*name a"):
        write_figures(one, tmp_path, "svg")
    monkeypatch.delenv("BROWSER_PATH")
    monkeypatch.setattr(browser, "BROWSER_NAMES", ("no-such-browser",))
    with pytest.raises(errors.OperationError, match=r"not installed: install one.*BROWSER_PATH"):
        write_figures(one, tmp_path, "svg")
    monkeypatch.setenv("BROWSER_PATH", sys.executable)
    with pytest.raises(errors.OperationError, match=r"\(.*\): install another"):
        write_figures(one, tmp_path, "svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.extras("chromium")
@pytest.mark.slow
def test_figures_become_svg_pdf_and_png(made: Snapshot, tmp_path: Path) -> None:
    drawn = {
        name: figures.all_figures(answer_of(made))[name] for name in ("front", "effects-latency")
    }
    for format_, beginning in BEGINNINGS.items():
        files = write_figures(drawn, tmp_path / "figures", format_)
        assert [file.name for file in files] == [f"front.{format_}", f"effects-latency.{format_}"]
        assert all(file.read_bytes().startswith(beginning) for file in files)
    again = write_figures(drawn, tmp_path / "again", "svg")
    assert [file.read_bytes() for file in again] == [
        (tmp_path / "figures" / file.name).read_bytes() for file in again
    ]
    with Image.open(tmp_path / "figures" / "front.png") as image:
        assert image.size == (2 * PIXELS, 2 * titled(drawn["front"]).layout.height)
    assert len(list((tmp_path / "figures").iterdir())) == 6


@pytest.mark.extras("chromium")
@pytest.mark.slow
def test_a_title_of_two_lines_is_whole(tmp_path: Path) -> None:
    figure = tell(blank_figure(height=200), "A title that is long " * 4, "")
    (file,) = write_figures({"long": figure}, tmp_path, "png")
    with Image.open(file) as image:
        rows = np.asarray(image.convert("L")).min(1)
    assert rows[:10].min() == 255, "cut at the upper edge"

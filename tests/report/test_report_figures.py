from __future__ import annotations

from pathlib import Path

import pytest
from made_study import MadeStudy, everywhere, recipe, usual

from nas_attn.analysis import units
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.model import Estimate
from nas_attn.report import figures, words
from nas_attn.study.reading import snapshot

SE, ELA = "se(reduction=8)", "ela(kernel_size=7)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("usual")).store)


def named(figure: object, name: str) -> list[object]:
    return [trace for trace in figure.data if trace.name == name]  # type: ignore[attr-defined]


def test_every_scored_candidate_is_a_point_and_can_be_picked(made: Snapshot) -> None:
    (figure,) = figures.front_figures(made)
    points = [trace for trace in figure.data if trace.mode == "markers" and trace.name != "recommended"]
    placements = [placement for trace in points for placement in trace.customdata]
    scored = [view for view in made.candidates if view.state == "scored"]
    assert sorted(placements) == sorted(view.placement for view in scored)
    (ring,) = named(figure, "recommended")
    assert list(ring.customdata) == [made.recommendation.placement]
    (bare,) = named(figure, "bare backbone")
    assert (bare.x[0], bare.y[0], bare.error_y.array[0]) == (1.0, 0.0, 0.0)
    (front,) = [trace for trace in named(figure, "front") if trace.mode == "markers"]
    view = next(view for view in made.candidates if view.placement == front.customdata[0])
    gain = view.gains["accuracy"]
    assert front.y[0] == pytest.approx(100 * gain.mean, abs=1e-4)
    assert front.error_y.array[0] == pytest.approx(100 * (gain.high - gain.mean), abs=1e-4)
    assert front.error_y.arrayminus[0] == pytest.approx(100 * (gain.mean - gain.low), abs=1e-4)
    assert "points" in figure.layout.yaxis.title.text


def test_values_are_drawn_as_they_are_where_that_is_wanted(made: Snapshot) -> None:
    (figure,) = figures.front_figures(made, absolute=True)
    (bare,) = named(figure, "bare backbone")
    estimate = made.candidates[0].estimates["accuracy"]
    assert bare.y[0] == pytest.approx(100 * estimate.mean, abs=1e-4)
    assert bare.error_y.array[0] == pytest.approx(100 * (estimate.high - estimate.mean), abs=1e-4)
    assert (figure.layout.yaxis.ticksuffix, figure.layout.xaxis.ticksuffix) == (" %", None), "70 %, as everywhere"


def test_one_figure_for_each_further_objective(tmp_path: Path) -> None:
    for objectives, axes in ((["accuracy"], ["trial"]), (["loss", "latency", "params"], ["latency", "parameters"])):
        study = MadeStudy(tmp_path, recipe(objectives=objectives), name="-".join(objectives))
        study.candidate(everywhere(SE))
        study.sessions(1)
        drawn = figures.front_figures(snapshot(study.store))
        assert [figure.layout.xaxis.title.text.partition(" ")[0] for figure in drawn] == axes


def test_pruned_curves_end_early_in_a_cross(made: Snapshot) -> None:
    figure = figures.learning_curves(made)
    (pruned,) = (trace for trace in figure.data if trace.name == "pruned")
    assert list(pruned.x) == [1, None] * made.counts["pruned"]
    assert [symbol for x, symbol in zip(pruned.x, pruned.marker.symbol, strict=True) if x] == ["x"] * made.counts[
        "pruned"
    ]
    (bare,) = (trace for trace in figure.data if trace.name == "bare backbone")
    assert list(bare.x) == [1, 3, None] * 3
    assert "seed" in bare.text[0]
    assert "none" in bare.text[0]
    assert set(bare.marker.symbol) == {"circle"}
    assert "66.00 %" in figure.layout.annotations[0].text


def test_the_noise_figure_compares_each_run_with_the_bare_backbones_of_its_seed(made: Snapshot) -> None:
    runs, estimates = figures.noise_figure(made).data
    bare, se = made.candidates[:2]
    assert list(runs.y).count(se.label) == 3
    drawn = dict(zip(estimates.y, estimates.x, strict=True))
    assert bare.label not in drawn
    assert drawn[se.label] == pytest.approx(100 * se.gains["accuracy"].mean, abs=1e-4)
    first = [p.metrics["accuracy"] for view in (se, bare) for p in view.scores if (p.seed, p.rung) == (0, 1)]
    assert runs.x[list(runs.y).index(se.label)] == pytest.approx(100 * (first[0] - first[1]), abs=1e-4)


def test_with_nothing_to_show_there_is_no_figure(tmp_path: Path) -> None:
    empty = snapshot(MadeStudy(tmp_path).store)
    assert figures.learning_curves(empty) is None
    assert figures.noise_figure(empty) is None


def test_numbers_as_a_person_reads_them() -> None:
    for share in ("accuracy", "mean_iou", "map50_95"):
        assert units.plus_minus(share, 0.0061, 0.002) == "+0.61 ± 0.20 points"
    assert units.difference("loss", -0.0123) == "-0.0123"
    assert units.difference_range("latency", -0.01, 0.051) == "-1.0 to +5.1 %"
    assert units.size("macs", -12_000) == "12 k"
    assert units.value("accuracy", 0.72414) == "72.41 %"
    assert units.value("latency", 1.1324) == "1.132 ×"
    assert units.value("params", 78_512) == "78.5 k"
    assert units.value("macs", 12_510_000) == "12.5 M"
    assert units.value("memory", 3e6) == "3 MB"
    assert units.value("-rmse", 0.123456) == "0.1235"
    assert units.value("loss", None) == units.value("loss", float("nan")) == "–"
    assert words.spread("accuracy", Estimate(0.7, 0.004, 0.692, 0.708, 0.7, 1)) == "± 0.80"
    assert [units.duration(s) for s in (45.2, 200, 7500)] == ["45 s", "3 min", "2.1 h"]

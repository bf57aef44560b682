"""The map of what each choice does at each site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import plotly.graph_objects as go
import pytest
from made_study import TRUE_COST, usual

from nas_attn.analysis.effects import Effect, Effects, fit_effects
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report.figures import BAD, GOOD, column_names, described, effect_map, effect_maps
from nas_attn.study.reading import snapshot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("map"), searched=24).store)


def cell(figure: go.Figure, site: str, column: str) -> dict[str, object]:
    """What a map has at a place."""
    trace = figure.data[0]
    row, at = list(trace.y).index(site), list(trace.x).index(column)
    return {name: getattr(trace, name)[row][at] for name in ("z", "text", "hovertext")}


def test_a_cell_has_the_effect_its_interval_and_the_placement_it_stands_for(made: Snapshot) -> None:
    (metric, accuracy), (what, latency) = effect_maps(made)
    assert (metric, what) == ("accuracy", "latency")
    effects = fit_effects(made, "latency")
    assert effects is not None
    cbam = "cbam(reduction=16, spatial_kernel_size=7)"
    row = next(e for e in effects.at("choice") if (e.site, e.name) == ("stage2", cbam))
    found = cell(latency, "stage2", "cbam")
    assert found["z"] == pytest.approx(100 * row.mean)
    assert found["text"] == f"<b>+{100 * row.mean:.1f}<br>± {100 * row.half:.1f}</b>"
    assert abs(row.mean - TRUE_COST[cbam]) < 0.03
    assert f"{100 * row.low:+.1f} to {100 * row.high:+.1f} %" in str(found["hovertext"])
    assert cell(latency, "stage4", "cbam")["z"] is None
    assert cell(accuracy, "stage1", "ela")["z"] < 0


def test_blue_does_good_whichever_way_the_metric_goes_and_nothing_is_in_the_middle(made: Snapshot) -> None:
    (_, accuracy), (_, latency) = effect_maps(made)
    loss = fit_effects(made, "loss")
    assert loss is not None
    ends = [(f.data[0].colorscale[0][1], f.data[0].colorscale[-1][1]) for f in (accuracy, latency, effect_map(loss))]
    assert ends == [(BAD, GOOD), (GOOD, BAD), (BAD, GOOD)], "a gain in log-loss is a lower one"
    for figure in (accuracy, latency):
        assert figure.data[0].zmid == 0
        assert figure.data[0].zmin == -figure.data[0].zmax


def test_in_words_it_names_what_is_sure(made: Snapshot) -> None:
    effects = fit_effects(made, "latency")
    assert effects is not None
    assert "cbam(reduction=16, spatial_kernel_size=7) at stage" in described("latency", effects)
    nothing = replace(effects, rows=tuple(replace(row, low=-1.0, high=1.0) for row in effects.rows))
    assert described("latency", nothing).endswith("None is certainly different from zero.")


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


def test_a_knob_that_the_site_decides_makes_no_column_of_its_own() -> None:
    rows = [effect(f"stage{n}", "coord", f"reduction={2**n}") for n in (1, 2, 3)]
    rows += [effect("stage1", "se", f"reduction={r}, gate=hard") for r in (4, 8)]
    names = column_names(rows)
    assert {names[f"stage{n}", f"coord(reduction={2**n})"] for n in (1, 2, 3)} == {"coord"}
    assert names["stage1", "se(reduction=4, gate=hard)"] == "se(reduction=4)"
    figure = effect_map(Effects("accuracy", tuple(rows), (), None))
    assert list(figure.data[0].x) == ["coord", "se(reduction=4)", "se(reduction=8)"]


def test_many_choices_are_read_by_pointing(made: Snapshot) -> None:
    rows = [effect("stage1", f"kind{n:02}", "") for n in range(30)]
    figure = effect_map(Effects("accuracy", tuple(rows), (), None))
    assert figure.data[0].texttemplate is None
    assert "probability of 90 %" in figure.data[0].hovertext[0][29]


def test_there_is_none_of_a_young_study(tmp_path: Path) -> None:
    assert effect_maps(snapshot(usual(tmp_path, searched=0).store)) == []

"""Results as rows and figures for programs and notebooks."""

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import UserError
from nas_attn.report.html import summary
from nas_attn.report.tables import FRAMES, rows
from nas_attn.study.reading import snapshot

made_study = runpy.run_path(str(Path(__file__).parents[1] / "made_study.py"))


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(made_study["usual"](tmp_path_factory.mktemp("made")).store)


def test_every_table_has_equal_rows(now: Snapshot) -> None:
    for what in FRAMES:
        found = rows(now, what)
        assert found, what
        assert len({tuple(row) for row in found}) == 1, what


def test_the_rows_say_what_the_study_says(now: Snapshot) -> None:
    trials = rows(now, "trials")
    assert [row["trial"] for row in trials] == [view.trial for view in now.candidates]
    assert [row["placement"] for row in trials if row["recommended"]] == [now.recommendation.placement]
    assert [row["key"] for row in rows(now, "front")] == [view.key for view in now.front]
    assert {row["key"] for row in trials if row["on_front"]} == {view.key for view in now.front}
    row, view = next((r, v) for r, v in zip(trials, now.candidates, strict=True) if v.latency and v.gains)
    low, high = view.estimates["accuracy"].low, view.estimates["accuracy"].high
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == (view.values[0], low, high)
    assert row["latency_ms"] == view.latency.ms
    gain = view.gains["accuracy"]
    assert (row["accuracy_gain"], row["accuracy_gain_low"], row["accuracy_gain_high"]) == (
        gain.mean,
        gain.low,
        gain.high,
    )
    assert len(rows(now, "scores")) == sum(len(view.scores) for view in now.candidates)
    assert {row["of"] for row in rows(now, "effects")} == {"accuracy", "latency"}


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(UserError, match="unknown table 'trails': did you mean 'trials'"):
        rows(None, "trails")  # type: ignore[arg-type]


def test_a_notebook_shows_the_answer(now: Snapshot) -> None:
    shown = summary(now)
    assert now.recommendation.placement in shown
    assert all(view.placement in shown for view in now.front)
    assert "<script" not in shown
    drawing = ElementTree.fromstring(re.search("<svg.*</svg>", shown, re.DOTALL)[0])
    marks = drawing.findall("circle")
    scored = [view for view in now.candidates if view.state == "scored" and None not in view.values]
    assert len(marks) == len(scored) + 1, "each one, and a ring around the recommended"
    assert all(0 < float(mark.get("cx")) < 680 and 0 < float(mark.get("cy")) < 360 for mark in marks)
    said = [" ".join("".join(mark.itertext()).split()) for mark in marks]
    assert any(now.recommendation.placement in one for one in said)

"""What is said of what a study's runs were computed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from made_study import MadeStudy

from nas_attn.analysis.arithmetic import uses_of, usual_arithmetic
from nas_attn.records import FILLED, Arithmetic, Score
from nas_attn.report.html import render
from nas_attn.storage import Run
from nas_attn.study.reading import snapshot
from nas_attn.words.as_json import snapshot_as_json
from nas_attn.words.machine import arithmetic_lines

FULL = Arithmetic("float32", "channels_last", "eager", "none", True, FILLED)
LOW = replace(FULL, precision="bfloat16")
ON_GPU = replace(LOW, execution="cuda-graph", tf32="convolutions")


def test_what_was_decided_comes_first_then_what_some_machines_had_to_do() -> None:
    decided = {"cpu": LOW.text, "cpu own-protocol": FULL.text, "cuda": ON_GPU.text}
    uses = uses_of(decided, {LOW.text: 5, None: 2}, recorded=True)
    assert [(use.arithmetic, use.devices, use.runs) for use in uses] == [
        (LOW, ("cpu",), 5),
        (FULL, ("cpu",), 0),
        (ON_GPU, ("cuda",), 0),
    ]
    marked = uses_of({"cpu": LOW.text}, {LOW.text: 5, FULL.text: 1}, recorded=True)[-1]
    assert (marked.arithmetic, marked.devices, marked.runs) == (FULL, (), 1)
    (before,) = uses_of({}, {None: 4}, recorded=False)
    assert (before.arithmetic, before.runs) == (None, 4)


def test_runs_that_do_not_say_count_as_most_do() -> None:
    assert usual_arithmetic([None, "b", "a", "b", None]) == "b"
    assert usual_arithmetic([None, None]) == ""


def test_the_report_says_what_the_runs_were_computed_in(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none")
    made.store.arithmetics.put_once("cpu", LOW.text)
    for seed, text in enumerate((LOW.text, FULL.text)):
        score = Score(seed, 0, 1, {"accuracy": 0.5, "loss": 1.0}, arithmetic=text)
        made.store.add_score(Run("key-000", "none", seed), score, lease=made.lease)
    now = snapshot(made.store)
    lines = arithmetic_lines(now.arithmetic)
    assert len(lines) == 2
    assert all(line in render(now) for line in lines)
    assert [use["arithmetic"]["precision"] for use in snapshot_as_json(now)["arithmetic"]] == [
        "bfloat16",
        "float32",
    ]

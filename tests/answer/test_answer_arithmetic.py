"""What is said of what a study's runs were computed in."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

from made_study import MadeStudy, usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.arithmetic import (
    arithmetic_lines,
    mixed_blocks,
    pairing,
    uses_of,
    usual_arithmetic,
)
from nas_attn.answer.as_json import answer_as_json
from nas_attn.answer.reading import snapshot
from nas_attn.report.html import render
from nas_attn.space.placement import BARE
from nas_attn.storage.records import FILLED, Arithmetic, Score
from nas_attn.storage.rows import Run

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
    assert usual_arithmetic([None, LOW.text, FULL.text, LOW.text, None]) == LOW.text
    assert usual_arithmetic([None, None]) == ""
    eager = replace(ON_GPU, execution="eager")
    mostly = [ON_GPU.text, eager.text, LOW.text, LOW.text, ON_GPU.text]
    assert usual_arithmetic(mostly) == pairing(ON_GPU.text) == pairing(eager.text)
    compiled = replace(ON_GPU, execution="compile")
    assert pairing(compiled.text) != pairing(eager.text)


def test_runs_without_a_recording_count_to_what_was_decided() -> None:
    eager = replace(ON_GPU, execution="eager")
    other = replace(eager, precision="float32")
    runs = {ON_GPU.text: 5, eager.text: 2, other.text: 1}
    uses = uses_of({"cuda": ON_GPU.text}, runs, recorded=True)
    assert [(use.arithmetic, use.devices, use.runs, use.unrecorded) for use in uses] == [
        (ON_GPU, ("cuda",), 7, 2),
        (other, (), 1, 0),
    ]
    first, _ = arithmetic_lines(uses)
    assert "7 runs, 2" in first


def answer_with(folder: Path, *arithmetics: Arithmetic) -> dict[str, Any]:
    """What is said of a study whose runs were computed in these by turns."""
    folder.mkdir()
    made = usual(folder)
    with sqlite3.connect(folder / "made.db") as database:
        rows = database.execute("select key, seed from nas_score group by key, seed").fetchall()
        for number, row in enumerate(rows):
            text = arithmetics[number % len(arithmetics)].text
            query = "update nas_score set arithmetic = ? where key = ? and seed = ?"
            database.execute(query, (text, *row))
    found = answer_as_json(answer_of(snapshot(made.store)))
    for candidate in found["candidates"]:
        for point in candidate["scores"]:
            del point["arithmetic"]
    apart = ("arithmetic", "backbone", "created_at")
    return {name: value for name, value in found.items() if name not in apart}


def test_recorded_runs_and_eager_ones_are_compared_as_equals(tmp_path: Path) -> None:
    eager = replace(ON_GPU, execution="eager")
    equal = answer_with(tmp_path / "equal", eager)
    assert answer_with(tmp_path / "recorded", ON_GPU, eager) == equal
    assert answer_with(tmp_path / "mixed", eager, FULL) != equal


def test_a_block_of_a_test_may_have_recorded_and_eager_runs() -> None:
    eager = replace(ON_GPU, execution="eager")

    def block(*arithmetics: Arithmetic) -> dict[str, dict[int, Score]]:
        return {
            f"network {number}": {0: Score(0, 0, 1, {}, arithmetic=one.text)}
            for number, one in enumerate(arithmetics)
        }

    assert mixed_blocks(block(ON_GPU, eager)) == set()
    assert mixed_blocks(block(eager, FULL)) == {0}


def test_the_report_says_what_the_runs_were_computed_in(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none")
    made.store.arithmetics.put_once("cpu", LOW.text)
    for seed, text in enumerate((LOW.text, FULL.text)):
        score = Score(seed, 0, 1, {"accuracy": 0.5, "loss": 1.0}, arithmetic=text)
        made.store.add_score(Run("key-000", BARE, seed), score, lease=made.lease)
    now = snapshot(made.store)
    lines = arithmetic_lines(now.arithmetic)
    assert len(lines) == 2
    assert all(line in render(answer_of(now)) for line in lines)
    assert [
        use["arithmetic"]["precision"] for use in answer_as_json(answer_of(now))["arithmetic"]
    ] == [
        "bfloat16",
        "float32",
    ]

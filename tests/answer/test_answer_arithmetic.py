"""Which runs are compared, by what they were computed in."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

from made_study import usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.arithmetic import mixed_blocks, pairing, usual_arithmetic
from nas_attn.answer.as_json import answer_as_json
from nas_attn.answer.reading import snapshot
from nas_attn.storage.records import FILLED, Arithmetic, Score

FULL = Arithmetic("float32", "channels_last", "eager", "none", True, FILLED)
LOW = replace(FULL, precision="bfloat16")
ON_GPU = replace(LOW, execution="cuda-graph", tf32="convolutions")


def test_runs_that_do_not_say_count_as_most_do() -> None:
    assert usual_arithmetic([None, LOW.text, FULL.text, LOW.text, None]) == LOW.text
    assert usual_arithmetic([None, None]) == ""
    eager = replace(ON_GPU, execution="eager")
    mostly = [ON_GPU.text, eager.text, LOW.text, LOW.text, ON_GPU.text]
    assert usual_arithmetic(mostly) == pairing(ON_GPU.text) == pairing(eager.text)
    compiled = replace(ON_GPU, execution="compile")
    assert pairing(compiled.text) != pairing(eager.text)


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
    apart = ("backbone", "created_at")
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

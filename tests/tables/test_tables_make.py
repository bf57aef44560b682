"""The script that makes a table: the order of its runs, and that it goes on where it was killed."""

from __future__ import annotations

import runpy
from pathlib import Path

from nas_attn import recipe_reading

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "tables" / "make.py"


def test_every_problem_is_a_recipe_whose_target_starts_from_scratch() -> None:
    problems = sorted(SCRIPT.parent.glob("*.toml"))
    assert len(problems) >= 4
    for path in problems:
        of = recipe_reading.load_recipe(str(path))
        assert (of.training.start, of.target_training.start) == ("backbone", "scratch")


def test_a_part_of_a_block_is_of_use(tmp_path: Path) -> None:
    found = runpy.run_path(str(SCRIPT), run_name="make")
    bench = found["Bench"]("cued-digits", tmp_path)
    order = bench.order()
    assert len(set(order)) == 64
    assert order[0] == "none"
    assert all(text.count("stage") == 3 for text in order[1:4])  # uniform
    assert all(text.count("stage") == 1 for text in order[4:13])
    backbone, runs = next(found["tasks"](bench, 4, set())), list(found["tasks"](bench, 1, set()))[1]
    assert [task.kind for task in backbone] == ["backbone"]
    assert [task.kind for task in runs[:3]] == ["search", "target", "search"]
    assert [task.placement for task in runs if task.kind == "repeat"] == order[:13]
    assert len(runs) == len(set(runs)) == 64 + 64 + 13

"""Controls: plain layers, which a study that measures latency tries at all of its sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas_attn.recipe_reading import load_recipe
from nas_attn.study.opening import open_study
from nas_attn.study.reading import snapshot
from nas_attn.study.searching import Options, begin, first_controls, plan_recipe, work

CHANGES = {"search.trials": 6, "search.confirm_seeds": 0, "space": {"name": "one", "choices": {"simam": {}}}}
EVALUATOR = """
import zlib

def evaluate(model, run):
    gain = 0.02 * run.placement.count("simam") + 0.01 * run.placement.count("dwconv")
    return {"accuracy": 0.5 + gain + zlib.crc32(f"{run.placement}{run.seed}".encode()) % 100 / 20000}
"""


@pytest.mark.parametrize(
    ("more", "controls"),
    [
        ({}, 0),
        ({"search.trials": 8}, 2),
        ({"search.trials": 8, "search.baselines": "bare"}, 0),
        ({"search.trials": 8, "objectives": ["accuracy", "params"]}, 0),
    ],
    ids=["too few trials", "enough", "not asked for", "no latency"],
)
def test_who_tries_controls(more: dict[str, object], controls: int) -> None:
    recipe = load_recipe("cued-digits", overrides={**CHANGES, **more})
    found = first_controls(recipe, plan_recipe(recipe))
    assert len(found) == controls
    assert all(text in resolved.text for resolved in found.values() for text in ("stage1=", "stage2=", "stage3="))


def test_controls_run_as_baselines_and_are_never_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gaining.py").write_text(EVALUATOR)
    quick = {"training.start": "scratch", "training.rungs": [1], "training.evaluator": "gaining:evaluate"}
    timed = {"latency.session_seconds": 0.02, "latency.max_sessions": 2}
    recipe = load_recipe("cued-digits", overrides={**CHANGES, **quick, **timed, "search.trials": 8})
    begin(recipe, "sqlite:///nas_attn.db")
    begin(recipe, "sqlite:///nas_attn.db")  # and again: nothing is queued twice
    opened = open_study("cued-digits", "sqlite:///nas_attn.db")
    work(opened, Options(say=lambda line: None))
    now = snapshot(opened.store)
    assert {view.baseline for view in now.controls} == {"control dwconv", "control conv"}
    assert all(view.state == "scored" and view.latency is not None for view in now.controls)
    assert not {view.key for view in now.controls} & {view.key for view in (*now.front, *now.baselines)}
    assert now.recommendation is not None
    assert now.recommendation.capacity is not None
    assert now.recommendation.capacity.key in {view.key for view in now.controls}
    assert len(now.candidates) == 8

"""Rungs in a whole search, with an evaluator that looks its answers up."""

import threading
from pathlib import Path

import pytest

from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.opening import create_study, open_study
from nas_attn.study.reading import snapshot

URL = "sqlite:///nas_attn.db"
EVALUATOR = """
WORTH = {"none": 0.0, "se": 2.0, "eca": 3.0, "simam": -1.0}

def evaluate(model, run):
    parts = [] if run.placement == "none" else run.placement.split(" stage")
    worth = sum(WORTH[part.split("=")[1].split("(")[0]] for part in parts)
    return {"score": RETURNED, "effort": float(len(parts))}
"""


@pytest.mark.parametrize("ends", ["nothing", "scores"])
def test_a_rung_at_which_all_score_the_same_prunes_nobody(table: Path, ends: str) -> None:
    """As a detector that has found nothing yet: else the networks' cost alone would decide, and one be left to speak of."""
    returned = "0.0" if ends == "nothing" else "0.0 if run.rung == 0 else worth"
    (table / "table_evaluator.py").write_text(EVALUATOR.replace("RETURNED", returned))
    text = (table / "table.toml").read_text().replace('["score", "-effort"]', '["score", "params"]')
    (table / "table.toml").write_text(text)
    overrides = {"search.trials": 8, "search.confirm_seeds": 0, "search.pruner": "pareto_halving"}
    opened = create_study(load_recipe("table.toml", overrides=overrides), URL)
    options = searching.Options(say=lambda line: None, stop=threading.Event(), device="cpu", threads=1)
    assert searching.work(opened, options) == "complete"
    found = snapshot(open_study("table", URL).store)
    assert [view.state for view in found.candidates] == ["scored"] * 8
    assert [constant.metric for constant in found.constants] == (["score"] if ends == "nothing" else [])

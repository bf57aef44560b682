from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_study import usual
from runs_made import runs

from nas_attn.analysis.fronts import front_odds, front_of
from nas_attn.model import fit
from nas_attn.study.reading import snapshot

OBJECTIVES = ("accuracy", "latency")
EFFECTS = {"a": 0.0, "b": 0.05, "c": 0.0501, "d": -0.05}
LATENCY = {"a": 1.0, "b": 1.2, "c": 1.2, "d": 1.1}
TEXTS = {key: f"stage1={key}" for key in EFFECTS}


def model(noise: float = 0.004):
    return fit(runs(EFFECTS, np.random.default_rng(0), noise=noise, seeds=4), TEXTS, metric="accuracy")


def test_a_front_is_of_what_has_all_objectives() -> None:
    rows = {"a": (0.7, 1.0), "b": (0.8, 1.2), "c": (0.6, 1.1), "d": (None, 0.5), "e": (0.9, math.nan), "f": (0.9,)}
    assert front_of(OBJECTIVES, rows) == {"a", "b"}
    assert front_of(OBJECTIVES, {}) == set()


def test_the_odds_are_sure_where_the_evidence_is_and_shared_where_it_is_not() -> None:
    odds = front_odds(OBJECTIVES, {key: (0.0, LATENCY[key]) for key in EFFECTS}, model(), np.random.default_rng(0))
    assert odds["a"] == 1.0, "the fastest"
    assert odds["d"] < 0.02
    assert 0.1 < odds["b"] < 0.9
    assert odds["b"] + odds["c"] == pytest.approx(1.0, abs=0.1)
    assert front_odds(OBJECTIVES, {"a": (0.0, None)}, model(), np.random.default_rng(0)) == {}
    assert front_odds(("loss", "latency"), {"a": (0.0, 1.0)}, model(), np.random.default_rng(0)) == {}


def test_a_snapshot_has_the_odds_of_belonging_to_the_front(tmp_path: Path) -> None:
    now = snapshot(usual(tmp_path).store)
    scored = [view for view in now.candidates if view.state == "scored"]
    assert all(0 <= view.front_odds <= 1 for view in scored)
    assert sum(view.front_odds for view in scored) >= 1
    assert all(view.front_odds is None for view in now.candidates if view.state != "scored")
    likely = {view.key for view in scored if view.front_odds > 0.8}
    assert likely <= {view.key for view in now.front}

"""Fronts, how likely candidates belong to them, and which members tie."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from made_study import usual
from runs_made import runs

from nas_attn.analysis.fronts import front_odds, front_of, ties
from nas_attn.analysis.latency import suspicious
from nas_attn.model import Evidence, Run, fit
from nas_attn.records import Fingerprint, Latency, Session, SessionSample
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


MACHINE = Fingerprint("cpu", "test", ())


def sessions(ratios: dict[str, float], count: int = 8, spread: float = 0.01) -> list[Session]:
    rng = np.random.default_rng(0)
    return [
        Session(
            fingerprint=MACHINE,
            conditions={},
            started_at=float(number),
            duration_s=1.0,
            reference_ms=2.0,
            control_log_ratio=float(rng.normal(0, 0.002)),
            samples=tuple(
                SessionSample(key, float(np.log(ratio) + rng.normal(0, spread)), 2 * ratio, 0.0, 2 * ratio, 100)
                for key, ratio in ratios.items()
            ),
        )
        for number in range(count)
    ]


def evidence(means: dict[str, float], spread: float = 0.003) -> Evidence:
    rng = np.random.default_rng(1)
    runs = [Run(k, seed, 0, m + float(rng.normal(0, spread))) for k, m in means.items() for seed in range(5)]
    found = fit(runs, {k: "none" if k == "none" else f"stage1=se stage2={k}" for k in means}, metric="accuracy")
    assert found is not None
    return found


def values(accuracy: dict[str, float]) -> dict[str, list[float | None]]:
    return {key: [value, None] for key, value in accuracy.items()}


def test_equals_are_tied_and_clear_differences_in_either_objective_are_not() -> None:
    accuracy = {"a": 0.70, "b": 0.70, "fast": 0.70, "good": 0.75, "none": 0.60}
    measured = sessions({"a": 1.20, "b": 1.20, "fast": 1.05, "good": 1.20})
    found = ties(["accuracy", "latency"], values(accuracy), {"accuracy": evidence(accuracy)}, measured, "none")
    assert found == {"a": ("b",), "b": ("a",), "fast": (), "good": (), "none": ()}


def test_the_bare_backbone_is_told_apart_by_its_ratio_of_one() -> None:
    accuracy = {"slow": 0.70, "same": 0.70, "none": 0.70}
    measured = sessions({"slow": 1.2, "same": 1.0})
    found = ties(["accuracy", "latency"], values(accuracy), {"accuracy": evidence(accuracy)}, measured, "none")
    assert found["none"] == ("same",)


def test_a_predicted_latency_tells_nothing_apart_and_a_counted_cost_always_does() -> None:
    accuracy = {"measured": 0.70, "predicted": 0.70}
    models = {"accuracy": evidence(accuracy)}
    measured = sessions({"measured": 1.5})
    assert ties(["accuracy", "latency"], values(accuracy), models, measured, None)["predicted"]
    counted = {"measured": [0.70, 1000.0], "predicted": [0.70, 1001.0]}
    assert not ties(["accuracy", "params"], counted, models, [], None)["predicted"]


def test_a_session_that_does_not_count_tells_nothing_apart() -> None:
    """Its own control was off, and the candidate has no other: on a noisy machine that ended every worker."""
    accuracy = {"measured": 0.70, "disturbed": 0.70, "none": 0.70}
    (off,) = sessions({"disturbed": 1.5}, count=1)
    all_of_them = [*sessions({"measured": 1.5}), dataclasses.replace(off, control_log_ratio=0.2)]
    models = {"accuracy": evidence(accuracy)}
    found = ties(["accuracy", "latency"], values(accuracy), models, all_of_them, "none")
    assert found == {"measured": ("disturbed",), "disturbed": ("measured", "none"), "none": ("disturbed",)}


def test_a_latency_far_from_what_the_others_say_is_suspicious() -> None:
    rng = np.random.default_rng(2)
    costs = {"none": 0.0, "se(reduction=4)": 0.1, "simam": 0.05}
    texts, latencies = {}, {}
    for number, (one, first) in enumerate(costs.items()):
        for two, second in costs.items():
            for three, third in costs.items():
                key = f"{number}{two}{three}"
                parts = [f"stage{i}={c}" for i, c in enumerate((one, two, three), 1) if c != "none"]
                texts[key] = " ".join(parts) or "none"
                ratio = 1 + first + second + third + float(rng.normal(0, 0.005))
                latencies[key] = Latency(ratio, ratio * 0.99, ratio * 1.01, 2.0, 6)
    assert suspicious(latencies, texts) == []
    wrong = next(key for key, text in texts.items() if text.count("se(") == 2)
    off = latencies[wrong].ratio * 1.5
    latencies[wrong] = Latency(off, off * 0.99, off * 1.01, 2.0, 2)
    assert suspicious(latencies, texts) == [wrong]
    few = dict(list(latencies.items())[:5])
    assert suspicious(few, texts) == []

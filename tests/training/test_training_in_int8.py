"""A search for an int8 runtime: latency and accuracy of the quantized network, and what is said of
them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.answer.reasons import int8_sentence
from nas_attn.errors import RecipeError
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.units import value

TABLE = {
    "name": "small",
    "objectives": ["accuracy_int8", "latency"],
    "space": {"name": "small", "choices": {"se": {"reduction": [4]}}},
    "backbone": {"name": "resnet8", "width": 4},
    "data": {"name": "digits-8x8"},
    "training": {"start": "scratch", "rungs": [1], "batch_size": 128},
    "latency": {"mode": "openvino-int8", "session_seconds": 0.2, "tolerance": 0.9},
    "search": {"trials": 2, "confirm_seeds": 0},
}


@pytest.mark.slow
def test_a_study_is_searched_by_the_accuracy_in_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    study = na.search(
        recipe_from(TABLE, where="here"), say=lambda line: None, device="cpu", threads=1
    )
    views = [view for view in study.candidates() if view.state == "scored"]
    assert len(views) == 2
    for view in views:
        metrics = view.scores[-1].metrics
        assert 0 < metrics["accuracy_int8"] <= 1
        assert abs(metrics["accuracy_int8"] - metrics["accuracy"]) < 0.3
        assert view.latency is not None
        assert value("accuracy_int8", metrics["accuracy_int8"]).endswith("%")


def test_accuracy_in_int8_needs_a_mode_that_quantizes() -> None:
    with pytest.raises(RecipeError, match="accuracy_int8"):
        recipe_from({**TABLE, "latency": {"mode": "openvino"}}, where="here")


def test_a_gain_that_does_not_survive_int8_is_said_so() -> None:
    best = {
        0: {"accuracy": 0.9, "accuracy_int8": 0.8},
        1: {"accuracy": 0.9, "accuracy_int8": 0.8},
        2: {"accuracy": 0.9},
    }
    bare = {
        0: {"accuracy": 0.8, "accuracy_int8": 0.81},
        1: {"accuracy": 0.8, "accuracy_int8": 0.81},
    }
    change = int8_sentence("accuracy", "openvino-int8", "it", best, bare)
    assert "by −1.0 points, in float32 by +10.0 points" in change
    assert "2 runs" in change
    assert "does not survive" in change
    survivor = {0: {"accuracy": 0.8, "accuracy_int8": 0.7}}
    kept = int8_sentence("accuracy", "openvino-int8", "it", best, survivor)
    assert "1 run)" in kept
    assert "does not survive" not in kept
    assert not int8_sentence("accuracy", "openvino-int8", "it", best, {0: {"accuracy": 0.8}})

from __future__ import annotations

import numpy as np
import pytest
from made_study import recipe
from runs_made import additive, placements, runs

from nas_attn.answer.cautions import CautionKind, at_two_values, cautions
from nas_attn.model import ScoredRun, fit
from nas_attn.storage.records import Score


def score(
    rung: int, accuracy: float, *, seed: int = 0, images: int = 2000, **metrics: float
) -> Score:
    known = {
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "loss": 1.0,
        "train_loss_sum": 1.0 + rung,
    }
    return Score(seed, rung, [1, 3][rung], known | metrics, examples=images)


@pytest.mark.parametrize(
    ("scores", "classes", "kinds"),
    [
        ([score(0, 0.68), score(1, 0.70)], 10, []),
        ([score(0, 0.20), score(1, 0.24)], 5, [CautionKind.HARDLY_LEARNED]),
        ([score(0, 0.40), score(1, 0.70)], 5, [CautionKind.STILL_LEARNING]),
        (
            [score(0, 0.10), score(1, 0.10, train_loss_sum=12.0, loss=6300.0)],
            10,
            [CautionKind.HARDLY_LEARNED],
        ),  # it diverged
        ([score(0, 0.69), score(1, 0.70, images=64)], 10, [CautionKind.FEW_IMAGES]),
        (
            [score(0, 0.20), score(1, 0.22, images=64)],
            5,
            [CautionKind.HARDLY_LEARNED, CautionKind.FEW_IMAGES],
        ),
        ([score(0, 0.20)], 5, []),
    ],
)
def test_what_speaks_against_any_conclusion(
    scores: list[Score], classes: int, kinds: list[CautionKind]
) -> None:
    made = recipe(training={"rungs": [1, 3], "start": "scratch"})
    found = cautions(made, "accuracy", [], scores, classes)
    assert [caution.kind for caution in found] == kinds
    for caution in found:
        if caution.kind is CautionKind.FEW_IMAGES:
            assert "64 validation images" in caution.text


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_few_images_are_said_of_every_metric_of_classes(metric: str) -> None:
    made = recipe(training={"rungs": [1, 3], "start": "scratch"})
    scores = [score(0, 0.69, images=64), score(1, 0.70, images=64, macro_f1=0.7)]
    found = cautions(made, metric, [], scores, 10)
    (few,) = [caution for caution in found if caution.kind is CautionKind.FEW_IMAGES]
    assert "1.6 points" in few.text
    assert ("on average" in few.text) == (metric != "accuracy")


def test_runs_that_end_near_one_of_two_values_are_a_caution() -> None:
    rng = np.random.default_rng(0)
    texts = placements(12, rng)
    two = [
        ScoredRun(key, seed, 0, 0.9 if rng.random() < 0.5 else 0.5)
        for key in texts
        for seed in range(3)
    ]
    (caution,) = at_two_values(fit(two, texts, metric="accuracy"))
    assert caution.kind is CautionKind.TWO_VALUES
    assert "50.00 % or 90.00 %" in caution.text
    one = runs(additive(texts, rng, 0.02), rng, noise=0.01, seeds=3)
    assert at_two_values(fit(one, texts, metric="accuracy")) == []
    assert at_two_values(None) == []


def test_a_backbone_that_goes_on_learning_in_the_search_is_noticed() -> None:
    made = recipe(training={"rungs": [1, 3], "start": "backbone", "backbone_epochs": 10})
    bare = [
        Score(0, rung, 1 + 2 * rung, {"accuracy": 0.5 + 0.1 * rung}, examples=2000)
        for rung in (0, 1)
    ]
    for before, said in ((0.59, 0), (0.50, 1)):
        start = [Score(0, 0, 10, {"accuracy": before}, examples=2000)]
        assert len(cautions(made, "accuracy", start, bare, 10)) == said

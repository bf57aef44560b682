from __future__ import annotations

import numpy as np
import pytest
from made_study import recipe
from runs_made import additive, placements, runs

from nas_attn.answer.cautions import CautionKind, WeakRung, cautions, weak_rungs
from nas_attn.model import fit
from nas_attn.storage.records import Score


def found(size: float, count: int = 24, **search: object) -> list[WeakRung]:
    """What is noticed of a first rung where placements differ by `size`, and runs by .01."""
    rng = np.random.default_rng(0)
    texts = placements(count, rng)
    brief = runs(additive(texts, rng, size), rng, noise=0.01, seeds=2, level=0.01)
    model = fit(brief, texts, metric="accuracy", rung=0)
    made = recipe(search=search)
    return weak_rungs(
        made, "accuracy", [(("accuracy", 0), model), (("loss", 0), model), (("accuracy", 1), model)]
    )


def test_a_rung_that_says_nothing_is_noticed_with_what_to_change() -> None:
    (weak,) = found(0.0)
    assert (weak.rung, weak.epochs, weak.candidates) == (0, 1, 24)
    assert weak.reliability < 0.1
    assert "training.rungs" in weak.sentence
    (unpruned,) = found(0.0, pruner="none")
    assert "training.rungs" not in unpruned.sentence


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
        ([score(0, 0.69), score(1, 0.70, train_loss_sum=1.02)], 10, [CautionKind.LEARNED_BY_HEART]),
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
    found = cautions(made, "accuracy", [], scores, classes, paired_sd=0.05)
    assert [caution.kind for caution in found] == kinds
    for caution in found:
        if caution.kind is CautionKind.FEW_IMAGES:
            assert "64 validation images" in caution.text
            assert "with 1 run each may differ by 14 points" in caution.text


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1"])
def test_few_images_are_said_of_every_metric_of_classes(metric: str) -> None:
    made = recipe(training={"rungs": [1, 3], "start": "scratch"})
    scores = [score(0, 0.69, images=64), score(1, 0.70, images=64, macro_f1=0.7)]
    found = cautions(made, metric, [], scores, 10, paired_sd=0.05)
    (few,) = [caution for caution in found if caution.kind is CautionKind.FEW_IMAGES]
    assert "1.6 points" in few.text
    assert ("on average" in few.text) == (metric != "accuracy")


def test_losses_that_are_not_comparable_say_nothing_of_learning_by_heart() -> None:
    scores = [score(0, 0.69), score(1, 0.70, train_loss_sum=1.02, loading_share=0.4)]
    for changes in (
        {"loss": "BCEWithLogitsLoss"},
        {"augment": [{"name": "RandomChoice", "transforms": ["MixUp"]}]},
    ):
        made = recipe(training={"rungs": [1, 3], "start": "scratch", **changes})
        (waits,) = cautions(made, "accuracy", [], scores, 10)
        assert waits.kind is CautionKind.WAITS_FOR_IMAGES
        assert "40 %" in waits.text


def test_a_backbone_that_goes_on_learning_in_the_search_is_noticed() -> None:
    made = recipe(training={"rungs": [1, 3], "start": "backbone", "backbone_epochs": 10})
    bare = [
        Score(0, rung, 1 + 2 * rung, {"accuracy": 0.5 + 0.1 * rung}, examples=2000)
        for rung in (0, 1)
    ]
    for before, said in ((0.59, 0), (0.50, 1)):
        start = [Score(0, 0, 10, {"accuracy": before}, examples=2000)]
        assert len(cautions(made, "accuracy", start, bare, 10)) == said

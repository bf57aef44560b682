"""Studies by metrics in which each class counts the same: they say what holds for new images."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_study import IMAGES, MadeStudy, recipe

from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import answer_lines
from nas_attn.answer.reading import snapshot
from nas_attn.errors import StorageError
from nas_attn.recipe.purposes import SEARCH, TEST_PROTOCOL
from nas_attn.recipe.tables import METRICS
from nas_attn.storage.labels import Labels, keep_labels
from nas_attn.storage.records import Score
from nas_attn.training.tasks.class_scores import class_metrics, confusion

SE = "stage1=se(reduction=8)"


class Classified(MadeStudy):
    """A study of images of four classes; each wrong one is taken for the class after its own."""

    def __init__(self, folder: Path, metric: str, *, labelled: bool = True) -> None:
        super().__init__(folder, recipe(objectives=[metric, "latency"]), name=f"made{labelled}")
        self.labels = self.rng.choice(4, IMAGES, p=[0.6, 0.2, 0.15, 0.05]).astype(np.int32)
        for protocol in (SEARCH, TEST_PROTOCOL) if labelled else ():
            keep_labels(self.store, protocol, Labels(tuple("abcd"), self.labels))
        self.candidate("none", baseline="none", seeds=4)
        self.candidate(SE, seeds=4)
        self.sessions()

    def completed(self, score: Score) -> Score:
        right = np.unpackbits(np.frombuffer(score.correct or b"", np.uint8), count=IMAGES) > 0
        predicted = np.where(right, self.labels, (self.labels + 1) % 4)
        counts = confusion(torch.from_numpy(self.labels), torch.from_numpy(predicted), 4)
        answers = json.dumps({"wrong": predicted[~right].tolist()})
        return replace(
            score,
            metrics={**score.metrics, **class_metrics(counts)},
            answers=zlib.compress(answers.encode()),
        )


class Damaged(Classified):
    """A study whose answers came to harm."""

    def completed(self, score: Score) -> Score:
        return replace(super().completed(score), answers=b"damaged")


@pytest.fixture(params=["balanced_accuracy", "macro_f1"])
def metric(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_gains_hold_for_new_images_where_it_is_known_what_each_contributes(
    tmp_path: Path, metric: str
) -> None:
    known, unknown = (
        snapshot(Classified(tmp_path, metric, labelled=labelled).store)
        for labelled in (True, False)
    )
    assert known.evidence[metric].on_new_images
    assert not unknown.evidence[metric].on_new_images


def test_the_answer_says_which_metric_it_is_about(tmp_path: Path, metric: str) -> None:
    now = snapshot(Classified(tmp_path, metric).store)
    assert METRICS[metric].title in " ".join(answer_lines(answer_of(now)))


def test_a_test_tells_what_holds_for_new_images(tmp_path: Path, metric: str) -> None:
    study = Classified(tmp_path, metric)
    study.validation({"key-001": SE, "key-000": "none"}, metric=metric)
    now = snapshot(study.store)
    ((verdict,),) = (result.verdicts for result in now.validations)
    assert verdict.new_low is not None
    # it may be as wide: with few blocks, the trainings alone decide
    assert verdict.new_low <= verdict.low
    assert verdict.between == (verdict.new_low, verdict.new_high)
    assert list(now.pooled) == [verdict]


def test_damaged_answers_end_in_one_sentence(tmp_path: Path) -> None:
    study = Damaged(tmp_path, "macro_f1")
    study.candidate("stage2=se(reduction=8)", seeds=4)
    with pytest.raises(StorageError, match="backup"):
        snapshot(study.store)

"""Accuracy class by class, and images that two networks classify differently."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_study import IMAGES, MadeStudy, everywhere, usual

from nas_attn.analysis.per_image import SHOWN, examples
from nas_attn.data import Split
from nas_attn.data.parts import InMemory
from nas_attn.evaluation.artifacts import keep_labels
from nas_attn.records import Score
from nas_attn.report.html import render
from nas_attn.storage import SEARCH
from nas_attn.study.reading import snapshot

SE = "se(reduction=8)"


def split() -> Split:
    labels = torch.arange(IMAGES) % 4
    return Split(InMemory(torch.zeros(IMAGES, 1, 1, 1, dtype=torch.uint8)), labels, 4, (0.0,), (1.0,))


def test_it_is_the_mean_over_runs_of_each_classs_share(tmp_path: Path) -> None:
    made = usual(tmp_path)
    assert snapshot(made.store).by_class is None, "a study without labels"
    keep_labels(made.store, SEARCH, split(), ("ant", "bee", "<cat>", "dog"))
    now = snapshot(made.store)
    found = now.by_class
    assert found is not None
    assert found.images == (IMAGES // 4,) * 4
    assert now.recommendation is not None
    assert set(found.values) == {now.recommendation.key, "key-000"}
    for key, shares in found.values.items():
        runs = [s.score.correct for s in made.store.scores(key, with_correct=True) if s.score.rung == 1]
        rights = [np.unpackbits(np.frombuffer(run or b"", np.uint8), count=IMAGES) for run in runs]
        expected = np.mean([[right[label::4].mean() for label in range(4)] for right in rights], axis=0)
        assert shares == pytest.approx(expected)
    page = render(now)
    assert "Class by class" in page
    assert "balanced accuracy" in page
    assert "&lt;cat&gt;" in page


def test_a_validations_runs_are_told_class_by_class_too(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    best, bare = made.candidate(everywhere(SE)), made.candidate("none", baseline="none")
    made.validation({best: everywhere(SE), bare: "none"}, gain={best: 0.05})
    keep_labels(made.store, "target/test", split(), tuple("abcd"))
    (result,) = snapshot(made.store).validations
    assert result.by_class is not None
    assert np.mean(result.by_class.values[best]) == pytest.approx(np.mean(result.values[best]))
    assert "On the test split class by class" in render(snapshot(made.store))


def run(right: list[int], count: int = 20) -> Score:
    bits = np.isin(np.arange(count), right)
    return Score(0, 1, 3, {}, correct=np.packbits(bits).tobytes(), examples=count)


def test_images_on_which_two_networks_differ_are_counted_and_the_clearest_come_first() -> None:
    bare = [run([0, 1, 2]), run([0, 1, 2, 9])]
    best = [run([0, 9, 10, 11]), run([0, 10, 11])]
    found = examples(bare, best)
    assert found is not None
    assert (found.better, found.worse, found.runs) == (2, 2, (2, 2)), "image 9 is right as often with both"
    assert [(one.image, one.bare, one.best) for one in found.gained] == [(10, 0.0, 1.0), (11, 0.0, 1.0)]
    assert [one.image for one in found.lost] == [1, 2]


def test_few_are_shown_and_none_without_results_per_image() -> None:
    found = examples([run([])], [run(list(range(12)))])
    assert found is not None
    assert (found.better, len(found.gained), found.lost) == (12, SHOWN, ())
    assert examples([], [run([1])]) is None
    assert examples([Score(0, 1, 3, {})], [run([1])]) is None
    assert examples([run([1])], [run([1], count=30)]) is None, "of other images"

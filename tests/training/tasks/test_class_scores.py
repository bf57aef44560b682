"""The metrics of classes, from counts of true and predicted ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from nas_attn.training.tasks.class_scores import class_metrics, confusion


@given(st.integers(2, 7), st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_class_metrics_are_scikit_learns(classes: int, images: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, classes, (2, images))
    counts = confusion(torch.from_numpy(labels), torch.from_numpy(predicted), classes)
    assert np.array_equal(counts, confusion_matrix(labels, predicted, labels=np.arange(classes)))
    found = class_metrics(counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on classes that are predicted and not there
        assert found["balanced_accuracy"] == pytest.approx(
            balanced_accuracy_score(labels, predicted)
        )
        there = np.unique(labels)
        assert found["macro_f1"] == pytest.approx(
            f1_score(labels, predicted, labels=there, average="macro")
        )

"""Metrics of several labels and of numbers: as scikit-learn has them, and per image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch.nn.functional import binary_cross_entropy_with_logits

from nas_attn.errors import RecipeError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.training.learnt import Learnt, learnt_of

Floats = NDArray[np.float64]
MOMENTS = torch.tensor([100.0, -3.0, 0.5]), torch.tensor([20.0, 0.25, 7.0])


def labelled(rng: np.random.Generator, images: int = 300) -> tuple[Floats, Floats]:
    """Logits and labels of three kinds, of which the last is rare; some logits are equal."""
    true = (rng.random((images, 3)) < (0.5, 0.3, 0.08)).astype(float)
    logits = rng.normal(size=(images, 3)) + 2 * true - 1
    return np.round(logits, 1), true


def numbered(rng: np.random.Generator, images: int = 300) -> tuple[Floats, Floats]:
    """What a network gives, in standard deviations, and the numbers in their units."""
    mean, deviation = (moment.numpy() for moment in MOMENTS)
    true = mean + deviation * rng.normal(size=(images, 3))
    return (true - mean) / deviation + 0.4 * rng.normal(size=true.shape), true


def scored(name: str, given: Floats, true: Floats, batch: int = 64) -> Learnt:
    tally = learnt_of(tasks.TASKS[name], 3, moments=MOMENTS)
    for start in range(0, len(true), batch):
        part = slice(start, start + batch)
        tally.add(torch.from_numpy(given[part]).float(), torch.from_numpy(true[part]).float())
    return tally


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_labels_are_those_of_scikit_learn(seed: int) -> None:
    logits, true = labelled(np.random.default_rng(seed))
    found = scored("multi-label", logits, true).metrics(0.25)
    assert found["mean_ap"] == pytest.approx(metrics.average_precision_score(true, logits))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, logits > 0, average="macro"))
    assert found["loss"] == 0.25


@pytest.mark.parametrize("seed", range(4))
def test_metrics_of_numbers_are_those_of_scikit_learn_in_the_users_units(seed: int) -> None:
    given, true = numbered(np.random.default_rng(seed))
    mean, deviation = (moment.numpy() for moment in MOMENTS)
    found = scored("regression", given, true).metrics(0.0)
    units = mean + deviation * given
    assert set(found) == {"mae", "r2"}
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(true, units), rel=1e-5)
    assert found["r2"] == pytest.approx(metrics.r2_score(true, units), rel=1e-5)


def test_a_label_that_no_scored_image_has_is_left_out() -> None:
    logits, true = labelled(np.random.default_rng(0))
    true[:, 2] = 0
    tally = scored("multi-label", logits, true)
    expected = metrics.average_precision_score(true[:, :2], logits[:, :2])
    assert tally.metrics(0.0)["mean_ap"] == pytest.approx(expected)
    assert tally.answers()["average_precision"][2] is None
    nothing = scored("multi-label", logits, np.zeros_like(true)).metrics(0.0)
    assert (nothing["mean_ap"], nothing["macro_f1"]) == (0, 0)


def test_a_column_that_is_the_same_for_all_scored_images_explains_nothing() -> None:
    given, true = numbered(np.random.default_rng(0))
    true[:, 0] = 7
    found = scored("regression", given, true).metrics(0.0)
    units = (MOMENTS[0] + MOMENTS[1] * torch.from_numpy(given)).numpy()
    assert found["r2"] == pytest.approx(metrics.r2_score(true[:, 1:], units[:, 1:]), rel=1e-5)
    assert scored("regression", given[:1], true[:1]).metrics(0.0)["r2"] == 0


@pytest.mark.parametrize(
    ("name", "made", "metric"),
    [
        ("multi-label", labelled, "mean_ap"),
        ("multi-label", labelled, "macro_f1"),
        ("regression", numbered, "mae"),
        ("regression", numbered, "r2"),
    ],
)
def test_what_images_contribute_is_the_metric_on_average_and_spreads_as_new_images_do(
    name: str, made: Callable[[np.random.Generator], Any], metric: str
) -> None:
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(300):
        tally = scored(name, *made(rng))
        each = np.array(tally.answers()["contributions"][metric])
        value = tally.metrics(0.0)[metric]
        assert each.mean() == pytest.approx(value, rel=1e-4)
        values.append(value)
        errors.append(each.std() / math.sqrt(len(each)))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_a_column_is_scored_on_the_images_of_which_it_is_known(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, true = labelled(rng)
    given, numbers = numbered(rng)
    unknown = rng.random(true.shape) < (0.0, 0.3, 0.6)
    units = (MOMENTS[0] + MOMENTS[1] * torch.from_numpy(given)).numpy()
    columns = [(column, ~unknown[:, column]) for column in range(3)]
    of_labels = scored("multi-label", logits, np.where(unknown, np.nan, true))
    of_numbers = scored("regression", given, np.where(unknown, np.nan, numbers))

    def mean(metric: Callable[..., float], right: Floats, found: Floats) -> float:
        return float(np.mean([metric(right[rows, c], found[rows, c]) for c, rows in columns]))

    precision = mean(metrics.average_precision_score, true, logits)
    f1 = mean(metrics.f1_score, true, (logits > 0).astype(float))
    found = of_labels.metrics(0.0)
    assert (found["mean_ap"], found["macro_f1"]) == pytest.approx((precision, f1))
    by_label = of_labels.answers()["average_precision"]
    assert np.mean(by_label) == pytest.approx(precision)
    wanted = [mean(one, numbers, units) for one in (metrics.mean_absolute_error, metrics.r2_score)]
    of_all = of_numbers.metrics(0.0)
    assert (of_all["mae"], of_all["r2"]) == pytest.approx(tuple(wanted), rel=1e-5)


def with_unknown(rng: np.random.Generator) -> tuple[Floats, Floats]:
    logits, true = labelled(rng, images=600)
    return logits, np.where(rng.random(true.shape) < 0.4, np.nan, true)


def test_intervals_hold_with_unknown_labels_too() -> None:
    rng = np.random.default_rng(5)
    values, errors = [], []
    for _ in range(300):
        tally = scored("multi-label", *with_unknown(rng))
        each = np.array(tally.answers()["contributions"]["macro_f1"])
        values.append(tally.metrics(0.0)["macro_f1"])
        assert each.mean() == pytest.approx(values[-1], rel=1e-4)
        errors.append(each.std() / math.sqrt(len(each)))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_an_unknown_value_teaches_nothing(task: str) -> None:
    learnt = learnt_of(tasks.TASKS[task], 3, moments=(torch.full((3,), 0.5), torch.ones(3)))
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = (torch.arange(18).view(6, 3) % 2).float()
    unknown = torch.arange(18).view(6, 3) % 5 == 0
    for loss in (learnt.training_loss, learnt.loss):
        whole = loss(logits.detach(), y)
        part = loss(logits, y.masked_fill(unknown, math.nan))
        (gradient,) = torch.autograd.grad(part, logits)
        assert bool((gradient[unknown] == 0).all())
        assert bool((gradient[~unknown] != 0).all())
        assert 0 < part.item() < whole.item()


def labels_learnt(share: float) -> Learnt:
    moments = torch.tensor([share]), torch.ones(1)
    return learnt_of(tasks.TASKS["multi-label"], 1, moments=moments)


def test_images_with_a_rare_label_count_as_much_as_those_without_it() -> None:
    logits, y = torch.zeros(8, 1), torch.tensor([[1.0]] + 7 * [[0.0]])
    learnt = labels_learnt(1 / 8)
    logits.requires_grad_()
    learnt.training_loss(logits, y).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)
    # the log-loss that is told has no weights
    plain = binary_cross_entropy_with_logits(logits, y, reduction="sum")
    assert learnt.loss(logits, y).item() == pytest.approx(plain.item())


def test_no_label_is_so_rare_that_one_image_decides_a_step() -> None:
    logits, y = torch.zeros(1, 1), torch.ones(1, 1)
    rare, rarer = (labels_learnt(share).training_loss(logits, y) for share in (1e-3, 1e-6))
    assert rare.item() == rarer.item()


def test_numbers_are_learnt_in_standard_deviations() -> None:
    learnt = learnt_of(tasks.TASKS["regression"], 3, moments=MOMENTS)
    given, true = (torch.from_numpy(one).float() for one in numbered(np.random.default_rng(1)))
    moved = true + 5 * MOMENTS[1]
    right = (true - MOMENTS[0]) / MOMENTS[1]
    assert learnt.training_loss(right, true).item() == pytest.approx(0, abs=1e-3)
    # five standard deviations in each column cost the same
    assert learnt.training_loss(right, moved).item() == pytest.approx(4.5 * len(given), rel=1e-3)


@pytest.mark.parametrize(
    ("task", "loss"), [("multi-label", "BCEWithLogitsLoss"), ("regression", "L1Loss")]
)
def test_a_loss_of_torch_is_taken_unless_it_is_for_one_class(task: str, loss: str) -> None:
    def recipe(name: str) -> Recipe:
        content = {"name": "s", "space": "small", "backbone": {"name": "resnet8"}}
        training = {"loss": {"name": name}}
        data = {"data": {"name": "digits"}, "task": {"name": task}, "training": training}
        return recipe_from({**content, **data}, where="a test")

    learnt = learnt_of(tasks.TASKS[task], 3, recipe(loss).training.loss, MOMENTS)
    given, true = labelled(np.random.default_rng(0))
    if task == "regression":
        given, true = numbered(np.random.default_rng(0))
    logits, y = torch.from_numpy(given).float(), torch.from_numpy(true).float()
    # as it stands for labels, and in standard deviations for numbers
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
    if task == "regression":
        wanted = ((y - MOMENTS[0]) / MOMENTS[1] - logits).abs().mean()
    assert learnt.training_loss(logits, y).item() / len(y) == pytest.approx(wanted.item())
    with pytest.raises(RecipeError, match=f"'CrossEntropyLoss' is for one class .* like {loss}"):
        recipe("CrossEntropyLoss")

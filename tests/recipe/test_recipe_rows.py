"""What every row of a table promises: a new cost, sampler or metric is tested from the day it comes.
Modules, latency modes and formats have tests of their own (`make test-row`).
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor

from nas_attn import attachment, backbones
from nas_attn.answer.contributions import contributions_of
from nas_attn.attachment.counting import CountedNetwork, cost
from nas_attn.errors import RecipeError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import BackboneSection, Limits
from nas_attn.recipe.tables import (
    COSTS,
    METRICS,
    SAMPLERS,
    Cost,
    Metric,
    Sampler,
    is_per_image,
    is_share,
    share_of_images,
)
from nas_attn.recipe.task import Task
from nas_attn.searching.propose.sampling import DistinctSampler, distributions
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import SearchSpace
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Latency, Score
from nas_attn.training.learnt import Learnt, learnt_of
from nas_attn.training.plan import over_limits
from nas_attn.training.tasks.classification import Classification
from nas_attn.training.tasks.detection import Detection
from nas_attn.training.tasks.segmentation import Segmentation
from nas_attn.training.tasks.targets import MultiLabel, Regression

SHAPE = (3, 16, 16)


def rows(table: Any) -> list[Any]:
    return [pytest.param(row, id=name) for name, row in table.items()]


# ---------------------------------------------------------------------------------------------
# costs


def network(name: str, width: int) -> CountedNetwork:
    section = BackboneSection(name=name, width=width)
    return CountedNetwork(backbones.build(section, input_shape=SHAPE, classes=3), SHAPE)


@pytest.mark.parametrize("row", rows(COSTS))
def test_a_cost_says_what_it_is_and_grows_with_the_network(row: Cost) -> None:
    assert row.title
    assert row.description
    if row.function is None:
        return
    function = row.function()
    small_network = network("resnet8", width=4)
    # wider and deeper: a cost may count either
    large_network = network("resnet14", width=8)
    small = function(small_network)
    assert 0 < small < function(large_network) < math.inf
    assert cost(small_network.model, SHAPE)[row.name] == small


@pytest.mark.parametrize("row", rows(COSTS))
def test_a_limit_of_a_cost_keeps_out_what_is_beyond_it(row: Cost) -> None:
    if not row.limit:
        return
    recipe = limited(row.limit, 2)
    below, above = (over_limits(recipe, *costs_of(row, value)) for value in (2, 3))
    assert below == ""
    assert f"limits.{row.limit} = 2" in above
    assert "3" in above


def limited(limit: str, value: int) -> Any:
    table = {"name": "made", "backbone": {"name": "resnet8"}, "data": {"name": "digits"}}
    space = {"name": "made", "choices": {"se": {}}}
    return recipe_from({**table, "space": space, "limits": {limit: value}}, where="a test")


def costs_of(row: Cost, value: int) -> tuple[dict[str, int], Latency | None]:
    """(counted costs, latency) of a candidate, of which one is known."""
    if row.function:
        return {row.name: value}, None
    return {}, Latency(value, value, value + 0.5, reference_ms=1.0, sessions=1)


def test_every_limit_of_a_recipe_bounds_one_cost() -> None:
    limits = [row.limit for row in COSTS.values() if row.limit]
    # the same limit, in another unit
    limits.append("max_latency_ms")
    assert sorted(limits) == sorted(Limits.model_fields)


def test_attention_may_be_limited_to_the_latency_of_the_backbone_but_not_to_less() -> None:
    assert limited("max_latency_ratio", 1).limits.max_latency_ratio == 1
    with pytest.raises(RecipeError, match="give 1 or more"):
        limited("max_latency_ratio", 0.9)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------
# samplers


@cache
def space() -> SearchSpace:
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=SHAPE, classes=3)
    spec = {"name": "made", "choices": {"se": {"reduction": [4, 8]}, "eca": {}}}
    return SearchSpace(SpaceSpec.model_validate(spec), attachment.survey(model, SHAPE).sites)


@pytest.mark.parametrize("row", rows(SAMPLERS))
def test_a_sampler_proposes_other_placements_of_the_space_and_the_same_ones_again(
    row: Sampler,
) -> None:
    first, again = (proposals(row.name) for _ in range(2))
    assert row.description
    assert first == again
    assert len({tuple(values.items()) for values in first}) == len(first)
    assert all(space().contains(values) for values in first)


def proposals(name: str) -> list[dict[str, Any]]:
    sampler = DistinctSampler(name, space(), seed=1, trials=12)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(12):
        trial = study.ask(distributions(space()))
        worth = sum(len(value) * (i + 1) for i, value in enumerate(trial.params.values()))
        study.tell(trial, [worth, sum(value != "none" for value in trial.params.values())])
    return [trial.params for trial in study.trials]


# ---------------------------------------------------------------------------------------------
# tasks and their metrics

TASK_METRICS = [
    pytest.param(task, metric, id=f"{name}-{metric}")
    for name, task in tasks.TASKS.items()
    for metric in task.metrics
]


@pytest.mark.parametrize(("task", "metric"), TASK_METRICS)
def test_a_metric_is_best_where_all_is_right(task: Task, metric: str) -> None:
    right, wrong = (measured(task, error)[metric] for error in (0, 1))
    if metric in task.losses:
        assert 0 <= right < wrong < math.inf
    elif is_share(metric):
        assert 0 <= wrong < right <= 1
        assert right == pytest.approx(1, abs=1e-6)
    else:
        assert -math.inf < wrong < right < math.inf


def test_one_metric_is_the_share_of_right_images() -> None:
    (name,) = (row.name for row in METRICS.values() if row.right_or_wrong)
    assert share_of_images() == name


@pytest.mark.parametrize("row", rows(METRICS))
def test_a_row_of_a_metric_fits_together(row: Metric) -> None:
    assert row.title
    assert any(row.name in task.metrics for task in tasks.TASKS.values())
    assert not (row.right_or_wrong and row.per_image), "right and wrong is known without a function"
    if row.kind == "loss":
        assert (row.per_image, row.guess, row.implied) == (None, "", False)


@pytest.mark.parametrize("row", rows(METRICS))
@pytest.mark.parametrize("absent", [(), (1,)])
def test_what_images_contribute_to_a_metric_is_right_on_average_and_spreads_as_new_images_do(
    row: Metric, absent: tuple[int, ...]
) -> None:
    """By the delta method, compared with other images of the same kind."""
    if not is_per_image(row.name):
        return
    rng = np.random.default_rng(3)
    values, errors = [], []
    for _ in range(300):
        labels, predicted = photographs(rng, absent)
        tally = classified(labels, predicted)
        score = Score(
            0,
            0,
            1,
            tally.metrics(0.0),
            correct=tally.right(),
            examples=len(labels),
            answers=zlib.compress(json.dumps(tally.answers()).encode()),
        )
        classes = Labels(tuple("abcd"), labels)
        contributions = contributions_of(row.name, score, classes)
        assert contributions is not None
        assert contributions().mean() == pytest.approx(score.metrics[row.name], abs=1e-5)
        values.append(score.metrics[row.name])
        errors.append(contributions().std() / math.sqrt(len(labels)))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def photographs(rng: np.random.Generator, absent: tuple[int, ...]) -> tuple[Any, Any]:
    """True and found classes of 600 images, of which 1 in 20 is of the rarest class; a network
    never finds one of the classes."""
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    shares[list(absent)] = 0
    labels = rng.choice(4, 600, p=shares / shares.sum()).astype(np.int32)
    taken = np.where(rng.random(600) < 0.3, rng.integers(0, 4, 600), labels)
    return labels, np.where(taken == 3, 0, taken).astype(np.int32)


def classified(labels: Any, predicted: Any) -> Learnt:
    """What is kept of these answers."""
    tally = learnt_of(tasks.TASKS["classification"], 4)
    logits = 9.0 * torch.nn.functional.one_hot(torch.from_numpy(predicted).long(), 4)
    tally.add(logits, torch.from_numpy(labels).long())
    return tally


# of these answers; enough that one of them is not among the best five
CLASSES = 6


def measured(task: Task, error: int) -> dict[str, float]:
    """The metrics of answers for four images, of which `error` are wrong."""
    learnt = learnt_of(task, CLASSES)
    # a task that is a kind of one of these has its answers
    answers: dict[type[Task], Callable[[int], tuple[Any, Tensor]]] = {
        MultiLabel: labels,
        Regression: numbers,
        Classification: classes,
        Segmentation: masks,
        Detection: boxes,
    }
    answer, y = next(make for kind, make in answers.items() if isinstance(task, kind))(error)
    loss = learnt.loss(answer, y).item() / len(y) if task.losses else 0.0
    learnt.add(answer, y)
    return learnt.metrics(loss)


def classes(error: int) -> tuple[Tensor, Tensor]:
    y = torch.tensor([0, 1, 2, 0])
    said = y.clone()
    said[:error] = CLASSES - 1
    return graded(said), y


def labels(error: int) -> tuple[Tensor, Tensor]:
    said, y = classes(error)
    return said + 5.0, torch.nn.functional.one_hot(y, CLASSES).float()


def numbers(error: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(4.0 * CLASSES).view(4, CLASSES)
    said = y.clone()
    said[:error] += 2.0
    return said, y


def masks(error: int) -> tuple[Tensor, Tensor]:
    y = torch.arange(3).repeat(4, 4, 1)
    said = y.clone()
    said[:error] = CLASSES - 1
    return graded(said).permute(0, 3, 1, 2), y


def graded(said: Tensor) -> Tensor:
    """Logits (..., classes): the further a class is from what is said, the lower. So a class that
    is far off is not among the best few, either.
    """
    return -9.0 * (torch.arange(CLASSES) - said[..., None]).abs()


def boxes(error: int) -> tuple[list[dict[str, Tensor]], Tensor]:
    y = torch.tensor([[[label, 2.0, 2.0, 12.0, 12.0]] for label in (1, 2, 3, 1)])
    found = []
    for image, (label, *sides) in enumerate(y[:, 0].tolist()):
        moved = torch.tensor([sides]) + (40.0 if image < error else 0.0)
        labels = torch.tensor([int(label)])
        found.append({"boxes": moved, "scores": torch.tensor([0.9]), "labels": labels})
    return found, y

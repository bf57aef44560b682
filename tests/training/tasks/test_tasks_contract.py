"""What every task keeps to: a row of `nas_attn.wiring.TASK_ROWS` is tested the day it comes."""

from __future__ import annotations

import math
from typing import Any

import detector
import numpy as np
import pytest
import segmenter
import torch
from torch import nn

from nas_attn import backbones, wiring
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.errors import RecipeError
from nas_attn.export.formats import TaskExport, answers_of
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import read_toml, recipe_from
from nas_attn.recipe.recipe import BackboneSection, DataSection, TrainingSection
from nas_attn.recipe.tables import METRICS, TaskRow, is_share, is_share_of_images
from nas_attn.recipe.task import Task
from nas_attn.training.learnt import Learnt, learnt_of
from nas_attn.training.parameters import LearningRates
from nas_attn.training.tasks.data import TaskData, data_of
from nas_attn.training.trainer import Trainer

SIDE = 32
OPTIONS = {"train": 200, "validation": 60, "test": 60}


def task_of(row: TaskRow) -> Task:
    return next(task for task in tasks.variants(row.task) if task.row is row)


def network(labels: str, outputs: int = 10) -> nn.Module:
    """A small network that learns from such labels: ten digits, or a background besides."""
    torch.manual_seed(0)
    if labels == "masks":
        return segmenter.Segmenter(classes=11, channels=1)
    if labels == "boxes":
        return detector.build(10)
    section = BackboneSection(name="resnet8", width=4)
    return backbones.build(section, input_shape=(1, SIDE, SIDE), classes=outputs)


def digits(task: Task) -> Dataset:
    options = {**OPTIONS, "size": SIDE} if task.labels in ("masks", "boxes") else OPTIONS
    size = {"size": SIDE} if task.labels == "boxes" else {}
    section = DataSection(name="digits", options=options, **size)
    return loading.load(section, device="cpu", task=task)


every_row = pytest.mark.parametrize("row", wiring.TASK_ROWS, ids=lambda row: row.name)


def is_trained_here(row: TaskRow) -> bool:
    task = task_of(row)
    backbone = task.usual_backbone("digits", small=True)
    return task.own_trainer and task.fits(backbone, evaluated=False)


TRAINED_HERE = [row for row in wiring.TASK_ROWS if is_trained_here(row)]
WITH_LOGITS = [row for row in TRAINED_HERE if task_of(row).answer != "boxes"]
"""Detectors choose boxes by themselves and bring their losses: tests/export has their files."""
with_logits = pytest.mark.parametrize("row", WITH_LOGITS, ids=lambda row: row.name)
trained_here = pytest.mark.parametrize("row", TRAINED_HERE, ids=lambda row: row.name)


@every_row
def test_its_parts_keep_their_contracts(row: TaskRow) -> None:
    task = task_of(row)
    assert (task.name, task.row) == (row.task, row)
    assert isinstance(data_of(task), TaskData)
    assert issubclass(row.learnt(), Learnt)
    assert isinstance(answers_of(task), TaskExport)
    assert not row.evaluator or callable(row.evaluator())


@every_row
def test_its_metrics_have_titles_and_one_direction(row: TaskRow) -> None:
    task = task_of(row)
    assert is_share(task.metric) or task.metric in task.losses
    assert set(task.metrics) <= METRICS.keys()
    assert all(METRICS[name].title for name in task.metrics)


@every_row
def test_it_is_found_for_the_backbone_that_it_proposes(row: TaskRow) -> None:
    task = task_of(row)
    backbone = task.usual_backbone("digits", small=True)
    evaluated = not task.fits(backbone, evaluated=False)
    assert tasks.find(row.task, backbone, evaluated=evaluated) is task


@every_row
@pytest.mark.parametrize("source", ["digits", "folder:photos"])
def test_what_it_proposes_is_a_recipe(row: TaskRow, source: str) -> None:
    task = task_of(row)
    backbone = task.usual_backbone(source, small=source == "digits")
    if task.labels == "boxes" and source != "digits":
        source = "coco:photos" if task.own_trainer else "yolo:photos.yaml"
    pace = task.pace(source, small=source == "digits")
    assert 0 < pace.tuned <= pace.epochs
    assert task.pace_of_few(40.0).epochs > pace.tuned
    evaluator = "" if task.fits(backbone, evaluated=False) else 'evaluator = "mine:evaluate"\n'
    text = (
        f'name = "proposed"\nspace = "small"\n[task]\nname = "{task.name}"\n'
        f'[backbone]\nname = "{backbone}"\n'
        f'[data]\nname = "{source}"\n{task.data_lines(source, backbone, None)}'
        f'[target]\nstart = "scratch"\nepochs = {pace.epochs}\n'
        f"[training]\n{task.training_lines}{evaluator}"
    )
    recipe = recipe_from(read_toml(text, "proposed.toml"), where="proposed.toml")
    assert tasks.of(recipe) is task
    assert recipe.objectives == [task.metric, "latency"]
    assert task.trial_side(backbone) > 0


@trained_here
def test_its_networks_are_trained_and_scored_by_all_its_metrics(row: TaskRow) -> None:
    task = task_of(row)
    if task.labels == "boxes":
        pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    dataset = digits(task)
    assert dataset.task is task
    section = TrainingSection(start="scratch", rungs=[1], batch_size=20, precision="float32")
    model = network(task.labels, len(dataset.classes))
    trainer = Trainer(section, dataset, device="cpu")
    (score,) = trainer.fit(model, seed=0, rungs=[1], rates=LearningRates(0.01))
    assert set(score.metrics) - {"train_loss_sum"} >= set(task.metrics)
    assert all(math.isfinite(value) for value in score.metrics.values())
    assert all(0 <= score.metrics[name] <= 1 for name in filter(is_share, task.metrics))
    assert (score.correct is not None) == task.per_image
    for name in filter(is_share_of_images, task.metrics):
        bits = np.unpackbits(np.frombuffer(score.correct or b"", np.uint8), count=score.examples)
        assert score.metrics[name] == pytest.approx(bits.mean())
    again = Trainer(section, dataset, device="cpu").score(model, dataset.validation)
    assert {name: again.metrics[name] for name in task.metrics} == pytest.approx(
        {name: score.metrics[name] for name in task.metrics}, rel=1e-4
    )


@with_logits
def test_an_exported_file_is_scored_as_its_network(row: TaskRow) -> None:
    """What a file returns is judged by the same metrics, over the same images."""
    task = task_of(row)
    dataset = digits(task)
    model = network(task.labels, len(dataset.classes)).eval()
    graph = answers_of(task).graph(model, dataset.input_shape)

    def run(images: Any) -> Any:
        with torch.no_grad():
            return graph(torch.from_numpy(images)).numpy()

    tally = answers_of(task).judged(run, dataset, stored=False, batch=7)
    section = TrainingSection(start="scratch", rungs=[1], batch_size=20, precision="float32")
    score = Trainer(section, dataset, device="cpu").score(model, dataset.validation)
    metrics = tally.metrics(0.0)
    for name in filter(is_share, task.metrics):
        assert metrics[name] == pytest.approx(score.metrics[name])
    output = task.output(len(dataset.classes), dataset.input_shape[1:])
    x, _ = next(dataset.validation.batches(2))
    assert tuple(graph(x).shape[1:]) == output


@with_logits
def test_a_loss_of_another_shape_is_refused_in_one_sentence(row: TaskRow) -> None:
    task = task_of(row)
    loss = TrainingSection.model_validate({"loss": {"name": "CosineEmbeddingLoss"}}).loss
    with pytest.raises(RecipeError, match=r"training\.loss") as caught:
        learnt_of(task, 10, loss)
    assert "\n" not in str(caught.value)

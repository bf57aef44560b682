"""Detectors like torchvision's by our own trainer: mAP as COCO counts it, the same however it is
interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detector import build
from materials import coco
from torch import Tensor, nn

from nas_attn.answer.per_image import Answers
from nas_attn.attachment import attach, attached_modules, check
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.errors import TrainingError
from nas_attn.recipe.recipe import Augment, DataSection, TrainingSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.space.notation import parse
from nas_attn.space.search_space import resolve
from nas_attn.training.learnt import learnt_of
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

pytest.importorskip("pycocotools", reason="the detection extra is not installed")
OPTIONS = {"size": 16, "train": 40, "validation": 20, "test": 20, "fragments": 0}
SECTION = TrainingSection(
    start="scratch",
    rungs=[1, 2],
    batch_size=10,
    precision="float32",
    clip_norm=5.0,
    augment=[Augment(name="crop", padding=2)],
)
TRUE = torch.tensor(
    [
        [[1.0, 2, 3, 12, 13], [2, 20, 20, 30, 28], [0, 0, 0, 0, 0]],
        [[2, 4, 4, 14, 14], [0] * 5, [0] * 5],
    ]
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return loading.load(
        DataSection(name="digits", options=OPTIONS, size=32), device="cpu", task=TASKS["detection"]
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return build(10)


def answer(boxes: Tensor, score: float = 0.9) -> list[dict[str, Tensor]]:
    rows = [one[one[:, 0] > 0] for one in boxes]
    return [
        {"boxes": r[:, 1:], "labels": r[:, 0].long(), "scores": torch.full((len(r),), score)}
        for r in rows
    ]


def scored(output: Any, there: Tensor = TRUE) -> dict[str, float]:
    tally = learnt_of(TASKS["detection"], 2)
    tally.add(output, there)
    return tally.metrics(0.0)


def test_the_metrics_are_cocos() -> None:
    assert scored(answer(TRUE)) == {"map50_95": pytest.approx(1), "map50": pytest.approx(1)}
    moved = TRUE.clone()
    moved[..., 1::2] += 1.0  # IoU 9/11 = .82, 9/11 and 9/11
    found = scored(answer(moved))
    assert found["map50"] == pytest.approx(1)
    assert found["map50_95"] == pytest.approx(0.7), "right at .5 to .8, wrong above"
    other = TRUE.clone()
    other[..., 0] = torch.where(
        other[..., 0] > 0, 3 - other[..., 0], 0
    )  # in the right places, of the other class
    assert scored(answer(other))["map50"] == 0
    assert scored(answer(torch.zeros_like(TRUE))) == {"map50_95": 0.0, "map50": 0.0}


def test_a_crowd_neither_counts_nor_misleads() -> None:
    there = TRUE.clone()
    there[0, 1, 0] = -2
    assert scored(answer(TRUE), there)["map50_95"] == pytest.approx(1), (
        "nothing is held against a find in the crowd"
    )
    only = TRUE.clone()
    only[0, 1] = 0
    assert scored(answer(only), there)["map50_95"] == pytest.approx(1), (
        "nor is what is not found there"
    )


def test_a_detector_is_trained_and_scored(digits: Dataset) -> None:
    scores = Trainer(SECTION, digits, device="cpu").fit(
        network(), seed=3, rungs=[1, 2], rates=LearningRates(0.02)
    )
    assert set(scores[-1].metrics) == {"map50_95", "map50", "train_loss_sum"}
    assert (scores[-1].correct, scores[-1].examples) == (None, 20)
    answers = Answers.of(scores[-1])
    assert len(answers.average_precision) == len(digits.classes)
    assert min(scores[-1].images_per_s, scores[-1].peak_bytes - 2**26) > 0
    assert scores[1].metrics["train_loss_sum"] < 2 * scores[0].metrics["train_loss_sum"], (
        "it learns"
    )


@pytest.mark.slow
def test_it_finds_what_it_was_shown(tmp_path: Path) -> None:
    coco(tmp_path / "things", train=200, val=40)
    things = loading.load(
        DataSection(name=f"coco:{tmp_path / 'things'}", size=64),
        device="cpu",
        task=TASKS["detection"],
    )
    section = TrainingSection(start="scratch", rungs=[1, 60], batch_size=8)
    torch.manual_seed(0)
    first, last = Trainer(section, things, device="cpu").fit(
        build(2), seed=0, rungs=[1, 60], rates=LearningRates(0.02)
    )
    assert first.metrics["map50"] < 0.2
    assert last.metrics["map50"] > 0.5, "a network of 27,000 parameters can do better"


def test_attention_in_backbone_and_pyramid_takes_part(digits: Dataset) -> None:
    from nas_attn import find_sites

    model = network()
    sites = find_sites(model, (3, 32, 32))
    assert {"stage1", "neck1"} <= {site.name for site in sites}
    assert {site.role for site in sites} == {
        "backbone",
        "neck",
    }, "what makes boxes and classes is none"
    attach(model, resolve(parse("stage1=eca neck1=se(reduction=4)"), sites, init="identity"))
    Trainer(SECTION, digits, device="cpu").fit(model, seed=0, rungs=[1], rates=LearningRates(0.02))
    assert len(attached_modules(model)) >= 2
    assert all(one.takes_part for one in check(model, (3, 32, 32)))


class Strange(nn.Module):
    def __init__(self, output: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.output = output

    def forward(self, images: Any, targets: Any = None) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(2, 3), "returns a Tensor while training"),
        ({"a": torch.zeros(2)}, "returns a dict while training"),
    ],
)
def test_a_network_that_is_no_such_detector_is_said(
    digits: Dataset, output: Any, said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        Trainer(SECTION, digits, device="cpu").fit(
            Strange(output), seed=0, rungs=[1], rates=LearningRates(0.02)
        )
    with pytest.raises(TrainingError, match=r"10 images, .*boxes, labels and scores"):
        Trainer(SECTION, digits, device="cpu").score(Strange(output), digits.validation)

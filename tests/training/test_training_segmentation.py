"""Segmentation by our own trainer: mean IoU pooled over the images, the same however it is
interrupted, any make of network.
"""

from __future__ import annotations

import pytest
import torch
from segmenter import Segmenter
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas_attn import backbones, errors
from nas_attn.answer.per_image import Answers
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.recipe import recipe, tasks
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

OPTIONS = {"size": 16, "train": 120, "validation": 20, "test": 20, "fragments": 1}
SECTION = recipe.TrainingSection(
    start="scratch",
    rungs=[1, 2],
    batch_size=40,
    precision="float32",
    augment=[recipe.Augment(name="crop", padding=1)],
)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return loading.load(
        recipe.DataSection(name="digits", options=OPTIONS),
        device="cpu",
        task=tasks.TASKS["segmentation"],
    )


def network() -> nn.Module:
    torch.manual_seed(0)
    return Segmenter(classes=11, channels=1)


def test_the_metrics_are_those_of_all_pixels_together(digits: Dataset) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("head.bias")[3] += 0.2  # not the background alone
    score = Trainer(SECTION, digits, device="cpu").score(model, digits.validation)
    x, y = next(digits.validation.batches(20))
    with torch.no_grad():
        logits = model.eval()(x)
    found, true = logits.argmax(1).flatten().numpy(), y.flatten().numpy()
    there = sorted(set(true.tolist()))
    want = jaccard_score(true, found, labels=there, average="macro", zero_division=0)
    assert score.metrics["mean_iou"] == pytest.approx(want)
    assert score.metrics["pixel_accuracy"] == pytest.approx((true == found).mean())
    assert score.metrics["loss"] == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    assert (score.correct, score.examples) == (None, 20)
    answers = Answers.of(score)
    assert answers.counts == tuple(
        tuple(row) for row in confusion_matrix(true, found, labels=range(11)).tolist()
    )


def test_pixels_that_are_not_counted_change_neither_loss_nor_score(digits: Dataset) -> None:
    task, whole, part = (Trainer(SECTION, digits, device="cpu").learnt for _ in range(3))
    random = torch.Generator().manual_seed(0)
    logits, y = (
        torch.randn(2, 11, 4, 4, generator=random),
        torch.randint(11, (2, 4, 4), generator=random),
    )
    part.add(logits, y.where(torch.arange(4) < 2, 255))
    whole.add(logits[..., :2], y[..., :2])
    assert part.metrics(0.0) == whole.metrics(0.0)
    masked = task.loss(logits, y.where(torch.arange(4) < 2, 255))
    assert masked.item() == pytest.approx(task.loss(logits[..., :2], y[..., :2]).item())
    assert task.loss(logits, torch.full_like(y, 255)).item() == 0


def test_it_learns(digits: Dataset) -> None:
    trainer, model = Trainer(SECTION, digits, device="cpu"), network()
    before = trainer.score(model, digits.validation).metrics["loss"]
    scores = trainer.fit(model, seed=3, rungs=[1, 2], rates=LearningRates(0.1))
    assert scores[-1].metrics["loss"] < 0.8 * before


class InDictionary(nn.Module):
    """As torchvision's segmentation networks answer."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.network(x)}


def test_a_dictionary_is_unpacked_and_another_answer_refused(digits: Dataset) -> None:
    trainer = Trainer(SECTION, digits, device="cpu")
    assert (
        trainer.score(InDictionary(), digits.validation).metrics
        == trainer.score(network(), digits.validation).metrics
    )
    vector = nn.Sequential(nn.Flatten(), nn.Linear(256, 11))
    with pytest.raises(
        errors.TrainingError,
        match=r"\(20, 11\) .*\(20, 11, 16, 16\)",
    ):
        trainer.score(vector, digits.validation)


@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"]
)
def test_torchvisions_are_built_without_a_download_for_any_channels(name: str) -> None:
    with torch.device("meta"):
        model = backbones.build(
            recipe.BackboneSection(name=f"torchvision:{name}"), input_shape=(1, 32, 32), classes=4
        )
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 1
    assert not any(key.startswith("aux") for key in model.state_dict())


@pytest.mark.extras("segmentation_models_pytorch")
def test_smps_are_named_by_architecture_and_encoder() -> None:
    section = recipe.BackboneSection(
        name="smp:unet/resnet18", options={"decoder_channels": [32, 16, 8, 8, 8]}
    )
    model = backbones.build(section, input_shape=(1, 32, 32), classes=4)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 4, 32, 32)
    for wrong, said in (
        ("smp:unet", "names no encoder"),
        ("smp:ynet/resnet18", "could not be built"),
        ("smp:unet/r18", "r18"),
    ):
        with pytest.raises(errors.BackboneError, match=said):
            backbones.build(recipe.BackboneSection(name=wrong), input_shape=(1, 32, 32), classes=4)

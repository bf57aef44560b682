"""A DataLoader of one's own: what it may give, and that networks train on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from nas_attn import errors
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.recipe import recipe, tasks
from nas_attn.searching.prepare.planning import epoch_seconds
from nas_attn.storage.records import Score
from nas_attn.training.arithmetic import Threads
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

IMAGES = torch.rand(34, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(34) % 2
# the upper half of an image's mask has its class, one column is not counted
MASKS = torch.zeros(34, 8, 8, dtype=torch.long)
MASKS[:, :4] = CLASSES[:, None, None]
MASKS[:, :, 7] = 255

# how a batch of images, class numbers and masks is given
GIVEN: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "pairs": lambda x, y, m: (x, y),
    "dictionaries": lambda x, y, m: {"image": x, "label": y, "name": ["a"] * len(x)},
    "triples": lambda x, y, m: [x, y, torch.arange(len(x))],
    "int32": lambda x, y, m: (x, y.int()),
    "bool": lambda x, y, m: (x, y.bool()),
    "double shares": lambda x, y, m: (x, nn.functional.one_hot(y, 2).double()),
    "shares by chance": lambda x, y, m: (
        x,
        nn.functional.one_hot(y, 2).float() if x[0, 0, 0, 0] > 0.5 else y,
    ),
    "masks": lambda x, y, m: {"image": x, "mask": m},
    "uint8 masks": lambda x, y, m: (x, m.to(torch.uint8)),
    "columns": lambda x, y, m: (x, y[:, None]),
    "float classes": lambda x, y, m: (x, y.float()),
    "one-hot": lambda x, y, m: (x, nn.functional.one_hot(y, 2)),
    "arrays": lambda x, y, m: (x, y.numpy()),
    "negative": lambda x, y, m: (x, y - 1),
    "small masks": lambda x, y, m: (x, m[:, ::2]),
    "mask of 256": lambda x, y, m: (x, m + 1),
    "sizes": lambda x, y, m: (x if len(x) == 16 else x[:, :, :4], y),
}


class Loader:
    """Not a DataLoader, but like one: without an item by number."""

    def __init__(self, given: str, batch_size: int) -> None:
        self._batches = DataLoader(TensorDataset(IMAGES, CLASSES, MASKS), batch_size)
        self._given = GIVEN[given]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Any:
        return (self._given(*batch) for batch in self._batches)


def loaders(split: str, given: str, batch_size: int = 16) -> Loader | None:
    return None if split == "test" else Loader(given, batch_size)


def load(given: str, task: str = "classification", batch_size: int = 16) -> Dataset:
    section = recipe.DataSection(
        name=f"{__name__}:loaders", options={"given": given, "batch_size": batch_size}
    )
    return loading.load(section, device="cpu", task=tasks.TASKS[task])


class Network(nn.Module):
    """Notes how many images it is trained on together."""

    def __init__(self, *, masks: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 2, 1)
        self.masks = masks
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(len(x))
        logits: Tensor = self.layer(x)
        return logits if self.masks else logits.mean((2, 3))


def fit(dataset: Dataset, network: Network, **settings: Any) -> Score:
    section = recipe.TrainingSection(rungs=[1], precision="float32", **settings)
    trainer = Trainer(section, dataset, device="cpu", threads=Threads(1))
    (score,) = trainer.fit(network, seed=0, rungs=[1], rates=LearningRates(0.1))
    return score


@pytest.mark.parametrize("given", ["dictionaries", "triples", "int32", "bool", "double shares"])
def test_networks_train_alike_on_the_same_batches_given_otherwise(given: str) -> None:
    expected = fit(load("pairs"), Network())
    score = fit(load(given), Network())
    assert score.metrics == pytest.approx(expected.metrics)


def test_networks_train_on_masks() -> None:
    scores = [
        fit(load(given, "segmentation"), Network(masks=True)) for given in ("masks", "uint8 masks")
    ]
    assert scores[0].metrics == scores[1].metrics
    dataset = load("masks", "segmentation")
    assert dataset.train.first(40).shape == (34, 3, 8, 8), "images without their masks"


@pytest.mark.parametrize(
    ("given", "task", "words"),
    [
        ("columns", "classification", r"batch 0 .* int64 \(16, 1\), .* not classes"),
        ("float classes", "classification", r"batch 0 .* float32 \(16,\), .* not classes"),
        ("one-hot", "classification", r"batch 0 .* int64 \(16, 2\), .* not classes"),
        ("arrays", "classification", "batch 0 .* must be tensors"),
        ("negative", "classification", "batch 0 .* -1"),
        ("sizes", "classification", r"batch 2 .* \(3, 4, 8\), .* \(3, 8, 8\)"),
        ("small masks", "segmentation", r"batch 0 .* \(16, 4, 8\), .* not masks"),
        ("mask of 256", "segmentation", "batch 0 .* 256"),
        ("pairs", "segmentation", r"batch 0 .* int64 \(16,\), .* not masks"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(given: str, task: str, words: str) -> None:
    with pytest.raises(errors.DataError, match=words) as caught:
        load(given, task)
    assert "\n" not in str(caught.value)


def test_accumulate_makes_one_step_of_several_batches() -> None:
    whole, added, mixed = Network(), Network(), Network()
    expected = fit(load("pairs", batch_size=12), whole)
    score = fit(load("pairs", batch_size=4), added, accumulate=3)
    assert score.metrics == pytest.approx(expected.metrics)
    torch.testing.assert_close(added.layer.weight, whole.layer.weight)
    assert whole.seen == [12, 12, 10]
    assert max(added.seen) == 4
    fit(load("shares by chance", batch_size=4), mixed, accumulate=3)
    torch.testing.assert_close(mixed.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "parts"),
    [
        (16, 4, [9, 9, 8, 8]),
        # five batches are steps of two and three, not of four and one
        (7, 4, [4, 4, 3, 3, 5, 5, 5, 5]),
        (34, 64, [1] * 34),
    ],
)
def test_no_part_of_a_step_is_empty_or_much_smaller(
    batch_size: int, accumulate: int, parts: list[int]
) -> None:
    network = Network()
    fit(load("pairs", batch_size=batch_size), network, accumulate=accumulate)
    assert network.seen == parts


def test_an_epoch_goes_on_at_any_step() -> None:
    split = load("pairs", batch_size=4).train.in_steps_of(2)
    whole, rest = (
        list(split.epoch(0, seed=1, epoch=0, augment=[], first_batch=first)) for first in (0, 3)
    )
    assert len(whole) == split.steps(0) == 5
    for (x, y), (x_again, y_again) in zip(whole[3:], rest, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)


class SecondAStep(Trainer):
    """All of its steps take a second."""

    def step_s(self, model: nn.Module, steps: int) -> float:
        return 1.0


def test_an_epoch_is_forecast_by_the_batches_that_the_loader_has() -> None:
    section = recipe.TrainingSection(rungs=[1], batch_size=128)
    trainer = SecondAStep(section, load("pairs", batch_size=2), device="cpu")
    # 17 steps, and the score of as many images, which takes a third
    assert epoch_seconds(trainer, Network(), 1) == pytest.approx(17 + 17 / 3)

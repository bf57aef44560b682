"""A training whose steps are recorded as a CUDA graph trains the same network, and is recorded.

Each test runs on the stub, and on a GPU where there is one. Replays are counted: without that, a
recording that silently does not happen would pass, since the training then goes on eagerly.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from real_cuda import Cuda
from slots import MemorySlot
from torch import Tensor, nn

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.recipe.recipe import Augment, DataSection, TrainingSection
from nas_attn.storage.records import Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks
from nas_attn.training.trainer import Trainer

MOST_EAGER = 8  # steps of two epochs that are not replayed: warm-up, and a second shape of batch
AUGMENT = [Augment(name="flip"), Augment(name="crop", padding=1), Augment(name="mixup", alpha=0.2)]
RATES = {"SGD": 0.05, "Adam": 0.002, "AdamW": 0.002}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )


class Waiting(nn.Module):
    """Waits for the device in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y * float(y.abs().max().item() >= 0)


class Counting(nn.Module):
    """Counts how often dropout keeps each of 64 features; one mask for all images of a step."""

    kept: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)
        self.register_buffer("kept", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.functional.dropout(torch.ones(64, device=x.device), 0.5, self.training)
        if self.training:
            self.kept += mask > 0
        y: Tensor = self.last(x.flatten(1) * mask)
        return y


def digits() -> Dataset:
    return loading.load(DataSection(name="digits-8x8"), device="cuda")


def fit(model: nn.Module, execution: str, **options: Any) -> tuple[Score, ...]:
    """Two epochs of 29 or so steps."""
    settings = {"batch_size": 64, "precision": "float32", "execution": execution, "clip_norm": 5.0}
    section = TrainingSection.model_validate({**settings, **options.pop("section", {})})
    arguments = {"seed": 0, "rungs": [2], "rates": LearningRates(0.05), **options}
    return Trainer(section, digits(), device="cuda").fit(model, **arguments)


def steps() -> int:
    """Steps of two epochs."""
    return 2 * digits().train.steps(64)


def assert_close(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    expected = other.state_dict()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(
            tensor,
            expected[name],
            rtol=tolerance,
            atol=tolerance,
            msg=f"{name} differs",
        )


@pytest.mark.parametrize("optimizer", RATES)
def test_a_recorded_step_trains_the_same_network(optimizer: str, cuda: Cuda) -> None:
    settings = {"optimizer": optimizer, "augment": AUGMENT}
    rate = RATES[optimizer]
    eager, recorded = network(), network()
    (expected,) = fit(eager, "eager", section=settings, rates=LearningRates(rate))
    assert cuda.replays == 0
    (score,) = fit(recorded, "cuda-graph", section=settings, rates=LearningRates(rate))
    assert cuda.replays >= steps() - MOST_EAGER
    assert score.metrics == pytest.approx(expected.metrics, rel=0.02)
    assert_close(recorded, eager, 0.02)


def test_dropout_is_drawn_anew_in_a_recorded_step(cuda: Cuda) -> None:
    model = Counting()
    fit(model, "cuda-graph")
    assert cuda.replays >= steps() - MOST_EAGER
    # With one mask in all replays of a recording, most would be kept in all steps or in none.
    assert 0.1 * steps() < model.kept.min() < model.kept.max() < 0.9 * steps()


def test_a_recorded_training_is_taken_up_again(cuda: Cuda) -> None:
    whole, pieces = network(), network()
    (expected,) = fit(whole, "cuda-graph")
    slot, asked = MemorySlot(), iter([False] * 20 + [True])
    with pytest.raises(Interrupted):
        fit(pieces, "cuda-graph", slot=slot, callbacks=Callbacks(stop=lambda: next(asked)))
    before = cuda.replays
    (score,) = fit(pieces, "cuda-graph", slot=slot)
    assert cuda.replays > before
    assert score.metrics == pytest.approx(expected.metrics, rel=0.02)


def test_a_network_that_waits_is_trained_all_the_same_and_harms_no_later_one(cuda: Cuda) -> None:
    (score,) = fit(Waiting(), "cuda-graph")
    assert score.metrics["accuracy"] > 0.9
    assert cuda.modes == []  # no capture was tried
    torch.cuda.empty_cache()
    fit(Counting(), "cuda-graph")
    assert cuda.replays >= steps() - MOST_EAGER

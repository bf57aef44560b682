"""However a step is executed (as it is, compiled, as a CUDA graph), it trains the same network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from slots import MemorySlot as Slot
from torch import nn

from nas_attn import data
from nas_attn.data import Dataset
from nas_attn.errors import RecipeError
from nas_attn.recipe import Augment, DataSection, TrainingSection
from nas_attn.records import Score
from nas_attn.training import Interrupted, Trainer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.inner(x)
        return y * float(y.abs().max().item() >= 0)


class Counting(nn.Module):
    """Counts how often dropout keeps each of 64 features; one mask for all images of a step."""

    kept: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)
        self.register_buffer("kept", torch.zeros(64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.functional.dropout(torch.ones(64, device=x.device), 0.5, self.training)
        if self.training:
            self.kept += mask > 0
        y: torch.Tensor = self.last(x.flatten(1) * mask)
        return y


def fit(model: nn.Module, execution: str, device: str = "cpu", **options) -> tuple[Score, ...]:
    """Two epochs of 15 steps; batches of 59 and 60 images."""
    changes = {"batch_size": 64, "precision": "float32", "execution": execution, "clip_norm": 5.0}
    section = TrainingSection(**changes, **options.pop("section", {}))
    arguments = {"seed": 0, "rungs": [2], "learning_rate": 0.05, **options}
    return Trainer(section, digits_on(device), device=device).fit(model, **arguments)


def digits_on(device: str) -> Dataset:
    return data.load(DataSection(name="digits-8x8"), device=device)


def assert_close(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    for (name, tensor), expected in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(
            tensor, expected, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.slow
def test_a_compiled_step_trains_the_same_network() -> None:
    eager, compiled = network(), network()
    (expected,), (score,) = fit(eager, "eager"), fit(compiled, "compile")
    assert expected.metrics["accuracy"] > 0.9
    assert score.metrics == pytest.approx(expected.metrics, rel=1e-3)
    assert_close(compiled, eager, 1e-3)


@pytest.mark.slow
def test_without_a_compiler_the_way_out_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "CXX": "/no/compiler"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, check=False
    )
    last = process.stderr.strip().splitlines()[-1]
    assert process.returncode != 0
    assert "TrainingError: the network cannot be compiled: " in last
    assert last.endswith("set training.execution = 'eager'")


def test_a_cuda_graph_on_a_cpu_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"training\.execution = 'cuda-graph' .*'cpu'"):
        fit(network(), "cuda-graph")


@needs_cuda
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_recorded_step_trains_the_same_network(optimizer: str) -> None:
    settings = {
        "optimizer": optimizer,
        "augment": [
            Augment(name="flip"),
            Augment(name="crop", padding=1),
            Augment(name="mixup", alpha=0.2),
        ],
    }
    rate = 0.05 if optimizer == "SGD" else 0.002
    eager, recorded = network(), network()
    (expected,) = fit(eager, "eager", "cuda", section=settings, learning_rate=rate)
    (score,) = fit(recorded, "cuda-graph", "cuda", section=settings, learning_rate=rate)
    assert score.metrics == pytest.approx(expected.metrics, rel=0.02)
    assert_close(recorded, eager, 0.02)


@needs_cuda
def test_a_network_that_cannot_be_recorded_is_trained_all_the_same() -> None:
    (score,) = fit(Waiting(), "cuda-graph", "cuda")
    assert score.metrics["accuracy"] > 0.9


@needs_cuda
def test_dropout_is_drawn_anew_in_a_recorded_step() -> None:
    model = Counting()
    fit(model, "cuda-graph", "cuda")
    # Of 30 steps; with one mask in all replays of a recording, many would stay at 3 or fewer.
    assert 3 < model.kept.min() < model.kept.max() < 27


@needs_cuda
def test_a_recorded_training_is_taken_up_again() -> None:
    whole, pieces = network(), network()
    (expected,) = fit(whole, "cuda-graph", "cuda")
    slot, asked = Slot(), iter([False] * 20 + [True])
    with pytest.raises(Interrupted):
        fit(pieces, "cuda-graph", "cuda", slot=slot, stop=lambda: next(asked))
    (score,) = fit(pieces, "cuda-graph", "cuda", slot=slot)
    assert score.metrics == pytest.approx(expected.metrics, rel=0.02)


if __name__ == "__main__":
    fit(network(), "compile")

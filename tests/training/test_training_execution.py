"""However a step is executed, as it is or compiled, it trains the same network; as a CUDA graph:
`tests/gpu`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.errors import RecipeError
from nas_attn.recipe.recipe import DataSection, TrainingSection
from nas_attn.storage.records import Score
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )


def fit(model: nn.Module, execution: str, device: str = "cpu", **options) -> tuple[Score, ...]:
    """Two epochs of 15 steps; batches of 59 and 60 images."""
    changes = {"batch_size": 64, "precision": "float32", "execution": execution, "clip_norm": 5.0}
    section = TrainingSection(**changes, **options.pop("section", {}))
    arguments = {"seed": 0, "rungs": [2], "rates": LearningRates(0.05), **options}
    return Trainer(section, digits_on(device), device=device).fit(model, **arguments)


def digits_on(device: str) -> Dataset:
    return loading.load(DataSection(name="digits-8x8"), device=device)


def assert_close(one: nn.Module, other: nn.Module, tolerance: float) -> None:
    for (name, tensor), expected in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(
            tensor, expected, rtol=tolerance, atol=tolerance, msg=f"{name} differs"
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
    assert "TrainingError: " in last
    assert last.endswith("set training.execution = 'eager'")


def test_a_cuda_graph_on_a_cpu_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"training\.execution = 'cuda-graph' .*'cpu'"):
        fit(network(), "cuda-graph")


if __name__ == "__main__":
    fit(network(), "compile")

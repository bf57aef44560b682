"""Photographs that do not fit into the GPU's memory: another thread reads and pins them, also while
a step is recorded.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stubbed_cuda import Graph, StubbedCuda

from nas_attn import backbones
from nas_attn.data import loading
from nas_attn.recipe.recipe import Augment, DataSection, TrainingSection
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

CAPTURE_S = 0.05


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of small photographs."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 8), ("test", 8)):
        for name in ("cats", "dogs"):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for number in range(count // 2):
                pixels = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("transform", ["flip", "RandomHorizontalFlip"])
def test_memory_is_pinned_during_a_recording(
    transform: str, folder: Path, stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.free_memory = 0
    dataset = loading.load(DataSection(name=f"folder:{folder}", size=32), device="cuda")
    assert dataset.train.pixels.path is not None
    begin = Graph.__enter__

    def slowly(graph: Graph) -> Any:
        begin(graph)
        # Long enough that the other thread pins memory meanwhile.
        time.sleep(CAPTURE_S)

    monkeypatch.setattr(Graph, "__enter__", slowly)
    settings = {
        "batch_size": 4,
        "precision": "float32",
        "execution": "cuda-graph",
        "augment": [Augment(name=transform)],
    }
    model = backbones.create("resnet8", input_shape=(3, 32, 32), classes=2, width=4)
    trainer = Trainer(TrainingSection.model_validate(settings), dataset, device="cuda")
    trainer.fit(model, seed=0, rungs=[2], rates=LearningRates(0.01))
    assert stub.calls["pin_memory"] > 0
    assert stub.failures == []
    assert stub.replays >= 10
    assert torch.cuda.is_available()

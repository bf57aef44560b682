"""Published weights on published data give the published accuracy: data, normalisation and scoring are right together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas_attn import backbones, data
from nas_attn.recipe import BackboneSection, DataSection, TrainingSection
from nas_attn.training import Trainer

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.mark.slow
def test_resnet20_reaches_its_published_accuracy_on_cifar10(tmp_path: Path) -> None:
    unpack, weights = SHARED / "cifar10" / "unpack.py", SHARED / "resnet20_cifar10.npz"
    if not unpack.exists() or not weights.exists():
        pytest.skip(f"{SHARED} is absent")
    subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True, capture_output=True)
    section = DataSection(name="cifar10", root=str(tmp_path), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    dataset = data.load(section, device="cpu")
    model = backbones.build(BackboneSection(name="resnet20"), input_shape=dataset.input_shape, classes=10)
    backbones.load_weights(model, str(weights))
    test = dataset.read_test("comparison with the published accuracy")
    score = Trainer(TrainingSection(), dataset, device="cpu").score(model, test)
    assert score.metrics["accuracy"] == pytest.approx(0.9173, abs=2e-4)

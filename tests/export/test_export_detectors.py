"""A detector taken home: a `.pt` that ultralytics loads and validates alike, ONNX of the whole
network, what cannot be.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import digits_with_boxes
from torch import nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.errors import OperationError, UserError
from nas_attn.export import write
from nas_attn.export.checking import check_onnx
from nas_attn.export.formats import UNCHANGED, Interface
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.ultralytics.yolo_export import BoxesGraph, UltralyticsExport

SHAPE = (3, 64, 64)
SECTION = BackboneSection(name="ultralytics:yolo11n.yaml")
PLACEMENT = "stage2@stage=se(reduction=4) neck1@stage=cbam(reduction=4)"
DIGITS = {"size": 64, "train": 20, "validation": 20, "test": 20}
pytestmark = [
    pytest.mark.extras("ultralytics"),
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),
]


def made(section: BackboneSection = SECTION) -> tuple[nn.Module, Interface, torch.Tensor]:
    """A detector with something to say, its interface, and what it answers without its attention."""
    torch.manual_seed(0)
    model = backbones.build(section, input_shape=SHAPE, classes=10).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = (
                1.0  # statistics of the one batch: a fresh network's let nothing through to the end
            )
    with torch.no_grad():
        model(torch.rand(4, *SHAPE))
    bare = answer(model)
    na.attach(model, PLACEMENT, input_shape=SHAPE, init="paper")
    names = tuple(f"digit {number}" for number in range(10))
    return model.eval(), Interface(names, *UNCHANGED, tuple(bare.shape[1:])), bare


def images(count: int = 1) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def answer(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return BoxesGraph(model.eval())(images())  # type: ignore[no-any-return]


def written(folder: Path, format_: str) -> tuple[nn.Module, torch.Tensor, Path]:
    model, interface, bare = made()
    kind = UltralyticsExport.formats[format_]
    path = folder / "net.pt"
    write(model, path, kind, input_shape=SHAPE, notes={}, interface=interface)
    return model, bare, path


def test_ultralytics_loads_and_validates_it_with_its_attention(tmp_path: Path) -> None:
    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionValidator

    model, bare, path = written(tmp_path, "ultralytics")
    loaded: Any = YOLO(str(path))
    assert loaded.names[3] == "digit 3"
    assert torch.equal(answer(loaded.model), answer(model))
    assert (answer(loaded.model) - bare).abs().max() > 1e-4
    assert [one.takes_part for one in na.check(loaded.model, SHAPE)] == [True, True]
    how = {
        "data": str(digits_with_boxes(tmp_path / "d", **DIGITS)),
        "imgsz": 64,
        "batch": 10,
        "device": "cpu",
        "workers": 0,
        "plots": False,
    }
    there = loaded.val(**how, project=str(tmp_path / "a"), conf=1e-6, verbose=False).results_dict
    network: Any = made()[0]
    network.names = loaded.names
    more = {"project": str(tmp_path / "b"), "conf": 1e-6, "mode": "val", "task": "detect"}
    validator = DetectionValidator(args={**how, **more})
    validator(model=network)
    assert validator.metrics.results_dict == pytest.approx(there)


@pytest.mark.parametrize("name", ["yolo11n", "yolo26n", "yolo11n-seg", "rtdetr-resnet50"])
def test_a_file_without_its_attention_is_noticed(tmp_path: Path, name: str) -> None:
    """YOLO26 and RT-DETR choose their boxes themselves; of the others' boxes and scores, the sides
    are larger by far.
    """
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    model, interface, _ = made(BackboneSection(name=f"ultralytics:{name}.yaml"))
    given = BoxesGraph(model).eval()
    whole = write(
        given, tmp_path / "a.onnx", "onnx", input_shape=SHAPE, notes={}, interface=interface
    )
    found = check_onnx(whole, given, [images()])
    assert found is not None
    assert found["difference"] is not None
    assert found["difference"] < 1e-4
    assert [file.name for file in tmp_path.iterdir() if file.suffix in (".pt", ".onnx")] == [
        "a.onnx"
    ]
    lacking = BoxesGraph(na.detach(copy.deepcopy(model))).eval()
    bare = write(
        lacking, tmp_path / "b.onnx", "onnx", input_shape=SHAPE, notes={}, interface=interface
    )
    with pytest.raises(OperationError, match=r"\.onnx'"):
        check_onnx(bare, given, [images()])


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'ultralytics'"):
        write(nn.Conv2d(3, 3, 1), tmp_path / "x.pt", "ultralytics", input_shape=SHAPE, notes={})

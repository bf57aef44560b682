"""A detector like torchvision's taken home: ONNX of the whole, its choice of boxes included, and
what cannot be.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from detector import build

import nas_attn as na
from nas_attn.errors import OperationError, UserError
from nas_attn.export import checking, formats, write

SHAPE = (3, 32, 32)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def made() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build(3).eval()
    model.score_thresh = 0.0  # type: ignore[assignment] # a network that has learnt nothing is sure of nothing
    for part in model.head.modules():  # torchvision's first weights hardly look at the image
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(part.weight)
    na.attach(model, "neck1=se(reduction=4)", input_shape=SHAPE, init="paper")
    return model


def test_onnx_chooses_the_same_boxes_and_a_file_without_its_attention_is_noticed(
    tmp_path: Path,
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    model = made()
    given = formats.single_output(model, SHAPE)
    path = write(given, tmp_path / "net.onnx", "onnx", input_shape=SHAPE, notes={"study": "s"})
    images = [torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    with torch.no_grad():
        assert len(given(images[0])) > 10, "there is something to compare"
    found = checking.check_onnx(path, given, images)
    assert found is not None
    assert found["difference"] is not None
    assert found["difference"] < 1e-4
    bare = formats.single_output(na.detach(copy.deepcopy(model)), SHAPE)
    path = write(bare, tmp_path / "bare.onnx", "onnx", input_shape=SHAPE, notes={"study": "s"})
    with pytest.raises(OperationError, match=r"\.onnx'"):
        checking.check_onnx(path, given, images[:1])
    model.score_thresh = 1.0  # type: ignore[assignment]
    path = write(given, tmp_path / "none.onnx", "onnx", input_shape=SHAPE, notes={"study": "s"})
    nothing = checking.check_onnx(path, given, images)
    assert nothing is not None
    assert nothing["difference"] is None


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'torch'"):
        write(
            formats.single_output(made(), SHAPE),
            tmp_path / "net.pt2",
            "torch",
            input_shape=SHAPE,
            notes={},
        )


def test_boxes_of_several_images_are_one_table() -> None:
    one = {
        "boxes": torch.ones(2, 4),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([1, 2]),
    }
    none = {
        "boxes": torch.zeros(0, 4),
        "scores": torch.zeros(0),
        "labels": torch.zeros(0, dtype=torch.int64),
    }
    table = formats.table_of_boxes([one, none])
    assert table.shape == (2, 2, 6)
    assert table[0, 1].tolist() == pytest.approx([1, 1, 1, 1, 0.8, 2])
    assert not table[1].any()

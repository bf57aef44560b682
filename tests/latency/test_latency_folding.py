"""Deployment folds BatchNorm into convolutions; attention that sits on a BatchNorm must survive that."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn import attachment, backbones, space
from nas_attn.latency.nets import write_onnx
from nas_attn.recipe import BackboneSection

SHAPE = (3, 16, 16)


def bare() -> nn.Module:
    torch.manual_seed(0)
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=SHAPE, classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that folding has something to fold
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def attended() -> nn.Module:
    sites = attachment.find_sites(bare(), SHAPE)
    placement = space.resolve(space.parse("*=se(reduction=4)"), sites, init="paper")
    return attachment.attach(bare(), placement).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_onnx_runtime_folds_batchnorm_and_keeps_attention(tmp_path: Path, x: torch.Tensor) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    model = attended()
    write_onnx(model, x, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options, providers=["CPUExecutionProvider"])
    [result] = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "optimized.onnx")).graph.node}
    assert "BatchNormalization" not in kinds
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(result), model(x), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(model(x), bare()(x), atol=1e-2)


def test_torch_fx_folding_keeps_attention(x: torch.Tensor) -> None:
    from torch.fx.experimental.optimization import fuse

    model = attended()
    with torch.inference_mode():
        expected = model(x)
    folded = fuse(model, inplace=False)
    plain = [module for module in folded.modules() if type(module) is nn.BatchNorm2d]
    assert not plain  # folded where nothing sits on it
    with torch.inference_mode():
        torch.testing.assert_close(folded(x), expected, rtol=1e-3, atol=1e-4)

"""Modules through torch.export, ONNX Runtime and torch.compile; a few by default, all of them under `slow`."""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from attention_asking import ROWS, shake
from torch import Tensor, nn

from nas_attn.attention import catalogue
from nas_attn.attention.row import INITS
from nas_attn.records import Choice

SIZE = (32, 8, 7)
QUICK = ("eca", "coord", "ela")
FIXED_MAP = {
    "mhsa": "its position tables are cut for one map",
    "scsa": "its windows are no larger than the map, so how many there are is another expression on a small one",
}
"""Rows whose exported form keeps its map size, and why."""


def rows(*quick: str) -> list[Any]:
    return [pytest.param(row, id=row.name, marks=() if row.name in quick else pytest.mark.slow) for row in ROWS]


def built(name: str, init: Any) -> nn.Module:
    knobs = catalogue.find(name).resolve({}, *SIZE, strict=False, init=init).knobs
    return shake(catalogue.build(Choice(name, knobs), *SIZE, init=init), 5).eval()


def images(batch: int = 2, height: int = SIZE[1], width: int = SIZE[2]) -> Tensor:
    return torch.randn(batch, SIZE[0], height, width, generator=torch.Generator().manual_seed(1))


def dynamic(name: str) -> dict[int, Any]:
    free = {0: torch.export.Dim("batch", max=64)}
    if name not in FIXED_MAP:
        free |= {2: torch.export.Dim("height", max=64), 3: torch.export.Dim("width", max=64)}
    return free


def other_images(name: str) -> Tensor:
    return images(3) if name in FIXED_MAP else images(3, 5, 11)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("row", rows(*QUICK))
def test_exported_program_computes_the_same_at_other_sizes(row: Any, init: Any) -> None:
    module = built(row.name, init)
    program = torch.export.export(module, (images(),), dynamic_shapes=(dynamic(row.name),))
    x = other_images(row.name)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("row", rows("ela"))
def test_onnx_runtime_computes_the_same_at_other_sizes(row: Any, init: Any) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    module = built(row.name, init)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            module, (images(),), dynamo=True, dynamic_shapes=(dynamic(row.name),), verbose=False
        )
    assert program is not None
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for x in (images(), other_images(row.name)):
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("size", [8, 20])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore")  # the tracer's own
def test_onnx_by_tracing_computes_the_same(row: Any, size: int, opset: int) -> None:
    """As ultralytics and whole detectors are exported: the operators of a trace, on a map of few values and of many."""
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    shape = (64, size, size)
    knobs = catalogue.find(row.name).resolve({}, *shape, strict=False, init="identity").knobs
    module = shake(catalogue.build(Choice(row.name, knobs), *shape, init="identity"), 5).eval()
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    file = io.BytesIO()
    torch.onnx.export(module, (x,), file, dynamo=False, opset_version=opset, input_names=["x"])
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.numpy()})
    want = module(x)
    assert (torch.from_numpy(y) - want).abs().max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize("row", rows(*QUICK))
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_graph_is_whole(row: Any, train: bool) -> None:
    """No graph break, forward and backward, traced without generating code."""
    torch._dynamo.reset()
    module = built(row.name, "paper").train(train)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x, y = images().requires_grad_(), images().requires_grad_()
    compiled(x).square().sum().backward()
    module(y).square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("row", rows())
def test_compiled_computes_the_same(row: Any, init: Any) -> None:
    torch._dynamo.reset()
    module = built(row.name, init)
    x = images()
    torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-4, atol=1e-5)

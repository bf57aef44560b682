"""Modules through torch.export, ONNX Runtime, torch.fx and torch.compile; some by default, all of
them under `slow`.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import pytest
import torch
from attention_asking import ROWS, choices, shake
from torch import Tensor, nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.attention import catalogue
from nas_attn.attention.choice import INITS, Choice
from nas_attn.attention.row import Row

SIZE = (32, 8, 7)
QUICK = ("ela",)
FIXED_MAP = {"ela": "cannot prove h = min(h, 4h)"} if torch.__version__.startswith("2.11.") else {}
"""Rows whose exported form keeps its map size, and why."""
FIXED_PROGRAM = {
    **FIXED_MAP,
    "mhsa": "cannot prove that a width is above 1",
    "scsa": "cannot prove that a padded map has a window",
}
"""The same of a program of torch.export, which refuses a free size."""


def rows(*quick: str) -> list[Any]:
    return [
        pytest.param(row, id=row.name, marks=() if row.name in quick else pytest.mark.slow)
        for row in ROWS
    ]


def built(name: str, init: Any, knobs: dict[str, Any] | None = None) -> nn.Module:
    canonical = catalogue.find(name).resolve(knobs or {}, *SIZE, strict=False, init=init)
    return shake(catalogue.build(Choice(name, canonical), *SIZE, init=init), 5).eval()


def images(batch: int = 2, height: int = SIZE[1], width: int = SIZE[2]) -> Tensor:
    return torch.randn(batch, SIZE[0], height, width, generator=torch.Generator().manual_seed(1))


def dynamic(fixed: bool) -> dict[int, Any]:
    free = {0: "batch"} if fixed else {0: "batch", 2: "height", 3: "width"}
    return {dim: torch.export.Dim(size, max=64) for dim, size in free.items()}


def other_images(fixed: bool) -> Tensor:
    return images(3) if fixed else images(3, 5, 11)


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("row", rows(*QUICK))
def test_exported_program_computes_the_same_at_other_sizes(row: Any, init: Any) -> None:
    module = built(row.name, init)
    fixed = row.name in FIXED_PROGRAM
    program = torch.export.export(module, (images(),), dynamic_shapes=(dynamic(fixed),))
    x = other_images(fixed)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("init", ["identity", pytest.param("paper", marks=pytest.mark.slow)])
@pytest.mark.parametrize("row", rows(*QUICK))
def test_onnx_runtime_computes_the_same_at_other_sizes(row: Any, init: Any) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    module, fixed = built(row.name, init), row.name in FIXED_MAP
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            module, (images(),), dynamo=True, dynamic_shapes=(dynamic(fixed),), verbose=False
        )
    assert program is not None
    program.save(file)  # type: ignore[arg-type]
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for x in (images(), other_images(fixed)):
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-5)


EVERYWHERE = """
    Abs Add And AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv Div Equal Erf Expand
    Flatten Floor Gather Gemm GreaterOrEqual HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization MatMul Max Mod
    Mul Pad Pow Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax Split Sqrt
    Squeeze Sub Tanh Transpose Unsqueeze Where
"""
"""Operators that runtimes in use have."""


UNKNOWN_TO_PNNX = {
    "aten::addcmul",
    "aten::lerp",
    "aten::linalg_vector_norm",
    "aten::movedim",
}
"""What the converter to ncnn does not take, or this package does not use when traced."""


@pytest.mark.parametrize(
    "which", [slice(1), pytest.param(slice(1, None), marks=pytest.mark.slow)], ids=["usual", "all"]
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore")  # the tracer's own
def test_onnx_by_tracing_computes_the_same_with_common_operators(row: Row, which: slice) -> None:
    """As ultralytics and whole detectors are exported, with each choice that the module offers.
    Images stay images (ncnn).
    """
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    x = images(1)
    for knobs in choices(row)[which]:
        module = built(row.name, "identity", knobs)
        want = module(x)
        for opset in (18,) if knobs else (17, 20):
            file = io.BytesIO()
            torch.onnx.export(
                module,
                (x,),
                file,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=["x"],
            )
            nodes = onnx.load_from_string(file.getvalue()).graph.node
            assert {node.op_type for node in nodes} <= set(EVERYWHERE.split()), knobs
            casts = [node.attribute[0].i for node in nodes if node.op_type == "Cast"]
            # float16 converters stop at them; those of sizes are of no weight
            assert set(casts) <= {onnx.TensorProto.INT64, onnx.TensorProto.BOOL}, knobs
            session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
            (y,) = session.run(None, {"x": x.numpy()})
            off = (torch.from_numpy(y) - want).abs().max()
            assert off < 1e-4 * want.abs().max(), (knobs, opset)
        traced = [*torch.jit.trace(module, x).inlined_graph.nodes()]
        assert not {node.kind() for node in traced} & UNKNOWN_TO_PNNX, knobs
        slices = [node for node in traced if node.kind() == "aten::slice"]
        assert all([*node.inputs()][-1].toIValue() == 1 for node in slices), (
            f"{knobs}: ncnn has no steps"
        )
        behind = [
            node for node in traced if node.kind() != "aten::cat" and node not in slices
        ]  # these are also of weights
        made = [y.type().sizes() for node in behind for y in node.outputs() if y.isCompleteTensor()]
        assert all(sizes[0] == 1 for sizes in made if len(sizes) > 3), knobs


@pytest.mark.parametrize(
    "which", [slice(1), pytest.param(slice(1, None), marks=pytest.mark.slow)], ids=["usual", "all"]
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.filterwarnings("ignore")  # the tracer's own
def test_a_traced_onnx_file_with_free_sides_is_right_at_any_size(row: Row, which: slice) -> None:
    """As `YOLO.export(format="onnx", dynamic=True)` writes it: of two modules in turn, since one may
    hide from the next that a size is free.
    """
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    free = {0: "batch", 2: "height", 3: "width"}
    for knobs in choices(row)[which]:
        between = nn.Sequential(nn.Conv2d(SIZE[0], SIZE[0], 1), nn.ReLU())
        modules = [built(row.name, "identity", knobs) for _ in range(2)]
        network = nn.Sequential(modules[0], between, modules[1]).eval()
        file = io.BytesIO()
        torch.onnx.export(
            network,
            (images(),),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": free},
        )
        session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        for x in (images(), images(1, 11, 20), images(3, 5, 4)):
            (y,) = session.run(None, {"x": x.numpy()})
            want = network(x)
            assert (torch.from_numpy(y) - want).abs().max() < 1e-4 * want.abs().max(), knobs


@pytest.mark.parametrize("row", rows(*QUICK))
def test_networks_traced_by_fx_compute_the_same(row: Row) -> None:
    for option in ("block", "residual"):
        model = backbones.create("resnet20", input_shape=(3, 16, 16), classes=10, width=8)
        network = na.attach(
            model, f"stage2@{option}={row.name} stage3@{option}={row.name}", input_shape=(3, 16, 16)
        )
        shake(network.double(), 3)
        graph = torch.fx.symbolic_trace(network)
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2)).double()
        torch.testing.assert_close(graph(x), network(x))  # in training
        torch.testing.assert_close(graph.eval()(x), network.eval()(x))


@pytest.mark.parametrize("row", rows(*QUICK))
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_graph_is_whole(row: Any, train: bool) -> None:
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
    torch.testing.assert_close(
        torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-4, atol=1e-5
    )

"""What every row of the table of latency modes promises: a new mode is tested from the day it
comes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn.latency import nets
from nas_attn.latency.runtime_files import INT8, OPENERS, opened, write_runtime_file
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.tables import LATENCY_MODES, LatencyMode

MODES = [pytest.param(mode, id=name) for name, mode in LATENCY_MODES.items()]
IN_FILES = [
    pytest.param(mode, id=name)
    for name, mode in LATENCY_MODES.items()
    if name.removesuffix(INT8) in OPENERS
]


def usable(mode: LatencyMode) -> LatencySection:
    """Settings for this machine; skips what is not installed or needs a GPU."""
    if "cpu" not in mode.devices:
        pytest.skip(f"{mode.name} needs a GPU")
    if mode.package and importlib.util.find_spec(mode.package) is None:
        pytest.skip(f"{mode.package} is not installed")
    command = {"command": "sh -c 'echo 1.5'"} if mode.name == "command" else {}
    return LatencySection(mode=mode.name, **command)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8 * 64, 4)).eval()


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_network_has_the_memory_format_that_is_recorded(channels_last: bool) -> None:
    section = LatencySection(channels_last=channels_last)
    given = torch.contiguous_format if channels_last else torch.channels_last
    model = nets.deployed(network().to(memory_format=given), section, (3, 8, 8))  # type: ignore[call-overload]
    (weight,) = (p for p in model.parameters() if p.ndim == 4)
    assert weight.is_contiguous() is not channels_last
    assert weight.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_says_where_it_runs(mode: LatencyMode) -> None:
    assert set(mode.devices) <= {"cpu", "cuda"}
    assert mode.devices
    assert all(isinstance(getattr(torch, dtype), torch.dtype) for dtype in mode.dtypes)
    assert callable(mode.prepare())
    if mode.extra:
        assert mode.package


@pytest.mark.parametrize("mode", MODES)
def test_a_network_is_timed_in_each_mode(mode: LatencyMode) -> None:
    section = usable(mode)
    if mode.extra or mode.name == "command":
        pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    x = nets.example_input(section, (3, 8, 8), seed=0)
    with torch.inference_mode():
        net = nets.prepare(network(), section, x)
        own, wall = net.turn(2)
    assert 0 < own < 1e4
    assert 0 < wall < 1e4


@pytest.mark.parametrize("mode", IN_FILES)
def test_a_runtime_computes_what_torch_does(mode: LatencyMode, tmp_path: Path) -> None:
    """Through the file that the row's function writes."""
    section = usable(mode)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "network.onnx"
    model = network()
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    write_runtime_file(model, section, x, images, path)
    call, outputs = opened(section, x.numpy(), path)
    call()
    with torch.no_grad():
        expected = model(x)
    found = torch.from_numpy(outputs()[0]).reshape(expected.shape)
    tolerance = 0.1 if mode.quantized else 1e-4
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_in_the_page_on_latency(mode: LatencyMode) -> None:
    page = (Path(__file__).parents[2] / "docs" / "explain" / "latency.md").read_text("utf-8")
    table = [line for line in page.splitlines() if line.startswith("| `mode = ")]
    assert any(f'"{mode.name}"' in line for line in table)


def test_int8_is_the_same_on_processors_that_add_products_in_16_bits(tmp_path: Path) -> None:
    """x86 without VNNI adds two products of a uint8 and an int8 in 16 bits."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    mode = LATENCY_MODES["onnxruntime-int8"]
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    # the first image has the largest values, so that sums are as large as they can be
    images = torch.rand(16, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    images[0] = 1.0
    path = tmp_path / "network.onnx"
    write_runtime_file(model, usable(mode), images[:1], images, path)
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(path)).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8
    ]
    largest = max(int(abs(weight.astype(int)).max()) for weight in weights)
    assert 2 * 255 * largest < 2**15
    session = runtime.InferenceSession(str(path))
    (output,) = session.run(None, {session.get_inputs()[0].name: images[:1].numpy()})
    with torch.no_grad():
        expected = model(images[:1]).numpy()
    assert abs(output - expected).max() < 0.03 * expected.max()

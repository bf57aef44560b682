"""What every row of the table of formats promises: a new format is tested from the day it comes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn import backbones, export
from nas_attn.export.formats import FORMATS, Format, Interface
from nas_attn.recipe.recipe import BackboneSection

SHAPE = (1, 12, 12)
EXTRAS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
SECTION = BackboneSection(name="resnet8", width=8)
INTERFACE = Interface(("a", "b", "c"), (0.5,), (0.5,), (3,))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return backbones.build(SECTION, input_shape=SHAPE, classes=3).eval()


@pytest.fixture
def written(form: Format, network: nn.Module, tmp_path: Path) -> Path:
    for package in EXTRAS.get(form.name.removesuffix("-int8"), ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = tmp_path / f"network{form.suffix}"
    return export.write(
        network, path, form.name, input_shape=SHAPE, notes={"study": "a"}, interface=INTERFACE
    )


@pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in FORMATS.items()])
def test_a_format_writes_what_opening_it_computes(
    form: Format, network: nn.Module, written: Path
) -> None:
    """The files begin as the row says; what opens them computes what torch does."""
    head = written.read_bytes()[:8].lower()
    assert any(head.startswith(begin) for begin in form.begins)
    if form.open is None:
        stored = torch.load(written, weights_only=True)
        assert stored["notes"] == {"study": "a"}
        assert stored["state_dict"].keys() == network.state_dict().keys()
        return
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x)
    found = torch.from_numpy(form.open(written)(x.numpy()))
    tolerance = 0.2 if form.quantized else 1e-4
    assert (found - expected).abs().max() < tolerance * expected.abs().max()

"""A network in int8 and for OpenVINO, beside float32."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from nas_attn import backbones, data
from nas_attn.errors import UserError
from nas_attn.export import write
from nas_attn.export.card import deployed_table
from nas_attn.export.deploying import deploy, known_kinds
from nas_attn.recipe import BackboneSection, DataSection


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, data.Dataset]:
    """A small network as ONNX, and images."""
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    dataset = data.load(DataSection(name="digits-8x8"), device="cpu")
    torch.manual_seed(0)
    section = BackboneSection(name="resnet8", width=4)
    model = backbones.build(section, input_shape=dataset.input_shape, classes=len(dataset.classes))
    return write(model, tmp_path / "net.onnx", "onnx", input_shape=dataset.input_shape, notes={}), dataset


@pytest.mark.filterwarnings("default")
def test_int8_is_a_file_of_its_own_and_both_are_scored_and_timed(exported: tuple[Path, data.Dataset]) -> None:
    import onnx

    path, dataset = exported
    whole, small = deploy(path, ["int8"], dataset.validation, raw=False)
    assert [(row.precision, row.file) for row in (whole, small)] == [("float32", "net.onnx"), ("int8", "net.int8.onnx")]
    kinds = {node.op_type for node in onnx.load(path.with_name("net.int8.onnx")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert whole.images == small.images == len(dataset.validation)
    assert min(whole.ms, small.ms) > 0
    table = deployed_table([row.as_dict() for row in (whole, small)])
    assert f"| this | int8 | ONNX Runtime {small.version} | {small.right} of {small.images} |" in table
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.int8.onnx", "net.onnx"]


@pytest.mark.filterwarnings("default")
def test_openvino_computes_what_onnx_runtime_does_and_leaves_nothing_where_it_is_not_kept(
    exported: tuple[Path, data.Dataset],
) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    path, dataset = exported
    ours, theirs = deploy(path, ["openvino"], dataset.validation, raw=False, network="no attention", keep=False)
    assert (theirs.runtime, theirs.precision, theirs.file) == ("OpenVINO", "float32", None)
    assert abs(ours.right - theirs.right) <= 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.onnx"]


def test_what_is_not_installed_or_unknown_is_said_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"needs openvino, which is not installed: pip install 'nas-attn\[openvino\]'"):
        known_kinds(["openvino"])
    with pytest.raises(UserError, match="--also 'fp4' is nothing that export makes: give int8 or openvino"):
        known_kinds(["fp4"])

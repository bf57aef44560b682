"""Each format is read back by the program it is for, and computes the same at another batch
size.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nas_attn as na
from nas_attn import backbones, errors, export
from nas_attn.export.formats import FORMATS, find_format
from nas_attn.recipe import recipe
from nas_attn.recipe.tasks import find

SHAPE = (1, 12, 12)
NOTES = {
    "study": "digits",
    "placement": "stage1=se(reduction=4) stage2=ela(kernel_size=7, groups=1)",
}
PLACEMENT = "stage1=se(reduction=4) stage2=ela(kernel_size=7, groups=4) stage3=coord(reduction=4)"


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    bare = backbones.build(
        recipe.BackboneSection(name="resnet8", width=8), input_shape=SHAPE, classes=4
    )
    return na.attach(bare, PLACEMENT, input_shape=SHAPE, init="paper").eval()


@pytest.fixture(scope="module")
def model() -> nn.Module:
    trained = network(1).train()
    with torch.no_grad():
        for _ in range(3):  # running statistics other than a fresh network's
            trained(2 * torch.randn(16, *SHAPE) + 1)
    return trained.eval()


def test_a_name_or_the_ending_of_a_file_gives_the_format() -> None:
    assert [find_format("", file=file).name for file in ("m.ONNX", "m.pth", "m")] == [
        "onnx",
        "weights",
        "weights",
    ]
    for name, file in (("weights", "m.onnx"), ("", "m.pdf"), ("tflite", "m")):
        with pytest.raises(errors.UserError, match="onnx"):
            find_format(name, file=file)


def test_a_yolos_own_format_takes_any_file_that_ends_like_it() -> None:
    task = find("detection", "ultralytics:yolo11n.yaml")
    for name, file, taken in (
        ("ultralytics", "my-best.pt", "ultralytics"),
        ("ultralytics", "my.pt", "ultralytics"),
        ("ultralytics", "", "ultralytics"),
        ("", "my-best.pt", "weights"),
    ):
        assert find_format(name, task, file).name == taken
    with pytest.raises(errors.UserError, match=r"\*\.pt"):
        find_format("ultralytics", task, "my.onnx")


def computed(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


class Branching(nn.Module):
    """A network that no exporter can write."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        if y.mean() > 0:
            y = y * 2
        return y.mean((2, 3))


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_branch_on_values_is_named_and_nothing_else_is_printed(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    place = r"branches on the values .* test_export_formats.py:\d+ \(`if y.mean\(\) > 0:`\)"
    with pytest.raises(errors.OperationError, match=place):
        export.write(
            Branching(),
            tmp_path / f"a{find_format(name).suffix}",
            name,
            input_shape=SHAPE,
            notes={},
        )
    assert capfd.readouterr() == ("", "")


BATCHES = [
    torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(3)) for count in (1, 5)
]


def written(model: nn.Module, folder: Path, format_: str) -> Path:
    path = folder / "exported" / f"net{export.FORMATS[format_].suffix}"
    assert export.write(model, path, format_, input_shape=SHAPE, notes=NOTES) == path
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    return path


def test_weights(model: nn.Module, tmp_path: Path) -> None:
    found = torch.load(written(model, tmp_path, "weights"), weights_only=True)
    assert found["notes"] == NOTES
    other = network(2)
    other.load_state_dict(found["state_dict"])
    assert torch.equal(computed(other, BATCHES[0]), computed(model, BATCHES[0]))


@pytest.mark.filterwarnings("default")
def test_a_program_of_torch_export(model: nn.Module, tmp_path: Path) -> None:
    extra = {"notes.json": ""}
    program = torch.export.load(written(model, tmp_path, "torch"), extra_files=extra).module()
    for x in BATCHES:
        torch.testing.assert_close(computed(program, x), computed(model, x))
    assert json.loads(extra["notes.json"]) == NOTES


# test_export_rows.py computes with the file, too
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_onnx_through_onnx_runtime(model: nn.Module, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    session = runtime.InferenceSession(
        str(written(model, tmp_path, "onnx")), providers=["CPUExecutionProvider"]
    )
    assert [(entry.name, entry.shape[1:]) for entry in session.get_inputs()] == [
        ("image", list(SHAPE))
    ]
    for x in BATCHES:
        (output,) = session.run(None, {"image": x.numpy()})
        np.testing.assert_allclose(output, computed(model, x).numpy(), rtol=1e-4, atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map == NOTES


def test_what_was_there_stays_when_writing_fails(model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(errors.OperationError, match="cannot be written"):
        export.write(model, tmp_path / "file" / "net.pt", "weights", input_shape=SHAPE, notes={})
    assert (tmp_path / "file").read_text() == "mine"
    path = tmp_path / "net.pt"
    path.write_text("old")
    broken = nn.Module()  # cannot be traced: it has no forward
    with pytest.raises(errors.OperationError, match="cannot be exported"):
        export.write(broken, path, "torch", input_shape=SHAPE, notes={})
    assert path.read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "net.pt"]


def test_int8_in_onnx_runtime_is_near_the_network_but_not_the_same(tmp_path: Path) -> None:
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ]
    network = nn.Sequential(*layers).eval()
    path = tmp_path / "net.onnx"
    images = 2 * torch.randn(64, *SHAPE) + 1
    export.write(network, path, "onnx-int8", input_shape=SHAPE, notes=NOTES, images=images)
    open_file = FORMATS["onnx-int8"].open
    assert open_file is not None
    run = open_file(path)
    for x in (images[:1], images[:5]):
        expected = computed(network, x).numpy()
        apart = np.abs(run(x.numpy()) - expected).max() / np.abs(expected).max()
        assert 1e-5 < apart < 0.5

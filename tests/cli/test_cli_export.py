"""`nas-attn export` and `check-export`: what is taken along says what it is, and gives the study's score elsewhere."""

import json
from pathlib import Path

import pytest
import torch

SMALL = {
    "backbone.width": "4",
    "data.options": "{ train = 200, validation = 150, test = 20, size = 12 }",
    "training.rungs": "[1]",
    "training.start": "scratch",
    "search.trials": "2",
    "search.confirm_seeds": "0",
    "latency.max_sessions": "1",
    "latency.session_seconds": "0.1",
    "objectives": '["accuracy", "params"]',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas) -> Path:
    """A folder with a finished study of two candidates, the second with attention everywhere."""
    monkeypatch.chdir(tmp_path)
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    ended = nas("search", "digits", "--workers", "1", "--threads", "1", "--quiet", *settings)
    assert ended.status == 0, ended.err
    return tmp_path


@pytest.mark.filterwarnings("default")
def test_what_is_exported_scores_elsewhere_what_its_card_says(folder: Path, nas) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    exports = {
        "digits.pt": [],
        "digits.py": ["--format", "python"],
        "digits.onnx": ["--format", "onnx"],
        "camera.onnx": ["--format", "onnx", "--normalize", "-o", "camera.onnx"],
    }
    right = set()
    for name, options in exports.items():
        told = nas("export", "--trial", "1", "--json", *options).json
        card = json.loads((folder / f"{name}.json").read_text())
        assert told["card"] == card
        assert told["file"] == card["file"] == name
        assert (card["trial"], card["study"], card["placement"]) == (1, "digits", told["placement"])
        assert card["output"]["classes"] == [str(digit) for digit in range(10)]
        assert card["input"]["dtype"] == ("uint8" if name == "camera.onnx" else "float32")
        assert (card["training"]["images"], card["here"]["images"]) == (150, 150)
        assert abs(card["training"]["right"] - card["here"]["right"]) <= card["here"]["judged_otherwise"]
        assert card["cost"]["params"] == sum(p.numel() for p in trained(folder).values() if p.is_floating_point()) - bn(
            folder
        )
        found = nas("check-export", name, "--json").json
        assert found["agrees"]
        assert found["elsewhere"] == (name != "digits.pt")
        right.add(found["right"])
        text = (folder / f"{name}.md").read_text()
        paper = next(source["paper"] for source in card["sources"] if source["paper"])
        assert all(part in text for part in (told["placement"], f"{found['right']} of 150 right", paper))
    assert len(right) == 1, "one network, one score"
    assert card["check"]["difference"] < 1e-4


@pytest.mark.filterwarnings("default")
def test_weights_are_checked_point_by_point_whatever_sites_are_called_by_then(folder: Path, nas) -> None:
    assert nas("export", "--trial", "1").status == 0
    path = folder / "digits.pt.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "placement": "a_site_of_another_version=se"}))
    assert nas("check-export", "digits.pt", "--json").json["right"] == card["here"]["right"]


def trained(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "digits.pt", weights_only=True)["state_dict"]


def bn(folder: Path) -> int:
    """Values of running statistics, which are no parameters."""
    return sum(value.numel() for name, value in trained(folder).items() if "running_" in name)


def test_what_an_export_or_its_check_cannot_do(folder: Path, nas) -> None:
    assert "normalize does not apply to the format 'weights'" in nas("export", "--trial", "1", "--normalize").error
    assert "there is no file 'digits.pt'" in nas("check-export", "digits.pt").error
    assert nas("export", "--trial", "1", "--no-check").status == 0
    assert json.loads((folder / "digits.pt.json").read_text())["here"] is None
    (folder / "digits.pt").write_bytes((folder / "digits.pt").read_bytes() + b" ")
    assert "is not the file that its card describes" in nas("check-export", "digits.pt").error
    (folder / "digits.pt.json").write_text("{}")
    assert "card of this version" in nas("check-export", "digits.pt").error
    (folder / "digits.pt.json").unlink()
    assert "there is no card 'digits.pt.json'" in nas("check-export", "digits.pt").error
    (folder / "digits.pt").write_text("mine")
    ended = nas("export", "--trial", "1", "--format", "python")
    assert "beside --output 'digits.pt'" in ended.error
    assert not (folder / "digits.py").exists()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("format_", ["onnx-int8", "openvino-int8"])
def test_an_int8_file_scores_what_its_card_says(folder: Path, nas, format_: str) -> None:
    pytest.importorskip("openvino" if format_.startswith("openvino") else "onnxruntime")
    more = ["--normalize"] if format_ == "onnx-int8" else []
    told = nas("export", "--trial", "1", "--json", "--format", format_, *more).json
    kept = told["card"]["here"]
    assert 0 < kept["in_file"]["right"] <= 150
    assert abs(kept["in_file"]["right"] - kept["right"]) < 30
    found = nas("check-export", told["file"], "--json").json
    assert found["agrees"]
    assert found["right"] == kept["in_file"]["right"]
    assert "This file in int8" in (folder / f"{told['file']}.md").read_text()

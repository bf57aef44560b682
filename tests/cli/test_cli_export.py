"""`nas-attn export` and `validate-export`: what is taken along says what it is, and gives the study's
score elsewhere.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Nas
from materials import photographs
from torch import nn

import nas_attn as na
from nas_attn.data.decoding import Cut, Source, decode
from nas_attn.export import write
from nas_attn.export.card import markdown

Card = dict[str, Any]
MEAN, STD = [0.25, 0.5, 0.1], [0.2, 0.3, 0.4]
SMALL = {
    "backbone.width": 4,
    "data.options": {"train": 200, "validation": 150, "test": 20, "size": 12},
    "training.rungs": [1],
    "training.start": "scratch",
    "search.trials": 2,
    "search.confirm_seeds": 0,
    "latency.tolerance": 0.9,
    "latency.session_seconds": 0.1,
    "objectives": ["accuracy", "params"],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study of two candidates, the second with attention everywhere."""
    path = tmp_path_factory.mktemp("study") / "nas_attn.db"
    na.search(
        "digits", overrides=SMALL, storage=f"sqlite:///{path}", threads=1, say=lambda line: None
    )
    return path


@pytest.fixture
def folder(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, for what is exported of the study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ATTN_STORAGE", f"sqlite:///{study}")
    return tmp_path


@pytest.mark.filterwarnings("default")
def test_what_is_exported_scores_elsewhere_what_its_card_says(folder: Path, nas) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    exports = {
        "digits.pt": [],
        "digits.pt2": ["--format", "torch"],
        "camera.onnx": ["--format", "onnx", "--normalize", "-o", "camera.onnx"],
    }
    right = set()
    for name, options in exports.items():
        told = nas("export", "--placement", "1", "--json", *options).json
        card = json.loads((folder / f"{name}.json").read_text())
        assert told["card"] == card
        assert told["file"] == card["file"] == name
        assert (card["trial"], card["study"], card["placement"]) == (1, "digits", told["placement"])
        assert card["output"]["classes"] == [str(digit) for digit in range(10)]
        assert card["input"]["dtype"] == ("uint8" if name == "camera.onnx" else "float32")
        assert (card["training"]["images"], card["here"]["images"]) == (150, 150)
        assert (
            abs(card["training"]["right"] - card["here"]["right"])
            <= card["here"]["judged_otherwise"]
        )
        state = torch.load(folder / "digits.pt", weights_only=True)["state_dict"]
        parameters = {
            name: value
            for name, value in state.items()
            if value.is_floating_point() and "running_" not in name
        }
        assert card["cost"]["params"] == sum(value.numel() for value in parameters.values())
        found = nas("validate-export", name, "--json").json
        assert found["agrees"]
        right.add(found["right"])
        text = (folder / f"{name}.md").read_text()
        paper = next(source["paper"] for source in card["sources"] if source["paper"])
        assert all(
            part in text for part in (told["placement"], f"{found['right']} of 150 right", paper)
        )
    assert len(right) == 1, "one network, one score"
    assert card["check"]["difference"] < 1e-4


READINGS: dict[str, Card] = {
    "square": {"fit": "cut", "resize": None, "interpolation": "bilinear"},
    "published": {"fit": "cut", "resize": 41, "interpolation": "bicubic"},
    "whole": {"fit": "resize", "resize": None, "interpolation": "bilinear"},
    "edged": {"fit": "letterbox", "resize": None, "interpolation": "bilinear"},
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("size", [(33, 33), (20, 44)], ids=["square", "wide"])
def test_the_lines_of_a_card_score_the_file_on_photographs(
    folder: Path, nas, size: tuple[int, int], reading: str
) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    how = READINGS[reading]
    if how["resize"] and size[0] != size[1]:
        pytest.skip("data.options.resize is for a square")
    card = nas("export", "--placement", "1", "--no-check", "--json").json["card"]
    card |= {"file": "net.onnx", "format": "onnx"}
    card["input"] |= {"shape": ["N", 3, *size], "mean": MEAN, "std": STD, "reading": how}
    card["output"]["classes"] = ["cat", "dog", "owl"]
    photographs(folder / "FOLDER", of_each=4)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 3, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    write(network, folder / "net.onnx", "onnx", input_shape=(3, *size), notes={})
    (folder / "net.onnx.json").write_text(json.dumps(card))
    told: Card = {}
    exec(markdown(card).partition("```python\n")[2].partition("```")[0], told)
    cut = Cut(*size, how["fit"], how["resize"], how["interpolation"])
    right = []
    for number, name in enumerate(card["output"]["classes"]):
        for path in Path("FOLDER", name).iterdir():
            pixels = torch.from_numpy(decode(Source(path), cut).copy()) / 255
            image = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
            assert torch.allclose(torch.from_numpy(told["read"](path)), image, atol=1e-5)
            with torch.no_grad():
                right.append(int(network(image[None]).argmax()) == number)
    assert sorted(told["right"]) == sorted(right)


@pytest.mark.filterwarnings("default")
def test_weights_are_checked_point_by_point_whatever_sites_are_called_by_then(
    folder: Path, nas
) -> None:
    assert nas("export", "--placement", "1").status == 0
    path = folder / "digits.pt.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "placement": "a_site_of_another_version=se"}))
    assert nas("validate-export", "digits.pt", "--json").json["right"] == card["here"]["right"]


def test_what_an_export_or_its_check_cannot_do(folder: Path, nas) -> None:
    assert "normalize " in nas("export", "--placement", "1", "--normalize").error
    assert "'digits.pt'" in nas("validate-export", "digits.pt").error
    assert nas("export", "--placement", "1", "--no-check").status == 0
    assert json.loads((folder / "digits.pt.json").read_text())["here"] is None
    (folder / "digits.pt").write_bytes((folder / "digits.pt").read_bytes() + b" ")
    assert "card" in nas("validate-export", "digits.pt").error
    (folder / "digits.pt.json").write_text("{}")
    assert "card of this version" in nas("validate-export", "digits.pt").error
    (folder / "digits.pt.json").unlink()
    assert "'digits.pt.json'" in nas("validate-export", "digits.pt").error
    (folder / "digits.pt").write_text("mine")
    assert "'digits.pt'" in nas("export", "--placement", "1").error
    assert (folder / "digits.pt").read_text() == "mine"


# test_export_rows.py has the file in int8, and the test above a card
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_an_int8_file_scores_what_its_card_says(folder: Path, nas) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    told = nas("export", "--placement", "1", "--json", "--format", "onnx-int8", "--normalize").json
    kept = told["card"]["here"]
    assert 0 < kept["in_file"]["right"] <= 150
    assert abs(kept["in_file"]["right"] - kept["right"]) < 30
    found = nas("validate-export", told["file"], "--json").json
    assert found["agrees"]
    assert found["right"] == kept["in_file"]["right"]
    assert "This file in int8" in (folder / f"{told['file']}.md").read_text()


OWN = """
from torch import nn

def build(classes=0):
    layers = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()]
    more = [nn.Conv2d(4, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*layers, *more, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
"""
OWN_STUDY = """
name = "own"
objectives = ["score", "params"]
space = "channel"
backbone = { name = "own_network:build" }
data = { name = "external", input_shape = [1, 16, 16] }
target = { start = "scratch", epochs = 1 }
search = { trials = 1, baselines = "bare", confirm_seeds = 0 }
"""


def test_the_output_of_a_network_of_ones_own_is_what_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("own_network.py").write_text(OWN)
    Path("own.toml").write_text(OWN_STUDY)
    study = na.begin("own.toml")
    while run := study.ask():
        run.tell(0.5)
    told = nas("export", "own", "--placement", "0", "--no-check", "--json")
    assert told.json["card"]["output"]["shape"] == ["N", 5]
    assert told.json["card"]["output"]["classes"] == []
    assert "Classes in order" not in Path("own.pt.md").read_text()


def test_no_command_is_named_that_cannot_call_a_loop_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("own_network.py").write_text(OWN)
    Path("own.toml").write_text(OWN_STUDY.replace("epochs = 1", "epochs = 2"))
    study = na.begin("own.toml", overrides={"training.rungs": [1]})
    assert nas("status", "own", "--json").json["next"] is None
    while run := study.ask():
        run.tell(0.5)
    told = nas("export", "own", "--placement", "0", "--no-check")
    assert told.status == 0
    assert "nas-attn retrain own" not in told.err
    assert nas("retrain", "own", "--placement", "0").status == 2


def test_no_training_is_asked_for_that_the_search_has_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    assert "nas-attn retrain digits" in nas("export", "--placement", "1", "--no-check").err
    own = f"sqlite:///{folder / 'own.db'}"
    alike = {key: value for key, value in SMALL.items() if not key.startswith("training.")}
    alike |= {"target.epochs": 1, "target.start": "scratch"}
    na.search("digits", overrides=alike, storage=own, threads=1, say=lambda line: None)
    monkeypatch.setenv("NAS_ATTN_STORAGE", own)
    said = nas("export", "--placement", "1", "--no-check").err
    assert "retrain" not in said
    assert "the target" in said


class Intruder:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def code_in_backbone(file: Path, card: Card) -> None:
    card["recipe"]["backbone"] = {"name": "intruder:run"}


def code_in_data(file: Path, card: Card) -> None:
    card["data"]["section"]["name"] = "intruder:run"


def code_in_module(file: Path, card: Card) -> None:
    card["modules"][0]["choices"][0] = {"type": "intruder:run", "knobs": {}}


def code_in_placement(file: Path, card: Card) -> None:
    card["modules"] = []
    card["placement"] = "backbone=intruder:run"


def other_format(file: Path, card: Card) -> None:
    card["format"] = "torch"


Spoil = Callable[[Path, Card], None]


# two ONNX exports; a file that is not its card's is refused above, too
@pytest.mark.slow
def test_a_simplified_graph_is_recognised_and_another_networks_is_not(folder: Path, nas) -> None:
    pytest.importorskip("onnxruntime", reason="the onnx extra is not installed")
    onnx = pytest.importorskip("onnx", reason="the onnx extra is not installed")
    pytest.importorskip("onnxscript", reason="the onnx extra is not installed")
    for trial, name in ((0, "bare.onnx"), (1, "net.onnx")):
        told = nas("export", "--placement", str(trial), "--format", "onnx", "-o", name)
        assert told.status == 0, told.err
    graph = onnx.load("net.onnx")
    for node in graph.graph.node:
        # names of operations are what every simplifier changes
        node.name = ""
    onnx.save(graph, "net.onnx")
    told = nas("validate-export", "net.onnx", "--json").json
    assert told["rewritten"]
    assert told["agrees"]
    shutil.copy("bare.onnx", "net.onnx")
    assert "is not the file that its card describes" in nas("validate-export", "net.onnx").error


def from_a_stranger(folder: Path, nas, spoil: Spoil | None) -> str:
    """An export in another folder, whose card agrees with its file; the working folder has a module
    that says when it is imported.
    """
    there = folder / "there"
    here = folder / "here"
    there.mkdir()
    here.mkdir()
    file = there / "net.pt"
    told = nas("export", "--placement", "1", "--no-check", "-o", str(file))
    assert told.status == 0, told.err
    at = there / f"{file.name}.json"
    card = json.loads(at.read_text())
    if spoil is not None:
        spoil(file, card)
    card["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    at.write_text(json.dumps(card))
    (here / "intruder.py").write_text("open('ran', 'w')\nrun = None\n")
    return str(Path("..", "there", file.name))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (other_format, "net.pt"),
        (code_in_backbone, "intruder:run"),
        (code_in_data, "intruder:run"),
        (code_in_module, "intruder:run"),
        (code_in_placement, "intruder:run"),
    ],
)
def test_code_of_an_export_from_elsewhere_runs_only_when_trusted(
    folder: Path,
    nas,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil,
    code: str,
) -> None:
    file = from_a_stranger(folder, nas, spoil)
    monkeypatch.chdir(folder / "here")
    monkeypatch.delitem(sys.modules, "intruder", raising=False)
    ended = nas("validate-export", file)
    assert f"runs code: '{code}': read it, then add --trust" in ended.error
    assert ended.status == 2
    assert not (folder / "here" / "ran").exists()
    ended = nas("validate-export", file, "--trust")
    assert "--trust" not in ended.err
    assert (folder / "here" / "ran").exists() == (spoil is not other_format)


def test_weights_from_elsewhere_are_scored_without_trust_and_a_pickle_never_runs(
    folder: Path, nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = from_a_stranger(folder, nas, None)
    monkeypatch.chdir(folder / "here")
    assert nas("validate-export", file, "--json").json["agrees"]
    path = Path(file)
    torch.save({"state_dict": Intruder()}, path)
    at = path.with_name("net.pt.json")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    at.write_text(json.dumps({**json.loads(at.read_text()), "sha256": digest}))
    for trust in ([], ["--trust"]):
        assert "damaged" in nas("validate-export", file, *trust).error
        assert not (folder / "here" / "ran").exists()

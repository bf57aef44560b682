"""`nas-attn advise`, as it is typed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from command_line import Nas
from materials import photographs

from nas_attn.backbones.torchvision_detectors import FIXED_SIDES, arguments
from nas_attn.cli import usual
from nas_attn.cli.common import parse_shape
from nas_attn.recipe.reading import load_recipe

ONE_SESSION = ("--set", "session_seconds=0.05", "--set", "tolerance=0.9")
QUICK = ("--input", "3x16x16", *ONE_SESSION)


def test_advice_of_a_small_network(nas: Nas) -> None:
    told = nas("advise", "resnet8", *QUICK, "--json").json
    assert told["latency"]
    assert told["start"] == "scratch"
    assert told["gain"]["low"] < told["gain"]["mean"] < told["gain"]["high"]
    assert 0 < told["probability"] < 1
    assert told["sources"]
    assert shlex.split(told["begin"])[:3] == ["nas-attn", "search", "PATH"]


# another whole advice; test_answer_advising.py has its lines
@pytest.mark.slow
def test_advice_of_a_small_network_as_a_text(nas: Nas) -> None:
    shown = nas("advise", "resnet8", *QUICK, "--init", "paper").out
    assert "5 sources" in shown
    assert "nas-attn search PATH --backbone resnet8" in shown


def test_the_printed_command_writes_a_recipe(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = nas("advise", "resnet8", *QUICK, "--data", "digits", "--json").json
    program, *words = shlex.split(told["recipe"])
    assert program == "nas-attn"
    assert nas(*words).status == 0
    assert load_recipe("study.toml").backbone.name == "resnet8"
    assert told["begin"] is None, "such data need a recipe first"


# an advice, and a study begun; what it prints is typed above, too
@pytest.mark.slow
def test_the_printed_search_can_begin(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the size and the form that were asked for, and with what is most likely to help."""
    photographs(tmp_path / "photos", side=16)
    monkeypatch.chdir(tmp_path)
    asked = ("--data", "folder:photos", "--init", "paper")
    told = nas("advise", "resnet8", *QUICK, *asked, "--json").json
    program, *words = shlex.split(told["begin"])
    assert program == "nas-attn"
    began = nas(*words, "--create-only")
    assert began.status == 0, began.error
    recipe = nas("show", "--json").json["recipe"]
    assert recipe["data"]["size"] == 16
    assert recipe["training"]["init"] == "paper"
    assert words[words.index("--placement") + 1] in {one["placement"] for one in told["latency"]}


def test_the_printed_search_has_both_sides_of_the_images(nas: Nas) -> None:
    told = nas("advise", "resnet8", "--input", "3x16x24", *ONE_SESSION, "--json").json
    words = shlex.split(told["begin"])
    assert words[words.index("--set") + 1] == "data.size=[16, 24]"


@pytest.mark.slow
def test_a_network_of_a_library_starts_from_its_weights(nas: Nas) -> None:
    told = nas(
        "advise", "torchvision:mobilenet_v3_small", "--input", "3x32x32", *ONE_SESSION, "--json"
    ).json
    assert told["start"] == "pretrained"
    assert told["gain"]["low"] < told["gain"]["mean"] < told["gain"]["high"]
    assert told["sources"]
    segmenter = "torchvision:lraspp_mobilenet_v3_large"
    task = nas("advise", segmenter, "--input", "3x64x64", *ONE_SESSION, "--json").json
    assert task["task"] == "segmentation"
    assert not task["known"]


@pytest.mark.parametrize("name", list(FIXED_SIDES))
def test_detectors_of_one_size_are_asked_about_at_it(name: str) -> None:
    channels, height, width = parse_shape(usual.usual_shape(f"torchvision:{name}"))
    assert channels == 3
    assert arguments(name, (height, width), 2)["num_classes"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "clasification"), "classification"),
        (("--init", "zero"), "identity"),
        (("--target", "scrach"), "scratch"),
        (("--target", "weights"), "scratch"),
        (("--set", "mode=onxruntime"), "onnxruntime"),
        (("--input", "16"), "3x224x224"),
    ],
)
def test_wrong_options_are_one_sentence(nas: Nas, words: tuple[str, ...], says: str) -> None:
    ended = nas("advise", "resnet8", *words)
    assert ended.status == 2
    assert says in ended.error


def test_a_missing_device_is_one_sentence(nas: Nas) -> None:
    ended = nas("advise", "resnet8", *QUICK, "--set", "device=cuda")
    assert ended.status == 1
    assert "CUDA" in ended.error

"""Where candidates start: random weights, the study's own backbone, weights of one's own; one and
several workers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from answers import DIGITS, QUICK, finished, kept_files, settings
from materials import photographs
from shell import Shell

from nas_attn.backbones import build
from nas_attn.recipe.recipe import BackboneSection

THREE = settings(QUICK, data__size="32", search__trials="3")


@pytest.mark.slow
def test_a_torchvision_network_from_the_start_that_init_writes(shell: Shell) -> None:
    """Its weights have versions, which get lost with a state_dict's metadata."""
    photographs(shell.folder / "photos", of_each=12, side=32)
    shell.types(
        "init deep.toml --data folder:photos --backbone torchvision:mnasnet0_5 --space channel"
    )
    ended = shell.types(
        f"search deep.toml --workers 1 --threads 1 --set training.learning_rate=0.01 {THREE}"
    )
    assert "Study deep: the front" in ended.out
    kept_files(shell, finished(shell, "deep", trials=3))


@pytest.fixture
def trained(shell: Shell) -> Path:
    """Weights of someone's own resnet8 for the tiny digits."""
    torch.manual_seed(7)
    network = build(BackboneSection(name="resnet8", width=4), input_shape=(1, 12, 12), classes=10)
    torch.save(network.state_dict(), shell.folder / "mine.pt")
    return shell.folder / "mine.pt"


@pytest.mark.slow
@pytest.mark.parametrize(("start", "workers"), [("scratch", 1), ("backbone", 2), ("pretrained", 1)])
def test_each_start(shell: Shell, trained: Path, start: str, workers: int) -> None:
    weights = {"training.weights": trained.name} if start == "pretrained" else {}
    tiny = settings(DIGITS, weights, training__start=start, search__trials="9")
    assert "9 of 512 placements" in shell.types(f"search digits --dry-run {tiny}").out
    search = shell.begins(f"search digits --workers {workers} --threads 1 {tiny}").until("trial 2 ")
    assert "nas-attn resume digits" in search.ctrl_c().ends(130).err
    shell.types(f"resume --workers {workers} --threads 1")
    answer = finished(shell, "digits", trials=9)
    assert answer["counts"]["scored"] >= 7
    assert bool(answer["backbone"]) == (start == "backbone")
    kept_files(shell, answer)
    shell.types("export digits --placement none -o none.pt")
    assert "conv1.weight" in " ".join(
        torch.load(shell.folder / "none.pt", weights_only=True)["state_dict"]
    )


@pytest.mark.slow
def test_published_weights_without_a_network_are_one_sentence(shell: Shell) -> None:
    nobody = "http://127.0.0.1:9"
    shell.variables |= dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nobody
    )
    shell.variables["TORCH_HOME"] = str(shell.folder / "torch")
    published = settings(DIGITS, training__start="pretrained", training__weights="default")
    published = published.replace(
        "--set 'backbone.width=4'", "--set backbone.name=torchvision:squeezenet1_1"
    )
    published = published.replace("size=12", "size=32")
    for dry in ("--dry-run", ""):
        error = shell.types(
            f"search digits --workers 1 --threads 1 {dry} {published}", status=2
        ).error
        assert "could not be downloaded" in error
    assert "nas_attn.db" not in shell.files()

"""Weights that do not belong to the network: one sentence before anything is trained or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from answers import DIGITS, settings
from shell import Shell
from torch import nn

from nas_attn import attach
from nas_attn.backbones import build
from nas_attn.recipe import BackboneSection

pytestmark = pytest.mark.slow
State = dict[str, torch.Tensor]


def resnet(name: str = "resnet8", width: int = 4) -> nn.Module:
    return build(BackboneSection(name=name, width=width), input_shape=(1, 12, 12), classes=10)


def with_nan() -> State:
    state = resnet().state_dict()
    next(iter(state.values())).view(-1)[0] = float("nan")
    return state


def with_attention() -> State:
    return attach(resnet(), "stage2=se(reduction=4)", input_shape=(1, 12, 12)).state_dict()


WRONG: dict[str, Callable[[], object]] = {
    "of a deeper network": lambda: resnet("resnet14").state_dict(),
    "not finite": with_nan,
    "with attention": with_attention,
    "no weights": lambda: {"epoch": 3},
}
WRAPPED: dict[str, Callable[[State], object]] = {
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "on several GPUs": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
}
PRETRAINED = settings(DIGITS, training__start="pretrained", training__weights="w.pt")


@pytest.mark.parametrize("what", WRONG)
def test_wrong_weights_are_refused_before_anything_is_done(shell: Shell, what: str) -> None:
    torch.save(WRONG[what](), shell.folder / "w.pt")
    refused(shell)


def refused(shell: Shell) -> None:
    before = shell.files()
    for dry in ("--dry-run", ""):
        ended = shell.types(f"search digits --workers 1 --threads 1 --trials 3 {dry} {PRETRAINED}", status=2)
        assert "w.pt" in ended.error
        assert len(ended.error) < 600
        assert shell.files() == before


@pytest.mark.parametrize("how", WRAPPED)
def test_usual_wrappings_are_taken(shell: Shell, how: str) -> None:
    torch.manual_seed(1)
    state = resnet().state_dict()
    torch.save(WRAPPED[how](state), shell.folder / "w.pt")
    frozen = settings(training__backbone_learning_rate="0", search__confirm_seeds="0")
    shell.types(f"search digits --workers 1 --threads 1 --trials 1 {PRETRAINED} {frozen}")
    shell.types("export digits --placement none")
    kept = torch.load(Path(shell.folder / "digits.pt"), weights_only=True)["state_dict"]
    assert torch.equal(
        kept["conv1.weight"] if "conv1.weight" in kept else next(iter(kept.values())), next(iter(state.values()))
    )


def test_published_weights_without_a_network_are_one_sentence(shell: Shell) -> None:
    nobody = "http://127.0.0.1:9"
    shell.variables |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nobody)
    shell.variables["TORCH_HOME"] = str(shell.folder / "torch")
    published = settings(DIGITS, training__start="pretrained", training__weights="default")
    published = published.replace("--set 'backbone.width=4'", "--set backbone.name=torchvision:squeezenet1_1")
    published = published.replace("size=12", "size=32")
    for dry in ("--dry-run", ""):
        error = shell.types(f"search digits --workers 1 --threads 1 {dry} {published}", status=2).error
        assert "could not be downloaded" in error
    assert "nas_attn.db" not in shell.files()

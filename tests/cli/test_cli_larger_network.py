"""A larger network without attention, taken as the answer: it is exported, retrained and tested as a
placement is.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import Nas
from torch import nn

import nas_attn as na
from nas_attn.answer.reading import answer
from nas_attn.answer.snapshot import Means
from nas_attn.storage.opening import open_study

PLACEMENT = "backbone=resnet8(width=16)"
# eight times as wide: tens of points better on any machine
RECIPE = """
name = "wider"
objectives = ["accuracy", "latency"]
space = { name = "wider", choices = { simam = {} } }
backbone = { name = "resnet8", width = 2 }
data = { name = "digits-8x8" }
target = { epochs = 2 }
search = { trials = 3, confirm_seeds = 1, controls = ["resnet8(width=16)"] }
training = { batch_size = 128 }
latency = { session_seconds = 0.1, tolerance = 0.9 }
limits = { max_latency_ratio = 20 }
"""
HERE = ("--workers", "1", "--threads", "1", "--device", "cpu")


@pytest.fixture
def wider(tmp_path: Path) -> None:
    """A study in the working folder whose answer is the larger network."""
    (tmp_path / "wider.toml").write_text(RECIPE)
    na.search("wider.toml", say=lambda line: None, device="cpu", threads=1)
    assert means() is Means.LARGER


def means() -> Means:
    return answer(open_study("wider").store).means


def size_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.usefixtures("wider")
def test_a_larger_network_is_exported_retrained_and_tested(tmp_path: Path, nas: Nas) -> None:
    larger = na.backbones.create("resnet8", width=16, input_shape=(1, 8, 8), classes=10)
    exported = nas("export", "--json").json
    assert exported["placement"] == PLACEMENT
    assert exported["card"]["cost"]["params"] == size_of(larger)
    assert nas("validate-export", "wider.pt", "--json").json["agrees"]

    retrained = nas("retrain", *HERE, "--json").json
    assert [run["placement"] for run in retrained["runs"]] == [PLACEMENT]
    exported = nas("export", "--json").json
    assert exported["placement"] == PLACEMENT
    reached = [run["metrics"]["accuracy"] for run in retrained["runs"]]
    assert exported["card"]["training"]["metrics"]["accuracy"] >= max(reached)
    larger.load_state_dict(torch.load(tmp_path / "wider.pt", weights_only=True)["state_dict"])

    (tested,) = nas("test", "--seeds", "2", *HERE, "--json").json["validations"]
    keys = {network["role"]: network["key"] for network in tested["family"]["networks"]}
    assert keys["recommended"] == exported["key"]
    (verdict,) = (
        found
        for found in tested["verdicts"]
        if (found["key"], found["control"]) == (keys["recommended"], keys["none"])
    )
    assert verdict["difference"] > 0.1
    assert means() is Means.LARGER

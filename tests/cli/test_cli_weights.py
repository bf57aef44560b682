"""Weights that a recipe names are read before anything is begun: by --dry-run, search and
resume.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from nas_attn import backbones
from nas_attn.recipe.recipe import BackboneSection

RECIPE = """
name = "given"
objectives = ["accuracy", "params"]
space = { name = "given", choices = { se = { reduction = [2, 4] } } }
backbone = { name = "resnet8", width = 4 }
search = { trials = 2, confirm_seeds = 0 }
data = { name = "digits-8x8", train_subset = 64 }
[training]
start = "pretrained"
weights = "weights.pt"
rungs = [1]
"""


def network(width: int = 4, classes: int = 5) -> nn.Module:
    return backbones.build(
        BackboneSection(name="resnet8", width=width), input_shape=(3, 32, 32), classes=classes
    )


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "given.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.parametrize("how", [["--dry-run"], ["--workers", "2"]], ids=" ".join)
def test_wrong_weights_are_one_sentence_and_nothing_is_begun(
    given: Path, nas, how: list[str]
) -> None:
    torch.save(network(width=8).state_dict(), "weights.pt")
    for words in ("has shape", "No such file"):
        ended = nas("search", "given.toml", *how)
        assert ended.status == 2
        assert words in ended.error
        assert sorted(path.name for path in given.iterdir() if path.suffix != ".pt") == [
            "given.toml"
        ]
        (given / "weights.pt").unlink(missing_ok=True)


def test_the_targets_weights_are_looked_at_before_the_search(given: Path, nas) -> None:
    torch.save(network().state_dict(), "weights.pt")
    torch.save(network(width=8).state_dict(), "target.pt")
    ended = nas("search", "given.toml", "--set", "target.weights=target.pt", "--workers", "1")
    assert ended.status == 2
    assert "weights 'target.pt': 'conv1.weight' has shape" in ended.error
    assert not list(given.glob("nas_attn*"))


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_weights_of_a_larger_network_with_another_head_are_searched_and_said_once(
    given: Path, nas, workers: str
) -> None:
    state = {f"encoder.{name}": value for name, value in network().state_dict().items()}
    torch.save(state | {"decoder.weight": torch.ones(3)}, "weights.pt")
    ended = nas("search", "given.toml", "--workers", workers, "--device", "cpu")
    assert ended.status == 0, ended.err
    assert ended.err.count("'encoder.'") == 1
    torch.save(network(width=8).state_dict(), "weights.pt")
    again = nas("resume", "--trials", "3", "--workers", workers, "--device", "cpu")
    assert again.status == 2
    assert "'conv1.weight' has shape (8, 3, 3, 3)" in again.error
    counts = nas("status", "given", "--json").json
    assert (counts["finished"], counts["trials"]) == (2, 2)

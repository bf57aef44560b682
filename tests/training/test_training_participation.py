"""A score without the candidate's attention is an error with the module's name, from whoever
trained it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from slots import MemorySlot
from torch import nn

import nas_attn as na
from nas_attn.attachment import attach
from nas_attn.attention.choice import Choice
from nas_attn.errors import TrainingError
from nas_attn.space.placement import BARE, Point, ResolvedPlacement
from nas_attn.training.evaluators import (
    EvaluatorRun,
    EvaluatorTrainer,
    Job,
    require_participation,
)
from nas_attn.training.run import Callbacks

SHAPE = (3, 8, 8)
PLACED = ResolvedPlacement(
    ((Point("1", 4, 8, 8), (Choice("eca"), Choice("simam"))),), BARE, "identity", ""
)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    return layers.eval()


def candidate() -> nn.Module:
    return attach(network(), PLACED)


@pytest.mark.parametrize(
    ("rebuild", "words"),
    [
        (lambda model: network(), "eca at '1.nas_attn.0' is not in it"),
        (lambda model: na.detach(copy.deepcopy(model)), "eca at '1.nas_attn.0' is not in it"),
        (
            lambda model: nn.Sequential(model[0], nn.ReLU(), *model[2:]),
            "eca at '1.nas_attn.0' is not in it",
        ),
        (lambda model: Ignoring(model), "eca at '1.nas_attn.0' did not run"),
        (lambda model: Hiding(model), "eca at '1.nas_attn.0' has no effect on its output"),
    ],
    ids=["built anew", "detached", "rebuilt", "not run", "no effect"],
)
def test_a_network_without_its_attention_is_told(rebuild: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=f"{words}; .*run.scored"):
        require_participation(rebuild(candidate()), PLACED, SHAPE)


@pytest.mark.parametrize(
    "wrap",
    [copy.deepcopy, nn.DataParallel, lambda m: nn.Sequential(m, nn.Softmax(1)), torch.compile],
)
def test_copies_and_wrappers_are_looked_into_and_a_collapsed_network_is_scored(wrap: Any) -> None:
    model = candidate()
    require_participation(wrap(model), PLACED, SHAPE)
    with torch.no_grad():
        model.get_parameter("4.weight").zero_()
    require_participation(model, PLACED, SHAPE)


def test_a_network_that_cannot_be_looked_at_is_told() -> None:
    with pytest.raises(TrainingError, match=r"Sequential .*5x8x8"):
        require_participation(candidate(), PLACED, (5, 8, 8))


class Ignoring(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.model[4](self.model[0](x).mean((2, 3)))  # type: ignore[index]
        return y


class Hiding(Ignoring):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.model(x)
        return super().forward(x)


@pytest.mark.parametrize("tells", [False, True])
def test_an_evaluator_names_the_network_that_it_scored(tmp_path: Path, tells: bool) -> None:
    built = network()

    def evaluate(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
        if tells and run.rung == 0:
            run.scored(model)
            run.scored(built)
        return {"miou": 0.5}

    trainer = EvaluatorTrainer(evaluate, folder=tmp_path, device="cpu", threads=1)
    seen: list[nn.Module] = []
    model = candidate()
    callbacks = Callbacks(lambda score: not seen.append(trainer.scored(model)))
    trainer.fit(model, Job(0, PLACED, [1, 2], MemorySlot(), callbacks, folder="k-0"))
    assert seen == ([built, model] if tells else [model, model])


EVALUATOR = """
from nas_attn.backbones import build
from nas_attn.recipe.recipe import BackboneSection

def evaluate(model, run):
    if "simam" in run.placement:
        run.scored(build(BackboneSection(name="resnet8", width=4), input_shape=(1, 8, 8), classes=3))
    return {"miou": 0.5}
"""


def test_such_a_candidate_fails_and_the_others_are_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rebuilding.py").write_text(EVALUATOR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    study = na.search(
        name="rebuilding",
        model="resnet8",
        evaluator="rebuilding:evaluate",
        data="external",
        input_shape=(1, 8, 8),
        objectives=["miou", "params"],
        trials=3,
        overrides={
            "space": {"name": "two", "choices": {"se": {"reduction": [4]}, "simam": {}}},
            "backbone.width": 4,
            "data.classes": 3,
            "training.start": "scratch",
            "training.rungs": [1],
            "search.baselines": "all",
            "search.confirm_seeds": 0,
        },
        device="cpu",
        say=lambda line: None,
    )
    states = {str(view.placement): (view.state, view.reason) for view in study.candidates()}
    failed = {
        placement: reason for placement, (state, reason) in states.items() if state == "failed"
    }
    assert len(states) == 3
    assert [placement for placement in failed if "simam" not in placement] == []
    (reason,) = failed.values()
    assert "simam at 'layer1.0.bn2.nas_attn.0'" in reason

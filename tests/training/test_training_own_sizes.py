"""Another network with published weights is compared from its own, on images as these are made
for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import photographs
from torch import Tensor, nn
from typing_extensions import override

import nas_attn as na
from nas_attn.answer.answer_text import _unlike_the_backbone
from nas_attn.answer.reading import answer
from nas_attn.attention.choice import Choice
from nas_attn.export.exporting import ExportWish, export_candidate
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import OWN_SIDE
from nas_attn.recipe.tasks import TASKS
from nas_attn.storage.opening import open_study
from nas_attn.training.plan import Plan, plan_for
from nas_attn.training.tasks.data import data_of

timm = pytest.importorskip("timm")

# name of a network -> the side in pixels that its weights are made for
SIDES = {"twelve": 12, "twenty": 20}
TWENTY = "backbone=timm:twenty"


class Tiny(nn.Module):
    """Two convolutions, which note the sizes of all images that they get."""

    seen: dict[str, set[int]]

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.name = name
        self.num_classes = classes
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    @override
    def forward(self, x: Tensor) -> Tensor:
        self.seen.setdefault(self.name, set()).add(x.shape[-1])
        return self.fc(self.body(self.stem(x)).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Two networks of timm with weights of their own; the sizes of the images that they got."""
    photographs(tmp_path / "photos", side=32)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Tiny, "seen", {}, raising=False)
    models = sys.modules["timm.models._registry"]
    for name, side in SIDES.items():
        torch.save(Tiny(name, 7).state_dict(), tmp_path / f"{name}.pth")
        described = {
            "input_size": (3, side, side),
            "crop_pct": 0.8,
            "interpolation": "bilinear",
            "mean": (0.1 * side / 4,) * 3,
            "std": (0.2,) * 3,
            "num_classes": 7,
            "classifier": "fc",
            "file": str(tmp_path / f"{name}.pth"),
        }
        monkeypatch.setitem(
            models._model_pretrained_cfgs, name, timm.models.PretrainedCfg(**described)
        )
        monkeypatch.setitem(
            models._model_default_cfgs, name, timm.models.PretrainedCfg(**described)
        )
        monkeypatch.setitem(models._model_entrypoints, name, _made(name))
    return Tiny.seen


def _made(name: str) -> Any:
    def make(pretrained: bool = False, num_classes: int = 7, in_chans: int = 3, **_: Any) -> Tiny:
        assert in_chans == 3
        model = Tiny(name, num_classes)
        cfg = timm.get_pretrained_cfg(name).to_dict()
        if pretrained:
            state = torch.load(cfg["file"], weights_only=True)
            model.load_state_dict(
                {key: value for key, value in state.items() if not key.startswith("fc.")},
                strict=False,
            )
        model.pretrained_cfg = cfg
        return model

    return make


def recipe(**data: Any) -> Recipe:
    return recipe_from(
        {
            "name": "sizes",
            "space": {
                "name": "sizes",
                "choices": {"simam": {}},
            },
            "backbone": {"name": "timm:twelve"},
            "data": {"name": "folder:photos", **data},
            "target": {"weights": "default", "epochs": 1},
            "training": {"batch_size": 8, "seeds": 1},
            "latency": {"session_seconds": 0.2},
            "search": {
                "trials": 3,
                "baselines": "bare",
                "pruner": "none",
                "confirm_seeds": 0,
                "controls": ["timm:twenty"],
            },
        },
        where="sizes",
    )


def planned(**data: Any) -> Plan:
    own = recipe(**data)
    return plan_for(own, data_of(TASKS["classification"]).load(own, device="cpu"))


@pytest.mark.parametrize(
    ("said", "side", "mean"),
    [
        ({}, 20, 0.5),
        # as `init` writes it
        ({"size": 12, "mean": [0.1 * 12 / 4] * 3, "std": [0.2] * 3}, 20, 0.5),
        # photographs smaller than the weights want them, say
        ({"size": 10}, 10, 0.5),
        ({"size": 12, "mean": [0.4] * 3, "std": [0.3] * 3}, 20, 0.4),
    ],
)
def test_a_size_that_is_the_weights_own_becomes_the_other_networks_own(
    said: dict[str, Any], side: int, mean: float
) -> None:
    plan = planned(**said)
    own = plan.like(Choice("timm:twenty"))
    assert plan.input_shape == (3, said.get("size", 12), said.get("size", 12))
    assert own.input_shape == (3, side, side)
    section = data_of(TASKS["classification"]).section(own.recipe)
    assert section.size == side
    assert section.mean == pytest.approx([mean] * 3)
    assert section.options["resize"] == round(side / 0.8)


def test_a_search_trains_times_tests_and_exports_each_network_at_its_own_size(
    library: dict[str, set[int]],
) -> None:
    na.search(recipe(), device="cpu", threads=1, say=lambda line: None)
    opened = open_study("sizes", "sqlite:///nas_attn.db")
    found = answer(opened.store)
    views = {str(view.placement): view for view in found.now.candidates}
    large = views[TWENTY]
    assert library == {"twelve": {12}, "twenty": {20}}
    assert large.cost is not None
    assert views["none"].cost is not None
    assert large.cost[OWN_SIDE] == 20
    assert OWN_SIDE not in views["none"].cost
    assert large.cost["macs"] > 2 * views["none"].cost["macs"]
    said = _unlike_the_backbone(found.now, large)
    assert said == ", from its own trained weights, on images of 20 pixels"
    assert _unlike_the_backbone(found.now, views["none"]) == ""
    assert "input_shape=(3, 20, 20)" in large.snippet
    assert "input_shape=(3, 12, 12)" in views["none"].snippet
    assert large.latency is not None
    assert large.latency.sessions
    exported = export_candidate(
        opened, found, large, Path("large.pt2"), ExportWish("torch", normalize=True)
    )
    assert exported.facts["input"]["shape"][1:] == [3, 20, 20]
    assert library == {"twelve": {12}, "twenty": {20}}

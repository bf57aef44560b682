"""A network's state survives its way through bytes, files and a search: the modules' versions and extra state included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.backbones.weights import pack, restore, unpack
from nas_attn.errors import CheckpointError
from nas_attn.recipe import BackboneSection


def mnasnet() -> nn.Module:
    return backbones.build(BackboneSection(name="torchvision:mnasnet0_5"), input_shape=(3, 32, 32), classes=4)


class Counting(nn.Module):
    """A backbone whose format has a version, and with state that is no tensor."""

    _version = 2

    def __init__(self, classes: int, steps: Any = 0) -> None:
        super().__init__()
        self.conv, self.head, self.steps = nn.Conv2d(1, 8, 3), nn.Linear(8, classes), steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)))  # type: ignore[no-any-return]

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
        if metadata.get("version") != 2:
            raise ValueError("version should be set to 2")
        super()._load_from_state_dict(state, prefix, metadata, *rest)

    def get_extra_state(self) -> Any:
        return {"steps": self.steps}

    def set_extra_state(self, state: Any) -> None:
        self.steps = state["steps"]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_network_whose_format_has_a_version_comes_back_whole() -> None:
    trained = mnasnet()
    assert same(restore(mnasnet(), unpack(pack(trained))), trained)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("kind", [dict, None])
def test_weights_files_of_such_a_network(tmp_path: Path, prefix: str, kind: type | None) -> None:
    trained = mnasnet()
    state = nn.DataParallel(trained).state_dict() if prefix else trained.state_dict()
    torch.save(kind(state) if kind else state, tmp_path / "weights.pt")
    model = mnasnet()
    backbones.load_weights(model, str(tmp_path / "weights.pt"))
    assert same(model, trained)


def test_extra_state_comes_back_where_it_is_plain_and_is_refused_where_it_is_not() -> None:
    assert restore(Counting(2), unpack(pack(Counting(2, 7)))).steps == 7
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        unpack(pack(Counting(2, Path("x"))))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["torchvision:mnasnet0_5", "counting_backbone:Counting"])
def test_such_networks_are_searched_from_the_trained_backbone_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    text = Path(__file__).read_text()
    own = text[text.index("class Counting") : text.index("def same")]
    (tmp_path / "counting_backbone.py").write_text(f"import torch\nfrom torch import nn\nfrom typing import Any\n{own}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {
        "data.train_subset": 64,
        "training.rungs": [1],
        "training.learning_rate": 0.001,
        "training.backbone_epochs": 1,
        "search.baselines": "bare",
        "search.confirm_seeds": 0,
    }
    study = na.search(
        model=model,
        data="digits-8x8",
        space="small",
        trials=2,
        objectives=["accuracy", "params"],
        overrides=settings,
        device="cpu",
        threads=1,
        say=lambda line: None,
    )
    assert [view.state for view in study.candidates()] == ["scored", "scored"]
    from nas_attn.study.exporting import trained_model
    from nas_attn.study.searching import plan_recipe

    opened = study._opened
    for view in study.candidates():
        network = trained_model(opened, plan_recipe(opened.recipe), view)
        assert network(torch.zeros(2, *plan_recipe(opened.recipe).input_shape)).shape == (2, 10)

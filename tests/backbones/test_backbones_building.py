"""Backbones by name: what is built, what is refused, trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from nas_attn import backbones
from nas_attn.backbones.cifar import DEPTHS, MODELS, Shortcut
from nas_attn.backbones.weights_input import IMAGENET_MEAN, IMAGENET_STD
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.training.plan import make_plan
from nas_attn.training.starts import given_weights
from nas_attn.training.tasks.data import data_of


def build(
    name: str, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, **section: object
) -> nn.Module:
    return backbones.build(
        BackboneSection(name=name, **section), input_shape=shape, classes=classes
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_every_cifar_resnet_classifies_and_learns(name: str) -> None:
    model = build(name, (1, 17, 20), 7, width=4)
    logits = model(torch.randn(2, 1, 17, 20))
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_depth_counts_weighted_layers_and_parameters_are_those_of_the_paper() -> None:
    for depth in DEPTHS:
        modules = list(build(f"resnet{depth}", width=2).modules())
        assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules) == depth
    for depth, parameters in [(20, 0.27), (32, 0.46), (56, 0.85)]:
        found = sum(p.numel() for p in build(f"resnet{depth}").parameters())
        assert found / 1e6 == pytest.approx(parameters, abs=0.01)


def test_shortcut_keeps_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(1.0, 2 * 25 + 1).reshape(1, 2, 5, 5)
    y = Shortcut(2, 5, 2)(x)
    assert y.shape == (1, 5, 3, 3)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, [0, 3, 4]].any()


def test_random_weights_come_from_the_global_generator() -> None:
    torch.manual_seed(3)
    first = build("resnet8").state_dict()
    torch.manual_seed(3)
    second = build("resnet8").state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], build("resnet8").state_dict()["conv1.weight"])


def test_torchvision_takes_other_channels_classes_and_options_and_has_no_auxiliary_heads() -> None:
    model = build(
        "torchvision:resnet18", (5, 40, 40), 6, options={"norm_layer": nn.InstanceNorm2d}
    ).eval()
    assert model(torch.randn(1, 5, 40, 40)).shape == (1, 6)
    assert any(isinstance(m, nn.InstanceNorm2d) for m in model.modules())
    model = build("torchvision:googlenet", (3, 64, 64), 4).train()
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v3_small", {}),
        ("googlenet", {}),
        ("googlenet", {"transform_input": True, "aux_logits": False}),
        ("inception_v3", {}),
    ],
)
def test_torchvisions_weights_answer_as_in_torchvisions_own_network(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    full = {} if name == "mobilenet_v3_small" else {"aux_logits": True, "init_weights": False}
    state = torchvision.models.get_model(name, **full).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    changes = {"backbone": {"name": f"torchvision:{name}", "options": options}}
    recipe = load_recipe(
        "digits",
        overrides={
            **changes,
            "training.start": "pretrained",
            "training.weights": "default",
            "data": {"name": "folder:x"},
        },
    )
    shape = (3, 96, 96)
    ours = backbones.build(recipe.backbone, input_shape=shape, classes=1000, pretrained=True)
    theirs = torchvision.models.get_model(name, weights="DEFAULT").eval()
    images = torch.rand(2, *shape)
    section = data_of(TASKS["classification"]).section(recipe)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (section.mean, section.std))
    usual, spread = (torch.tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        answer = ours.eval()((images - mean) / std)
        expected = theirs((images - usual) / spread)
    torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_timm_models() -> None:
    pytest.importorskip("timm")
    model = build("timm:mobilenetv3_small_050", (1, 32, 32), 3).eval()
    assert model(torch.randn(1, 1, 32, 32)).shape == (1, 3)


def test_a_users_function_gets_what_its_signature_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_backbones_module.py").write_text(
        "from torch import nn\ndef build(classes, in_channels, width=3):\n    return"
        " nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.Flatten(),"
        " nn.LazyLinear(classes))\ndef plain():\n    return nn.Conv2d(1, 1, 1)\ndef"
        " broken(classes):\n    raise RuntimeError('no such thing\\nand more')\ndef nothing():\n   "
        " return 7\nvalue = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    model = build("my_backbones_module:build", (2, 8, 8), 5, options={"width": 4})
    assert model(torch.randn(1, 2, 8, 8)).shape == (1, 5)
    assert isinstance(build("my_backbones_module:plain"), nn.Conv2d)
    for name, words in {
        "broken": "RuntimeError: no such thing",
        "nothing": "returned a int",
        "value": "not callable",
        "bild": "did you mean 'build'",
    }.items():
        with pytest.raises(BackboneError, match=words) as caught:
            build(f"my_backbones_module:{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "section", "words"),
    [
        ("resnet21", {}, "resnet"),
        ("resnet50", {}, "did you mean 'torchvision:resnet50'"),
        ("torchvision:resnet19", {}, "did you mean 'resnet18'"),
        ("torchvision:qqqq", {}, r"alexnet, .*, … \(\d+ in all\)$"),
        ("torchvision:resnet18.IMAGENET1K_V2", {}, "weights .* did you mean 'IMAGENET1K_V1'"),
        ("timm:qqqq", {}, r".*, … \([\d,]+ in all\)$"),
        ("torchvision:resnet18", {"width": 8}, "width"),
        ("torchvision:resnet18", {"options": {"colour": 1}}, "colour"),
        ("resnet20", {"options": {"colour": 1}}, "takes no backbone.options"),
        ("no_such_package_at_all:build", {}, "no_such_package_at_all"),
    ],
)
def test_wrong_names_are_refused_in_one_sentence(
    name: str, section: dict[str, Any], words: str
) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(BackboneError, match=words) as caught:
        build(name, **section)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 600


def test_names_can_be_built() -> None:
    names = backbones.names()
    assert {"resnet20", "torchvision:resnet50"} <= set(names)
    assert not any("rcnn" in name or "video" in name for name in names)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_survive_each_file_format(tmp_path: Path, suffix: str) -> None:
    model = build("resnet8", width=4)
    state = model.state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, str(path))
    other = build("resnet8", width=4)
    backbones.load_weights(other, str(path))
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_the_first_three_bands_keep_their_published_filters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = torchvision.models.get_model("resnet18").state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: state)
    overrides = {
        "backbone.name": "torchvision:resnet18",
        "target": {"weights": "default", "epochs": 2},
        "training": {},
        "data": {"name": "folder:x", "channels": 5},
    }
    recipe = load_recipe("digits", overrides=overrides)
    # each band has its own mean and deviation, not those of photographs
    assert data_of(TASKS["classification"]).section(recipe).mean is None
    plan = make_plan(recipe, (5, 64, 64), 7)
    wide, (note,) = given_weights(plan)
    assert "trained on 3 channels, the images have 5" in note
    published = state["conv1.weight"]
    assert torch.equal(wide["conv1.weight"][:, :3], published * (3 / 5))
    assert torch.allclose(wide["conv1.weight"][:, 3:].sum(1), published[:, :2].sum(1) * (3 / 5))
    assert torch.equal(wide["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_head_and_first_layer_may_differ(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    colour = build("resnet8", width=4).eval()
    torch.save(colour.state_dict(), path)
    section = BackboneSection(name="resnet8", width=4)
    grey = backbones.build(section, input_shape=(1, 32, 32), classes=3).eval()
    (note,) = backbones.load_weights(grey, str(path))
    assert "the images have 1: the sum of its filters is taken" in note
    x = torch.randn(1, 1, 16, 16)
    assert torch.allclose(grey.conv1(x), colour.conv1(x.expand(1, 3, 16, 16)), atol=1e-5)  # type: ignore[operator]
    assert grey(x).shape == (1, 3)
    assert torch.equal(
        grey.state_dict()["layer3.0.conv2.weight"], colour.state_dict()["layer3.0.conv2.weight"]
    )

"""A network as one Python file: read by a process in which nas_attn cannot be imported, it computes
the same.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from materials import MODEL, MODULE
from torch import nn

import nas_attn as na
from nas_attn import attachment, backbones, errors, export
from nas_attn.attention.catalogue import ROWS
from nas_attn.export.python_file import Described, Interface, python_source
from nas_attn.recipe import recipe
from nas_attn.space import notation, search_space

ALONE = """
import importlib.util, sys
sys.modules["nas_attn"] = None  # importing it raises
import torch
torch.set_num_threads(1)
for name in sys.argv[1:]:
    spec = importlib.util.spec_from_file_location(name, f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = torch.load(f"{name}.x.pt", weights_only=True)
    images = torch.arange(256, dtype=torch.uint8).repeat(16)[: 2 * len(module.MEAN) * 16].view(2, -1, 4, 4)
    with torch.no_grad():
        torch.save((module.load()(x), module.normalise(images), len(module.CLASSES)), f"{name}.y.pt")
"""
BRANCHED = """
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.keys = nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x):
        k, v = self.keys(x).flatten(2).chunk(2, 1)
        return (k @ (k.transpose(1, 2) @ v).softmax(-1)).reshape(x.shape)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.attention = Attention(channels)

    def forward(self, x):
        x = x + self.norm(self.conv(x)).relu()
        return x + self.attention(x)


def build(in_channels, classes):
    blocks = [Block(8), Block(8)]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes)]
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2, 1), nn.Sequential(*blocks), *end)
"""
MEAN, STD = (0.25, 0.5, 0.1), (0.2, 0.3, 0.4)


Shape = tuple[int, int, int]


def made(
    folder: Path,
    name: str,
    backbone: str,
    placement: str,
    shape: Shape,
    *,
    init: str,
    **settings: object,
) -> tuple[nn.Module, str]:
    """Writes NAME.py, its weights and an input; gives the network and the file's text."""
    torch.manual_seed(0)
    section = recipe.BackboneSection(name=backbone, **settings)
    classes = tuple(f'class "{number}"' for number in range(5))
    model = backbones.build(section, input_shape=shape, classes=len(classes))
    resolved = search_space.resolve(
        notation.parse(placement), na.find_sites(model, shape), init=init
    )
    attachment.attach(model, resolved)
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts at zero has a say
            parameter.add_(0.02 * torch.randn(parameter.shape))
    described = Described(
        section,
        resolved,
        shape,
        Interface(classes, MEAN[: shape[0]], STD[: shape[0]], (len(classes),)),
    )
    text = python_source(
        model.eval(), described, weights=f"{name}.pt", notes={"study": "a", "placement": placement}
    )
    (folder / f"{name}.py").write_text(text, "utf-8")
    torch.save({"state_dict": model.state_dict()}, folder / f"{name}.pt")
    torch.save(torch.randn(2, *shape), folder / f"{name}.x.pt")
    return model, text


def check(folder: Path, models: dict[str, nn.Module]) -> None:
    """What the files give elsewhere is what the networks give here."""
    before = torch.get_num_threads()
    command = [sys.executable, "-c", ALONE, *models]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    torch.set_num_threads(1)
    try:
        for name, model in models.items():
            output, normalised, classes = torch.load(folder / f"{name}.y.pt", weights_only=True)
            x = torch.load(folder / f"{name}.x.pt", weights_only=True)
            with torch.no_grad():
                assert torch.equal(output, model(x)), name
            assert classes == 5
            channels = x.shape[1]
            images = (
                torch.arange(256, dtype=torch.uint8)
                .repeat(16)[: 2 * channels * 16]
                .view(2, -1, 4, 4)
            )
            scaled = images.double() / 255 - torch.tensor(MEAN[:channels]).double().view(-1, 1, 1)
            expected = scaled / torch.tensor(STD[:channels]).double().view(-1, 1, 1)
            torch.testing.assert_close(normalised.double(), expected, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


def formatted(folder: Path) -> None:
    """As a person would have it: nothing unused, nothing unknown."""
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed")
    command = [str(ruff), "check", "--select=E4,E7,E9,F", "--isolated", "--no-cache"]
    ran = subprocess.run(
        [*command, *map(str, sorted(folder.glob("*.py")))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_attention_module_on_a_small_resnet(tmp_path: Path) -> None:
    models = {}
    names = sorted(ROWS)
    for number in range(0, len(names), 3):
        trio = (names[number : number + 3] + names[:2])[:3]
        placement = " ".join(f"stage{i + 1}={name}" for i, name in enumerate(trio))
        init = ("paper", "identity")[number // 3 % 2]
        models[f"net{number}"], _ = made(
            tmp_path, f"net{number}", "resnet8", placement, (1, 12, 12), init=init, width=16
        )
    check(tmp_path, models)
    formatted(tmp_path)


CASES: dict[str, tuple[str, str, Shape, dict[str, Any]]] = {
    "gray": (
        "torchvision:mobilenet_v3_small.IMAGENET1K_V1",
        "stage2=eca stage1.original=none stage3=ela",
        (1, 32, 32),
        {},
    ),
    "own": (
        "mine:build",
        "stage1=spotlight:Spotlight(power=2.0) stage3=se(reduction=2)",
        (3, 16, 16),
        {"options": {"width": 8}},
    ),
    "branch": (
        "branched:build",
        "stage1.original=none stage1@stage=se(reduction=2)",
        (3, 16, 16),
        {},
    ),
    "ten": (
        "timm:resnet10t",
        "stage1@block=simam stage3@block=gc",
        (3, 32, 32),
        {"options": {"drop_rate": 0.1}},
    ),
    "dense": (
        "torchvision:densenet121",
        "stage1@stage=se",
        (3, 32, 32),
        {},
    ),  # its blocks run their children by name
}


# every module on a resnet, and a network of one's own in test_cli_export.py, go this way, too
@pytest.mark.slow
@pytest.mark.parametrize("names", [["gray", "own", "branch"], ["ten", "dense"]])
def test_backbones_of_other_packages_and_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    if "ten" in names:
        pytest.importorskip("timm", reason="the timm extra is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "spotlight.py").write_text(MODULE)
    (tmp_path / "branched.py").write_text(BRANCHED)
    models = {}
    contained = {
        "own": "model = mine.build(classes=5, in_channels=3, width=8)",
        "dense": "bases=(AttendedDict,)",
    }
    for name in names:
        backbone, placement, shape, settings = CASES[name]
        models[name], text = made(
            tmp_path, name, backbone, placement, shape, init="identity", **settings
        )
        assert "nas_attn" not in text.replace('"nas_attn"', "").replace("`nas_attn`", ""), (
            "but for the child's name"
        )
        assert contained.get(name, repr(f"{name}.pt")) in text
    check(tmp_path, models)
    for file in ("mine.py", "spotlight.py", "branched.py"):
        (tmp_path / file).unlink()
    formatted(tmp_path)


def test_a_detector_with_frozen_norms(tmp_path: Path) -> None:
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    model, _ = made(
        tmp_path, "net", name, "stage1=se(reduction=4)", (3, 64, 64), init="paper", norms="frozen"
    )
    with torch.no_grad():
        # a statistic whose meaning depends on the eps
        model.get_submodule("backbone.body.0.1").running_var.fill_(1e-5)  # type: ignore[union-attr,operator]
    torch.save({"state_dict": model.state_dict()}, tmp_path / "net.pt")
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = torch.rand(1, 3, 64, 64)
    ours: Any = model
    with torch.no_grad():
        loaded = module.load().train().backbone(images)
        for level, expected in ours.backbone(images).items():
            assert torch.equal(loaded[level], expected)
    formatted(tmp_path)


def test_a_name_that_would_hide_what_the_file_needs(tmp_path: Path) -> None:
    section, shape = recipe.BackboneSection(name="resnet8", width=4), (1, 12, 12)
    model = backbones.build(section, input_shape=shape, classes=5)
    described = Described(
        section,
        search_space.resolve(notation.parse("none"), (), init="paper"),
        shape,
        Interface(tuple("abcde"), (), (), (5,)),
    )
    with pytest.raises(errors.UserError, match=r"'torch\.py'"):
        export.write(
            model, tmp_path / "torch.py", "python", input_shape=shape, notes={}, described=described
        )
    assert list(tmp_path.iterdir()) == []

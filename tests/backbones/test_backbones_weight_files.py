"""A file of trained weights either works, whatever wraps it, or is one helpful sentence."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.backbones.weight_files import pack, restore, unpack
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.training.tasks.data import data_of

State = dict[str, Any]


def small(classes: int = 10, channels: int = 3, width: int = 4) -> nn.Module:
    section = BackboneSection(name="resnet8", width=width)
    return backbones.build(section, input_shape=(channels, 32, 32), classes=classes)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(1)
    return small()


def load(
    path: Path, content: Any = None, model: nn.Module | None = None
) -> tuple[nn.Module, list[str]]:
    if content is not None:
        torch.save(content, path)
    model = model or small()
    return model, backbones.load_weights(model, str(path))


def same(a: nn.Module, b: nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[name]) for name, value in a.state_dict().items())


def named(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {
        "epoch": 3,
        "state_dict": s,
        "optimizer": {"state": {0: {"step": torch.ones(1)}}},
    },
    "model": lambda s: {"model": s},
    "a name of their own": lambda s: {"student": s, "step": 7},
    "behind a few tensors": lambda s: {
        "callbacks": {"best": {"epoch=3.ckpt": torch.ones(())}},
        "state_dict": s,
    },
    "in two": lambda s: {"checkpoint": {"model": s, "epoch": 1}},
    "module.": lambda s: named(s, "module."),
    "_orig_mod.": lambda s: named(s, "_orig_mod."),
    "model.": lambda s: {"state_dict": named(s, "model.")},
    "module._orig_mod.": lambda s: named(s, "module._orig_mod."),
    "compiled inside": lambda s: {
        name.replace("layer1.", "layer1._orig_mod."): value for name, value in s.items()
    },
    "average": lambda s: {"n_averaged": torch.tensor(5), **named(s, "module.")},
    "without counters": lambda s: {
        n: v for n, v in s.items() if not n.endswith("num_batches_tracked")
    },
}


@pytest.mark.parametrize("how", WRAPPED)
def test_what_wraps_weights_is_taken_off(tmp_path: Path, trained: nn.Module, how: str) -> None:
    model, notes = load(tmp_path / "weights.pt", WRAPPED[how](trained.state_dict()))
    assert same(model, trained) or how == "without counters"
    assert notes == []


def test_what_is_chosen_is_said(tmp_path: Path, trained: nn.Module) -> None:
    state, other = trained.state_dict(), small().state_dict()
    model, notes = load(tmp_path / "two.pt", {"state_dict": state, "state_dict_ema": other})
    assert same(model, trained)
    (note,) = notes
    assert note.endswith("it has 'state_dict', 'state_dict_ema'; state_dict is used")
    around = {
        "c.conv1.weight": torch.ones(3),
        **named(state, "model."),
        "criterion.weight": torch.ones(3),
    }
    model, notes = load(tmp_path / "lightning.ckpt", {"state_dict": around})
    assert same(model, trained)
    (note,) = notes
    assert "'model.'" in note
    assert "'criterion.weight'" in note


def begins_at_zero(model: nn.Module, head: str) -> None:
    """The network answers zero to every image, and a gradient reaches the head."""
    logits = model(torch.randn(4, 3, 32, 32))
    assert torch.equal(logits, torch.zeros_like(logits))
    nn.functional.cross_entropy(logits, torch.zeros(4, dtype=torch.int64)).backward()
    for parameter in model.get_submodule(head).parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_a_head_for_other_classes_begins_at_zero_and_so_does_one_that_is_missing(
    tmp_path: Path, trained: nn.Module
) -> None:
    given = trained.state_dict()
    model, notes = load(tmp_path / "weights.pt", given, small(classes=7))
    assert notes == []
    body = {name for name in given if not name.startswith("linear.")}
    assert all(torch.equal(model.state_dict()[name], given[name]) for name in body)
    begins_at_zero(model, "linear")
    without = {name: given[name] for name in body}
    model, notes = load(tmp_path / "weights.pt", without, small(classes=7))
    begins_at_zero(model, "linear")
    (note,) = notes
    assert "no 'linear.weight', 'linear.bias'" in note
    kept, _ = load(tmp_path / "weights.pt", given, small())
    assert torch.equal(kept.state_dict()["linear.weight"], given["linear.weight"])


def test_both_last_layers_of_a_segmenter_begin_at_zero(tmp_path: Path) -> None:
    """LR-ASPP adds what two layers answer."""
    section = BackboneSection(name="torchvision:lraspp_mobilenet_v3_large")
    given, model = (
        backbones.build(section, input_shape=(3, 64, 64), classes=classes) for classes in (21, 10)
    )
    load(tmp_path / "weights.pt", given.state_dict(), model)
    answer = model.eval()(torch.rand(1, 3, 64, 64))["out"]
    assert torch.equal(answer, torch.zeros(1, 10, 64, 64))
    heads = ("classifier.low_classifier.", "classifier.high_classifier.")
    state = model.state_dict()
    body = {n: value for n, value in given.state_dict().items() if not n.startswith(heads)}
    assert all(torch.equal(state[name], value) for name, value in body.items())


def broken(state: State, name: str, change: Callable[[torch.Tensor], Any]) -> State:
    return {**state, name: change(state[name].clone())}


def spoiled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[:2] = value
        return tensor

    return change


CONV = "layer2.0.conv1.weight"
WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "NaN": (lambda s: broken(s, CONV, spoiled(float("nan"))), f"'{CONV}' holds values that are not finite"),
    "deeper": (
        lambda s: {**s, "layer1.1.conv1.weight": torch.zeros(4, 4, 3, 3)},
        "the backbone has no 'layer1.1.conv1.weight'",
    ),
    "shallower": (lambda s: {n: v for n, v in s.items() if n != CONV}, f"they have no '{CONV}'"),
    "another": (lambda s: nn.Conv2d(3, 3, 3).state_dict(), "they have no 'conv1.weight'"),
    "wider": (lambda s: small(width=8).state_dict(), "has shape"),
    "other kernel": (lambda s: broken(s, "conv1.weight", lambda t: torch.zeros(4, 3, 7, 7)), "'conv1.weight' has shape"),
    "other features": (lambda s: broken(s, "linear.weight", lambda t: torch.zeros(10, 99)), "'linear.weight' has shape"),
    "integers": (lambda s: broken(s, CONV, lambda t: t.char()), "shape and type"),
    "sparse": (lambda s: broken(s, CONV, lambda t: t.to_sparse()), "shape and type"),
    "without content": (lambda s: broken(s, CONV, lambda t: t.to("meta")), "shape and type"),
    "numbers": (lambda s: broken(s, CONV, lambda t: 3), "shape and type"),
    "a list": (lambda s: list(s.values()), "a list is no state_dict"),
    "nothing": (lambda s: {}, "a dict is no state_dict"),
    "other things": (lambda s: {"epoch": 3, "args": {"lr": 0.1}}, "a dict is no state_dict"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_other_weights_are_refused(tmp_path: Path, trained: nn.Module, what: str) -> None:
    make, words = WRONG[what]
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BackboneError, match=words) as caught:
        load(tmp_path / "weights.pt", make(trained.state_dict()), model)
    sentence(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_with_attention_are_refused(tmp_path: Path) -> None:
    model = na.attach(small(), "stage2=se(reduction=4)", input_shape=(3, 32, 32))
    for state in (
        model.state_dict(),
        {"state_dict": named(model.state_dict(), "module."), "notes": {"study": "x"}},
    ):
        with pytest.raises(BackboneError, match=r"nas_attn .*none") as caught:
            load(tmp_path / "weights.pt", state)
        sentence(caught.value)


class Whole(nn.Conv2d):
    """A module that is pickled as a whole."""


BYTES = {
    "empty": b"",
    "text": b"epoch 1: loss 2.3\nepoch 2: loss 1.9\n",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "noise": np.random.default_rng(0).bytes(3000),
}


def write(path: Path, kind: str, trained: nn.Module) -> None:
    state = trained.state_dict()
    if kind in BYTES:
        path.write_bytes(BYTES[kind])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(state))
    elif kind == "whole model":
        torch.save(Whole(3, 3, 3), path)
    elif kind == "with arguments":
        torch.save({"state_dict": state, "args": Namespace(lr=0.1)}, path)
    elif kind == "script":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(nn.Conv2d(3, 3, 3)).save(str(path))
    elif kind == "cut off":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "objects":
        np.savez(path, weight=np.array([{}], dtype=object))
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("w.pt", "missing", "No such file"),
        ("w.pt", "folder", "cannot be read: Is a directory"),
        ("w.pt", "empty", "torch.save"),
        ("w.pt", "text", "torch.save"),
        ("w.pt", "git lfs", "torch.save"),
        ("w.pt", "pickle", "torch.save"),
        ("w.pt", "whole model", "hold more than plain tensors"),
        ("w.pt", "with arguments", "hold more than plain tensors"),
        ("w.pt", "script", "torch.save"),
        ("w.pt", "cut off", "damaged"),
        ("w.pt", "noise", "torch.save"),
        ("w.npz", "objects", "more than plain tensors"),
        ("w.safetensors", "noise", "are damaged"),
        ("w" * 300 + ".pt", "nothing", "cannot be a file: File name too long"),
        ("w\0.pt", "nothing", "cannot be a file: .*embedded null"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, trained: nn.Module, name: str, kind: str, words: str
) -> None:
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    write(tmp_path / name, kind, trained)
    with pytest.raises(BackboneError, match=words) as caught:
        load(tmp_path / name)
    sentence(caught.value)


def sentence(error: BackboneError) -> None:
    assert "\n" not in str(error)
    assert "weights" in str(error)
    assert len(str(error)) <= 600


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnasnet0_5", "mnasnet0.5_top1_67.823-3ffadce67e.pth"),
        ("densenet121", "densenet121-a639ec97.pth"),
        # not its default
        ("mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2-b0353104.pth"),
    ],
)
def test_published_weights_are_read_as_torchvision_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    """As downloaded before: MNASNet's carry a version, DenseNet's the names of an earlier day."""
    section = BackboneSection(name=f"torchvision:{name}")
    torch.manual_seed(3)
    source = backbones.build(section, input_shape=(3, 32, 32), classes=1000)
    state = source.state_dict()
    for key in list(state) if name == "densenet121" else []:
        value, old = (
            state.pop(key),
            re.sub(r"(denselayer\d+\.(?:norm|relu|conv))(\d)\.", r"\1.\2.", key),
        )
        if not key.endswith("num_batches_tracked"):
            state[old] = value
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(dict(state) if name == "densenet121" else state, folder / file)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(4)
    model = backbones.build(section, input_shape=(3, 32, 32), classes=7, pretrained=True)
    expected, head = (
        source.state_dict(),
        next(iter(reversed(dict(model.named_parameters())))).rpartition(".")[0],
    )
    for key, value in model.state_dict().items():
        assert (
            key.startswith(head) or key.endswith("tracked") or torch.equal(value, expected[key])
        ), key
    begins_at_zero(model, head)


def mnasnet() -> nn.Module:
    return backbones.build(
        BackboneSection(name="torchvision:mnasnet0_5"), input_shape=(3, 32, 32), classes=4
    )


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


def test_weights_of_the_hub_are_taken_from_its_cache_with_what_they_are_fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    source = timm.create_model("resnet10t", num_classes=5)
    cached = tmp_path / "models--someone--flowers"
    (cached / "snapshots" / "1").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("1")
    fed = {
        "input_size": [3, 96, 96],
        "crop_pct": 0.75,
        "interpolation": "bicubic",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    kept = {
        "architecture": "resnet10t",
        "num_classes": 5,
        "pretrained_cfg": {**fed, "num_classes": 5, "classifier": "fc"},
    }
    (cached / "snapshots" / "1" / "config.json").write_text(json.dumps(kept))
    pytest.importorskip("safetensors.torch").save_file(
        source.state_dict(), cached / "snapshots" / "1" / "model.safetensors"
    )
    for name, value in (("HF_HUB_CACHE", str(tmp_path)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    changes = {"backbone": {"name": "timm:hf-hub:someone/flowers"}, "training.start": "pretrained"}
    recipe = load_recipe(
        "digits", overrides={**changes, "training.weights": "default", "data": {"name": "folder:x"}}
    )
    model = backbones.build(recipe.backbone, input_shape=(3, 32, 32), classes=7, pretrained=True)
    assert all(
        torch.equal(model.state_dict()[n], v)
        for n, v in source.state_dict().items()
        if not n.startswith("fc")
    )
    begins_at_zero(model, "fc")
    same_classes = backbones.build(
        recipe.backbone, input_shape=(3, 32, 32), classes=5, pretrained=True
    )
    assert torch.equal(same_classes.get_parameter("fc.weight"), source.get_parameter("fc.weight"))
    section = data_of(TASKS["classification"]).section(recipe)
    assert (section.mean, section.size, section.options) == (
        [0.5] * 3,
        96,
        {"resize": 128, "interpolation": "bicubic"},
    )
    missing = recipe.backbone.model_copy(update={"name": "timm:resnet18.a1_in1k"})
    with pytest.raises(BackboneError, match=r"target\.weights"):
        backbones.build(missing, input_shape=(3, 32, 32), classes=7, pretrained=True)


class Intruder:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def test_no_pickle_runs_in_a_file_that_timm_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "net"
    folder.mkdir()
    torch.save({"state_dict": Intruder()}, folder / "pytorch_model.bin")
    configuration = {"architecture": "resnet10t", "num_classes": 10, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(configuration))
    section = BackboneSection(name="timm:local-dir:net")
    with pytest.raises(BackboneError, match="could not be loaded"):
        backbones.build(section, input_shape=(3, 32, 32), classes=10, pretrained=True)
    path = str(folder / "pytorch_model.bin")
    named = BackboneSection(name="timm:resnet10t", options={"checkpoint_path": path})
    with pytest.raises(BackboneError, match="could not be built"):
        backbones.build(named, input_shape=(3, 32, 32), classes=10)
    assert not (tmp_path / "ran").exists()
    # which ran it
    monkeypatch.setattr(timm, "__version__", "1.0.21")
    with pytest.raises(BackboneError, match=r"timm>=1\.0\.22"):
        backbones.build(named, input_shape=(3, 32, 32), classes=10)


def test_a_first_layer_with_as_many_outputs_as_classes_is_no_head(tmp_path: Path) -> None:
    layers = {
        "conv1": nn.Conv2d(1, 10, 3),
        "conv2": nn.Conv2d(10, 20, 3),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "fc1": nn.Linear(20, 30),
        "fc2": nn.Linear(30, 10),
    }
    model = nn.Sequential(OrderedDict(layers))
    whole = model.state_dict()
    with pytest.raises(BackboneError, match="conv1"):
        load(tmp_path / "cut.pt", {n: v for n, v in whole.items() if "conv1" not in n}, model)
    load(tmp_path / "body.pt", {n: v for n, v in whole.items() if "fc2" not in n}, model)
    assert not model.state_dict()["fc2.weight"].any()

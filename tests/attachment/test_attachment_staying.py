"""Tools that rebuild a network: its attention stays in, or they are stopped in one sentence."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import pickletools
import pkgutil
import pydoc
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
import torchvision
from attachment_models import SE, Residual, placed, points_of, shaken
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import nas_attn as na
from nas_attn.attachment import attach, attached_modules, detach, find_sites, hosting, pickling
from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.backbones import build
from nas_attn.errors import BackboneError
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.space.placement import Point

SHAPE = (3, 16, 16)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def resnet(position: str = "residual") -> nn.Module:
    """A little network with attention whose norms have something to say."""
    torch.manual_seed(0)
    model = build(BackboneSection(name="resnet8", width=8), input_shape=SHAPE, classes=5)
    model(torch.randn(32, *SHAPE))
    model.eval()
    return shaken(attach(model, placed(points_of(find_sites(model, SHAPE), position))))


def all_take_part(model: nn.Module, count: int) -> None:
    found = na.check(model, SHAPE)
    assert len(found) == count
    assert all(one.takes_part for one in found), found


@pytest.mark.parametrize("position", ["residual", "block"])
def test_conversion_to_synchronised_norms(position: str) -> None:
    model = resnet(position)
    want, names = model(images()), list(model.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == 7
    assert torch.allclose(converted(images()), want, atol=1e-6)
    assert list(converted.state_dict()) == names
    all_take_part(converted, 3)
    assert not any("nas_attn" in name for name in detach(converted).state_dict())


def test_norms_folded_away_by_hand() -> None:
    model: Any = resnet()
    want = model(images())
    for block in (model.layer1[0], model.layer2[0], model.layer3[0]):
        for k in (1, 2):
            conv, norm = getattr(block, f"conv{k}"), getattr(block, f"bn{k}")
            setattr(block, f"conv{k}", fuse_conv_bn_eval(conv, norm))
            setattr(block, f"bn{k}", nn.Identity())
    assert torch.allclose(model(images()), want, atol=1e-5)
    all_take_part(model, 3)


def test_a_norm_taken_out_and_put_back() -> None:
    model: Any = resnet()
    # others may be set and replaced
    model.layer1[0].note = "mine"
    model.layer1[0].shortcut = nn.Identity()
    want, norm = model(images()), model.layer1[0].bn2
    model.layer1[0].bn2 = nn.Identity()
    all_take_part(model, 3)
    model.layer1[0].bn2 = norm
    assert torch.equal(model(images()), want)
    model.layer1[0].add_module("bn2", torchvision.ops.FrozenBatchNorm2d(8))
    all_take_part(model, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.layer2, "0", nn.Identity()),
        lambda model: model.layer2.add_module("0", Residual(16)),
        lambda model: model.set_submodule("layer2.0", Residual(16)),
        lambda model: setattr(model.layer2, "0", None),
        lambda model: delattr(model.layer2, "0"),
        lambda model: model.layer2.__delitem__(0),
    ],
    ids=["setattr", "add_module", "set_submodule", "None", "delattr", "delitem"],
)
def test_what_cannot_carry_attention_on_is_stopped(change: Callable[[nn.Module], None]) -> None:
    model = resnet("block")
    want = model(images())
    with pytest.raises(
        BackboneError,
        match=r"'0' of Sequential .*SqueezeExcitation.* detach",
    ):
        change(model)
    assert torch.equal(model(images()), want)
    change(detach(model))


class Folding(nn.Module):
    """Folds its norm as some detectors' units do: another forward on the instance, the norm gone;
    all share an activation.
    """

    shared = nn.SiLU()

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.act = self.shared

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))

    def forward_fuse(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))

    def fuse(self) -> None:
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)
        del self.bn
        self.forward = self.forward_fuse  # type: ignore[method-assign]


class Unit(nn.Module):
    """Adds what such a unit makes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Folding()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Folded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.units = nn.Sequential(Unit(), Unit())

    def forward(self, x: Tensor) -> Tensor:
        return self.units(self.stem(x))

    def fuse(self) -> None:
        for module in self.modules():
            if isinstance(module, Folding):
                module.fuse()


def folding() -> nn.Module:
    torch.manual_seed(0)
    model = Folded()
    model(images(8))
    return model.eval()


def test_another_forward_on_the_instance() -> None:
    model = folding()
    attach(model, placed(points_of(find_sites(model, SHAPE), "residual")))
    paths = list(attached_modules(model))
    assert paths == [f"units.{i}.body.nas_attn.0" for i in (0, 1)]
    want = shaken(model)(images())
    model.fuse()  # type: ignore[operator]
    assert torch.allclose(model(images()), want, atol=1e-5)
    for twin in (copy.deepcopy(model), reloaded(model)):
        assert torch.allclose(twin(images()), want, atol=1e-5)
    all_take_part(model, 2)
    bare = folding()
    bare.fuse()  # type: ignore[operator]
    assert torch.allclose(detach(model)(images()), bare(images()), atol=1e-5)


def test_a_norm_that_fusing_takes_away_is_no_host() -> None:
    model = folding()
    for module in model.modules():
        if isinstance(module, Folding):
            module.act = nn.Identity()  # type: ignore[assignment]
    attach(model, placed(points_of(find_sites(model, SHAPE), "residual")))
    assert list(attached_modules(model)) == [f"units.{i}.body.act.nas_attn.0" for i in (0, 1)]
    want = shaken(model)(images())
    model.fuse()  # type: ignore[operator]
    assert torch.allclose(model(images()), want, atol=1e-5)
    all_take_part(model, 2)


def test_a_model_that_was_fused_before() -> None:
    model = folding()
    model.fuse()  # type: ignore[operator]
    before = model(images())
    attach(model, placed(points_of(find_sites(model, SHAPE), "residual")))
    assert torch.equal(model(images()), before)
    assert not torch.equal(shaken(model)(images()), before)
    all_take_part(model, 2)
    assert torch.equal(detach(model)(images()), before)


def wrapped(forward: Callable[..., Tensor], *args: Any) -> Tensor:
    return forward(*args) * 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda host, old: functools.partial(wrapped, old),
        lambda host, old: MethodType(lambda self, x: old(x) * 2, host),
        lambda host, old: lambda x: type(host).forward(host, x) * 2,
        lambda host, old: lambda x: old(x) + old(x),
    ],
    ids=["partial", "method", "class", "twice"],
)
def test_a_function_around_the_forward_before_it(wrap: Callable[..., Any]) -> None:
    host = Residual(8).eval()
    x = torch.rand(2, 8, 6, 6)
    attach(host, placed([Point("b", 8, 6, 6)]))
    shaken(host)
    inner: Any = host.b
    want = 2 * inner(x)
    old = inner.forward
    inner.forward = wrap(inner, old)
    assert torch.equal(inner(x), want)
    assert torch.equal(copy.deepcopy(host).b(x), want) or "old" in wrap.__code__.co_varnames
    inner.forward = old
    assert torch.equal(inner(x), want / 2)
    inner.forward = lambda x: x
    assert torch.equal(inner(x), attached_modules(host)["b.nas_attn.0"](x))
    del inner.forward
    assert torch.equal(inner(x), want / 2)


def reloaded(model: nn.Module, locate: Callable[[str], Any] = pydoc.locate) -> nn.Module:
    """What a trainer does that keeps whole modules in its files, with the classes that are in this
    one and no others.
    """
    blob = io.BytesIO()
    torch.save(model, blob)
    blob.seek(0)
    asked = set(torch.serialization.get_unsafe_globals_in_checkpoint(blob)) - {"pydoc.locate"}
    named: list[Any] = [pkgutil.resolve_name(name) for name in asked]
    mine = (getattr(pickling, pickling.NOT_INSTALLED), hosting.blank, pickling.unpacked)
    named += [
        (function, f"mine{i}") for i, function in enumerate(mine)
    ]  # the file names them by texts
    built = [
        (kind, f"{i}") for i, kind in enumerate({type(module) for module in model.modules()})
    ]  # some share a name
    blob.seek(0)
    with torch.serialization.safe_globals([*named, *built, (locate, "pydoc.locate")]):
        again: nn.Module = torch.load(blob, weights_only=True)
    return again


def test_every_module_comes_back_from_a_file_as_it_was_and_without_this_package_its_name_is_said() -> (
    None
):
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32))
    attach(
        model, placed([Point("1", 32, 14, 14)], *(Choice(name) for name in catalogue.ROWS))
    ).eval()
    x = torch.rand(2, 3, 14, 14)
    want: Tensor = model(x)
    for again in (copy.deepcopy(model), reloaded(reloaded(model))):
        assert torch.equal(again(x), want)
        assert list(again.state_dict()) == list(model.state_dict())
        assert [type(m) for m in again.modules()] == [type(m) for m in model.modules()]
    with pytest.raises(AttributeError, match="nas_attn"):
        reloaded(model, locate=lambda name: None)
    written = io.BytesIO(pickle.dumps(model, protocol=2))
    named = [argument for code, argument, _ in pickletools.genops(written) if code.name == "GLOBAL"]
    assert named
    assert not [name for name in named if name.startswith("nas_attn")], (
        "a reader would import or install it"
    )


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_tracing_works_and_scripting_says_what_to_use() -> None:
    model = resnet()
    traced = torch.jit.trace(model, images())
    assert torch.allclose(traced(images()), model(images()), atol=1e-6)
    for program in (traced, torch.fx.symbolic_trace(resnet("block"))):
        with pytest.raises(BackboneError, match="traced or exported copy"):
            na.check(program, SHAPE)
    with pytest.raises(BackboneError, match=r"use torch\.export\.export"):
        torch.jit.script(model)
    with pytest.raises(BackboneError, match=r"torch\.jit\.trace"):
        torch.jit.script(catalogue.create("eca", 8))
    torch.jit.script(detach(model))


def test_a_distributed_model_is_looked_into(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model = resnet()
        parallel = nn.parallel.DistributedDataParallel(model)
        parallel(images(4)).sum().backward()
        assert all(
            p.grad is not None
            for module in attached_modules(model).values()
            for p in module.parameters()
        )
        all_take_part(parallel, 3)
        with pytest.raises(BackboneError, match="DistributedDataParallel"):
            attach(parallel, placed([Point("module.conv1", 8, 16, 16)]))
    finally:
        torch.distributed.destroy_process_group()


class Cut(nn.Module):
    """Takes a module's result out of the graph, drops another's, and scales a third's to
    nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.cut, self.dropped, self.scaled, self.idle, self.last = (Residual(8) for _ in range(5))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        x = self.cut(self.stem(x)).detach()
        self.dropped(x)
        y = self.last(x + self.gamma * self.scaled(x))
        return {"maps": [y, (y > 0).float()]}


def test_each_module_is_asked_whether_it_runs_and_matters() -> None:
    model = Cut()
    points = [Point(name, 8, 16, 16) for name in ("cut", "dropped", "scaled", "idle", "last")]
    names = [name for name, _ in model.named_parameters()]
    attach(model, placed(points, SE, Choice("eca"))).train()
    random = torch.random.get_rng_state()
    found = {one.path: one for one in na.check(model, SHAPE)}
    assert torch.equal(torch.random.get_rng_state(), random)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert list(found) == [
        f"{p}.nas_attn.{i}" for p in ("cut", "dropped", "scaled", "idle", "last") for i in (0, 1)
    ]
    says = {path: (one.ran, one.depends) for path, one in found.items() if path.endswith("0")}
    assert says == {
        "cut.nas_attn.0": (True, True),
        "dropped.nas_attn.0": (True, False),
        "scaled.nas_attn.0": (True, False),
        "idle.nas_attn.0": (False, False),
        "last.nas_attn.0": (True, True),
    }
    assert found["cut.nas_attn.1"].module == "EfficientChannel"
    assert [name for name, _ in model.named_parameters() if "nas_attn" not in name] == names


def test_attention_that_lost_its_host_is_found() -> None:
    model: Any = resnet()
    lost = nn.BatchNorm2d(8)
    nn.Module.add_module(lost, "nas_attn", model.layer1[0].bn2.nas_attn)
    model.layer1[0]._modules["bn2"] = lost  # past everything that could have known
    found = na.check(model, SHAPE)
    assert [(one.path, one.takes_part) for one in found] == [
        ("layer1.0.bn2.nas_attn.0", False),
        ("layer2.0.bn2.nas_attn.0", True),
        ("layer3.0.bn2.nas_attn.0", True),
    ]


def test_a_wrong_image_is_refused_in_one_sentence() -> None:
    with pytest.raises(BackboneError, match=r"5x16x16 .*RuntimeError: ") as caught:
        na.check(resnet(), (5, 16, 16))
    assert "\n" not in str(caught.value)

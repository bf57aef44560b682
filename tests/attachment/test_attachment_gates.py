"""What `na.gates` reads is what hooks written by hand read, and it reads every module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attachment_models import placed
from torch import Tensor, nn
from torch.autograd.profiler import profile

import nas_attn as na
from nas_attn.attachment import attach
from nas_attn.attachment.gate_readings import gates
from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.errors import BackboneError
from nas_attn.space.placement import Point

SHAPE = (3, 16, 16)
CHANNELS = 64


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norm(self.conv(x))).relu()


class Net(nn.Module):
    """A stem, two blocks on maps of 8 x 8, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, 2, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)
        )
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(CHANNELS, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x).relu()).mean((2, 3)))


def attended(placement: str, init: str = "paper") -> nn.Module:
    torch.manual_seed(0)
    return na.attach(Net(), placement, input_shape=SHAPE, init=init)


def images(count: int = 2) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def kept(model: nn.Module, path: str) -> tuple[Tensor, Tensor]:
    """A hook by hand: what a module of the network takes and gives."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, args: Any, result: Tensor) -> None:
        seen.extend((args[0].detach().clone(), result.detach().clone()))

    with model.get_submodule(path).register_forward_hook(keep), torch.no_grad():
        model.eval()(images())
    taken, given = seen
    return taken, given


def of_se(model: nn.Module, at: str) -> Tensor:
    return kept(model, f"{at}.expand")[1].sigmoid()[:, :, None, None]


def of_eca(model: nn.Module, at: str) -> Tensor:
    return kept(model, f"{at}.conv")[1].sigmoid()[:, 0, :, None, None]


def of_cbam(model: nn.Module, at: str) -> Tensor:
    taken, given = kept(model, f"{at}.channel")
    channel = (given.sum((2, 3)) / taken.sum((2, 3)))[:, :, None, None]
    return channel * kept(model, f"{at}.spatial")[1]


def of_simam(model: nn.Module, at: str) -> Tensor:
    x, _ = kept(model, at)
    square = (x - x.mean((2, 3), keepdim=True)).square()
    variance = square.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return torch.sigmoid(square / (4 * (variance + 1e-4)) + 0.5)


def of_coord(model: nn.Module, at: str) -> Tensor:
    rows_NCH1 = kept(model, f"{at}.expand_h")[1].sigmoid()
    columns_NCW1 = kept(model, f"{at}.expand_w")[1].sigmoid()
    return rows_NCH1 * columns_NCW1.transpose(2, 3)


@pytest.mark.parametrize("position", ["residual", "block"])
@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("se", of_se),
        ("eca", of_eca),
        ("cbam", of_cbam),
        ("coord", of_coord),
        ("simam", of_simam),
    ],
)
def test_gates_are_those_of_a_hook_written_by_hand(
    name: str, by_hand: Callable[[nn.Module, str], Tensor], position: str
) -> None:
    model = attended(f"stage1.block2@{position}={name}")
    ((_, read),) = na.gates(model, images()).items()
    factor = by_hand(model, read.path)
    torch.testing.assert_close(read.factor, factor.expand_as(read.factor))
    torch.testing.assert_close(read.channel, read.factor.mean((2, 3)))
    torch.testing.assert_close(read.spatial, read.factor.mean(1))
    taken, given = kept(model, read.path)
    length = taken.square().sum(1).mean((1, 2)).sqrt()
    torch.testing.assert_close(read.change, (given - taken).norm(dim=1) / length[:, None, None])


def test_memory_grows_with_the_places_and_not_with_their_square() -> None:
    def bytes_taken(blocks: int) -> int:
        torch.manual_seed(0)
        model = Net()
        model.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
        attended = na.attach(model, "stage1=se", input_shape=SHAPE, init="paper")
        with profile(profile_memory=True) as taken:
            assert len(na.gates(attended, images(64))) == blocks
        return sum(max(0, event.self_cpu_memory_usage) for event in taken.function_events or ())

    few, more, most = map(bytes_taken, (3, 6, 12))
    assert most - more < 2.05 * (more - few)


# read alike in either form
@pytest.mark.parametrize("init", [pytest.param("identity", marks=pytest.mark.slow), "paper"])
@pytest.mark.parametrize("name", catalogue.ROWS)
def test_every_module_is_read(name: str, init: str) -> None:
    torch.manual_seed(0)
    model = attach(Net(), placed([Point("blocks.0", CHANNELS, 8, 8)], Choice(name), init=init))
    ((_, read),) = gates(model, images(3)).items()
    assert read.channel.shape == (3, CHANNELS)
    assert read.spatial.shape == read.change.shape == (3, 8, 8)
    for part in (read.channel, read.spatial, read.change):
        assert part.isfinite().all()
    if init == "identity":
        torch.testing.assert_close(read.factor, torch.ones_like(read.factor))
        torch.testing.assert_close(read.change, torch.zeros_like(read.change))


def test_places_have_their_names_in_a_placement() -> None:
    model = attended("stage1=se stage1.block2@block=simam")
    names = [(name, read.module) for name, read in na.gates(model, images()).items()]
    assert names == [
        ("stage1.block1", "SqueezeExcitation"),
        ("stage1.block2", "SqueezeExcitation"),
        ("stage1.block2@block", "SimAM"),
    ]


def test_half_precision_and_maps_of_one_pixel() -> None:
    model = attended("stage1=cbam").half()
    read = na.gates(model, torch.randn(2, 3, 2, 2))["stage1.block1"]
    assert read.channel.isfinite().all()
    assert read.spatial.shape == (2, 1, 1)


def test_the_model_stays_as_it_is() -> None:
    model = attended("stage1=cbam").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    na.gates(model, images())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_what_has_no_gates_is_refused() -> None:
    with pytest.raises(BackboneError, match="has no attention"):
        na.gates(Net(), images())
    model = attended("stage1=se")
    with pytest.raises(BackboneError, match="floating point"):
        na.gates(model, torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(BackboneError, match="cannot process"):
        na.gates(model, torch.zeros(2, 7, 16, 16))

"""What people do with a network that has attention, or is to get it: adapters, shards, pruning,
threads, other devices, edited containers, ensembles, parts in TorchScript.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from attachment_models import shaken
from torch import Tensor, nn
from torch.nn import functional

import nas_attn as na

SHAPE = (3, 16, 16)
IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
POSITIONS = ["residual", "block"]


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return x + self.second(functional.relu(self.first(x)))


class Small(nn.Module):
    """Two blocks between a stem and classes."""

    def __init__(self, block: Callable[[int], nn.Module] = Block) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(block(8), block(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def small(block: Callable[[int], nn.Module] = Block) -> Any:
    torch.manual_seed(0)
    return Small(block).eval()


def attended(position: str = "residual", *, module: str = "se", net: Any = None) -> Any:
    """A network whose attention is no longer the identity."""
    model = small() if net is None else net
    return shaken(na.attach(model, f"stage1@{position}={module}", input_shape=SHAPE))


def take_part(model: nn.Module, count: int) -> None:
    assert [one.takes_part for one in na.check(model, SHAPE)] == [True] * count


class TellsMore(Block):
    """Returns its map among other things, as a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        return y, y.mean((2, 3))


class ReturnsByName(Block):
    """Returns its map in a dictionary; ends in a module, and takes a keyword."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor, *, shift: float = 0.0) -> dict[str, Tensor]:
        y = self.activation(super().forward(x + shift))
        return {"map": y, "mean": y.mean((2, 3))}


class Telling(Small):
    """Runs blocks that return more than a map."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        means = []
        for block in self.body:
            if isinstance(block, ReturnsByName):
                results = block(x, shift=0.5)
                x = results["map"]
                means.append(results["mean"])
            else:
                x, mean = block(x)
                means.append(mean)
        return self.head(x.mean((2, 3)) + sum(means))


@pytest.mark.parametrize(
    ("block", "hosts"),
    [
        (TellsMore, {"residual": ["second"]}),
        (ReturnsByName, {"residual": ["second"], "block": ["activation"]}),
    ],
)
def test_blocks_that_return_more_than_their_map_are_sites(
    block: type[Block], hosts: dict[str, list[str]]
) -> None:
    torch.manual_seed(0)
    net = Telling(block).eval()
    (site,) = na.find_sites(net, SHAPE, granularity="stage")
    for position, names in hosts.items():
        paths = [point.path for point in site.at(position)]
        assert paths == [f"body.{i}.{name}" for i in (0, 1) for name in names]
        bare = net(IMAGES)
        attended(position, net=net)
        assert not torch.equal(net(IMAGES), bare)
        take_part(net, 2)
        assert torch.equal(na.detach(net)(IMAGES), bare)

"""Self-attention that a network brings with it: found, kept, replaced, removed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attachment import attach, attached_modules, cost, detach, find_sites
from nas_attn.space.notation import parse
from nas_attn.space.placement import Point, ResolvedPlacement, Site
from nas_attn.space.search_space import resolve

SHAPE = (3, 16, 16)


class SelfAttention(nn.Module):
    """Over the positions of a map: with a softmax, by torch's own function, or linear."""

    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.form = form
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, -1)
        if self.form == "fused":
            y = functional.scaled_dot_product_attention(q, k, v)
        elif self.form == "softmax":
            y = (q @ k.transpose(1, 2)).softmax(-1) @ v
        else:
            y = q.relu() @ (k.relu().transpose(1, 2) @ v)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    def __init__(self, channels: int, form: str) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.norm = nn.BatchNorm2d(channels)
        self.attention = SelfAttention(channels, form)

    def forward(self, x: Tensor) -> Tensor:
        x = (x + self.conv(x)).relu()
        return x + self.attention(self.norm(x))


class Network(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(Block(8, form), Block(8, form))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def network(form: str = "softmax") -> Network:
    torch.manual_seed(0)
    return Network(form).eval()


def placed(model: nn.Module, placement: str) -> ResolvedPlacement:
    return resolve(parse(placement), find_sites(model, SHAPE, originals=True))


@pytest.mark.parametrize("form", ["softmax", "fused", "linear"])
def test_self_attention_in_a_branch_is_a_site(form: str) -> None:
    own = [site for site in find_sites(network(form), SHAPE, originals=True) if site.original]
    points = [point for site in own if "." in site.name for point in site.at("block")]
    branches = [Point(f"blocks.{i}.attention", 8, 8, 8, replaces=True, branch=True) for i in (0, 1)]
    assert points[:2] == branches or points == branches
    usual = find_sites(network(form), SHAPE)
    assert not any(site.original for site in usual)


def test_a_removed_branch_adds_nothing() -> None:
    model = network()
    x = torch.randn(2, *SHAPE)
    before = model(x)
    macs = cost(model, SHAPE)["macs"]
    attach(model, placed(model, "stage1.original=none"))
    block: Any = model.blocks[0]
    y = torch.randn(2, 8, 8, 8)
    assert torch.equal(block(y), (y + block.conv(y)).relu())
    assert cost(model, SHAPE)["macs"] < macs
    assert not attached_modules(model)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert torch.equal(detach(model)(x), before)


def test_a_replaced_branch_adds_what_replaces_it() -> None:
    model = network()
    attach(model, placed(model, "stage1.original=se(reduction=2)"))
    block: Any = model.blocks[0]
    (attention, *_) = attached_modules(model).values()
    y = torch.randn(2, 8, 8, 8)
    after = (y + block.conv(y)).relu()
    assert torch.equal(block(y), after + attention(block.norm(after)))


def test_attention_inside_a_replaced_module_falls_away() -> None:
    points = Point("attention", 8, 4, 4, replaces=True), Point("attention.out", 8, 4, 4)
    sites = [
        Site("stage1", (("block", (points[1],)),)),
        Site("stage1.original", (("block", (points[0],)),)),
    ]
    removed = resolve(parse("stage1=simam stage1.original=none"), sites)
    assert [point for point, _ in removed.modules] == [points[0]]
    kept = resolve(parse("stage1=simam"), sites)
    assert [point for point, _ in kept.modules] == [points[1]]

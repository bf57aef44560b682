"""Where attention can learn: no sites without a gradient, none behind what drops a branch, and what
`check` says of both.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nas_attn as na
from nas_attn import attachment
from nas_attn.attachment.participation import attach_compared
from nas_attn.space import notation, search_space

SHAPE = (3, 16, 16)


class Block(nn.Module):
    """A residual block; in training, its branch is dropped for some images."""

    def __init__(self, channels: int, drop: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.second(self.first(x).relu()) * self.scale)


class Drop(nn.Module):
    """Stochastic depth, whatever its name."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * torch.empty(len(x), 1, 1, 1, device=x.device).bernoulli_(0.5) / 0.5


class Net(nn.Module):
    """A stem, a stage of two blocks, another one, a head."""

    def __init__(self, drop: type[nn.Module] = nn.Identity, frozen: str = "") -> None:
        super().__init__()
        self.frozen = frozen
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.low = nn.Sequential(Block(8, drop()), Block(8, drop()))
        self.down = nn.Conv2d(8, 16, 3, 2, padding=1)
        self.high = nn.Sequential(Block(16, drop()), Block(16, drop()))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and "low" not in self.frozen):
            x = self.low(self.stem(x))
        x = self.high(self.down(x))
        if "high" in self.frozen:
            x = x.detach()
        return self.head(x.mean((2, 3)))


def paths(model: nn.Module, position: str) -> list[str]:
    sites = na.find_sites(model, SHAPE, granularity="stage")
    return [point.path for site in sites for point in dict(site.points)[position]]


@pytest.mark.parametrize("drop", [Drop, lambda: nn.Dropout2d(0.5)])
def test_attention_stands_before_what_drops_its_branch(drop: type[nn.Module]) -> None:
    assert paths(Net(drop), "residual") == [
        "low.0.second",
        "low.1.second",
        "high.0.second",
        "high.1.second",
    ]
    assert paths(Net(drop), "block") == paths(Net(), "block")


class Branch(nn.Module):
    """A branch that drops itself at its end."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.drop = Drop()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(2 * self.second(self.first(x).relu()))


class AddsBranch(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = Branch(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Outer(nn.Module):
    """Adds what its branches make in its own forward, or in that of its blocks."""

    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.parts = nn.ModuleList(block(8) for _ in range(3))
        self.adds = block is Branch
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.parts:
            x = x + part(x) if self.adds else part(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(("block", "path"), [(Branch, "parts.{}"), (AddsBranch, "parts.{}.branch")])
def test_attention_stands_in_a_branch_that_drops_itself(block: type[nn.Module], path: str) -> None:
    expected = [f"{path.format(number)}.second" for number in range(3)]
    assert paths(Outer(block), "residual") == expected


def test_an_identity_behind_a_branch_stays_its_place() -> None:
    """As studies have it: there tools that fold norms do not come."""
    assert paths(Net(), "residual")[0] == "low.0.drop"


def test_a_stage_that_no_gradient_reaches_is_no_site() -> None:
    model = Net(frozen="low")
    survey = attachment.survey(model, SHAPE)
    wholes = [site for site in survey.sites if "." not in site.name]
    assert [dict(site.points)["block"][0].path for site in wholes] == ["high.0"]
    (note,) = (note for note in survey.notes if note.kind == "no_gradient")
    assert {"low.0", "low.1"} <= set(note.modules)
    assert [p for p in model.parameters() if p.grad is not None] == []


@pytest.mark.parametrize("frozen", ["high", "low high"])
def test_attention_that_cannot_learn_is_said(frozen: str) -> None:
    model = Net(frozen=frozen)
    na.attach(model, "stage2=se", input_shape=SHAPE)
    assert [one.learns for one in na.check(model, SHAPE)] == [False, False]


def test_attention_in_a_frozen_network_learns() -> None:
    for model in (Net(), Net().requires_grad_(False)):
        na.attach(model, "stage2=se", input_shape=SHAPE)
        assert [one.learns for one in na.check(model, SHAPE)] == [True, True]


def test_frozen_attention_does_not_learn() -> None:
    model = na.attach(Net(), "stage2=se", input_shape=SHAPE)
    first, _ = attachment.attached_modules(model).values()
    first.requires_grad_(False)
    assert [one.learns for one in na.check(model, SHAPE)] == [False, True]


def test_a_network_for_inference_keeps_its_sites() -> None:
    class Inference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    assert len(na.find_sites(Inference(), SHAPE)) == len(na.find_sites(Net(), SHAPE))
    na.attach(Inference(), "stage2=se", input_shape=SHAPE)


def test_a_map_of_another_scale_in_training_is_said() -> None:
    """At a place of the user's own choice."""
    custom = {"mine": ["high.1.drop"]}
    model = Net(Drop)
    sites = na.find_sites(model, SHAPE, custom=custom)
    resolved = search_space.resolve(notation.parse("mine=se stage1=se"), sites, init="identity")
    attach_compared(model, resolved, SHAPE)
    scales = {one.path: one.scale for one in na.check(model, SHAPE)}
    assert scales.pop("high.1.drop.nas_attn.0") == pytest.approx(2)
    assert set(scales.values()) == {1.0}

"""Networks that nobody wrote for us, and placements on them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attachment import attached_modules
from nas_attn.attention.choice import Choice
from nas_attn.space.placement import BARE, Point, ResolvedPlacement, Site

SE = Choice("se", (("reduction", 4),))


def placed(points: Iterable[Point], *choices: Choice, init: str = "identity") -> ResolvedPlacement:
    """These choices at each of these points."""
    unique = sorted(set(points), key=lambda point: point.path)
    return ResolvedPlacement(tuple((point, choices or (SE,)) for point in unique), BARE, init, "")


def points_of(sites: Iterable[Site], position: str) -> list[Point]:
    """All points of a position, of the sites that have it."""
    return [point for site in sites if position in site.positions for point in site.at(position)]


class DoubleConv(nn.Module):
    """A U-Net's unit."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(i, o, 3, padding=1),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, padding=1),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class UNetEncoder(nn.Module):
    """Returns a list of maps; pools by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [DoubleConv(3, 8), DoubleConv(8, 16), DoubleConv(16, 32), DoubleConv(32, 64)]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for level in self.levels:
            maps.append(level(x))
            x = functional.max_pool2d(maps[-1], 2)
        return maps


class Residual(nn.Module):
    """Adds by a function; one activation module in three roles."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.relu(self.b(self.relu(self.a(x)))))


def shaken(model: nn.Module) -> nn.Module:
    """Its attention no longer the identity."""
    for module in attached_modules(model).values():
        for parameter in module.parameters():
            with torch.no_grad():
                parameter.add_(
                    0.5 * torch.rand(parameter.shape, generator=torch.Generator().manual_seed(2))
                )
    return model


class Repeating(nn.Module):
    """Runs one block three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = Residual(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return self.head(x.mean((2, 3)))


class AddsItself(nn.Module):
    """Has its residual adds in its own forward: there is no block module."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1)
            )
            for _ in range(3)
        )
        self.down = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.thin = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.wide:
            x = functional.relu(x + branch(x))
        x = self.down(x)
        for branch in self.thin:
            x = x + functional.relu(branch(x))
        return self.head(x.mean((2, 3)))


class RunsItsChildren(nn.Module):
    """Would run a child more, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = Residual(8)
        self.third = Residual(8)

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class RunsItsChildrenInAMethod(nn.Module):
    """The same where a method does it that `forward` calls."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def branch(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.branch(x))


def run_children(module: nn.Module, x: Tensor) -> Tensor:
    for child in module.children():
        x = child(x)
    return x


class RunsItsChildrenInAFunction(RunsItsChildrenInAMethod):
    """The same where the class does not show it."""

    def branch(self, x: Tensor) -> Tensor:
        return run_children(self, x)


class LooksAtSizesAndNumbers(nn.Module):
    """Control flow by the map's size, and by numbers: shapes alone do not run it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(8) for _ in range(4))
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = self.stem(x)
        for block in self.blocks:
            if x.shape[-1] > 16:
                x = functional.avg_pool2d(x, 2)
            x = block(x)
        return x * 0 if x.sum().item() > 1e9 else x

"""Stages, roles and notes of a network do not depend on its normalisation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from nas_attn.attachment import survey
from nas_attn.space.placement import Survey

Norm = Callable[[int], nn.Module]
Convolution = Callable[..., nn.Module]
SHAPE = (1, 32, 32)


class LayerNorm(nn.LayerNorm):
    """Turns the map, and turns it back."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class WrittenByHand(nn.Module):
    """ConvNeXt's layer norm of maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight * ((x - mean) / torch.sqrt(variance + 1e-6)) + self.bias


class Standardised(nn.Conv2d):
    """A convolution that normalises its own weights."""

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.batch_norm(
            self.weight.reshape(1, len(self.weight), -1), None, None, training=True
        ).reshape_as(self.weight)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


def spectral(*sizes: Any, **options: Any) -> nn.Module:
    return parametrizations.spectral_norm(nn.Conv2d(*sizes, **options))


def instance(**options: bool) -> Norm:
    return lambda channels: nn.InstanceNorm2d(channels, **options)


KINDS: dict[str, tuple[Norm, Convolution]] = {
    "group": (lambda channels: nn.GroupNorm(4, channels), nn.Conv2d),
    "instance": (instance(), nn.Conv2d),
    "instance with weights": (instance(affine=True), nn.Conv2d),
    "instance with statistics": (instance(affine=True, track_running_stats=True), nn.Conv2d),
    "layer": (LayerNorm, nn.Conv2d),
    "layer by hand": (WrittenByHand, nn.Conv2d),
    "frozen": (torchvision.ops.FrozenBatchNorm2d, nn.Conv2d),
    "local response": (lambda channels: nn.LocalResponseNorm(3), nn.Conv2d),
    "standardised weights": (lambda channels: nn.Identity(), Standardised),
    "spectral": (lambda channels: nn.Identity(), spectral),
    "none": (lambda channels: nn.Identity(), nn.Conv2d),
}


def unit(i: int, o: int, norm: Norm, convolution: Convolution, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(convolution(i, o, 3, stride=stride, padding=1), norm(o), nn.LeakyReLU(0.1))


def two_units(i: int, o: int, norm: Norm, convolution: Convolution) -> nn.Sequential:
    return nn.Sequential(*unit(i, o, norm, convolution), *unit(o, o, norm, convolution))


class UNet(nn.Module):
    """nnU-Net and MONAI's, small."""

    def __init__(self, norm: Norm, convolution: Convolution) -> None:
        super().__init__()
        self.down1 = two_units(1, 8, norm, convolution)
        self.down2 = two_units(8, 16, norm, convolution)
        self.below = two_units(16, 32, norm, convolution)
        self.wider2 = nn.ConvTranspose2d(32, 16, 2, 2)
        self.up2 = two_units(32, 16, norm, convolution)
        self.wider1 = nn.ConvTranspose2d(16, 8, 2, 2)
        self.up1 = two_units(16, 8, norm, convolution)
        self.classes = nn.Conv2d(8, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(self.pool(first))
        x = self.wider2(self.below(self.pool(second)))
        x = self.wider1(self.up2(torch.cat([x, second], 1)))
        return self.classes(self.up1(torch.cat([x, first], 1)))


class Residual(nn.Module):
    def __init__(self, i: int, o: int, norm: Norm, convolution: Convolution) -> None:
        super().__init__()
        self.first = unit(i, o, norm, convolution, 1 if i == o else 2)
        self.second = unit(o, o, norm, convolution)[:2]
        self.shortcut: nn.Module = nn.Identity()
        if i != o:
            self.shortcut = nn.Sequential(convolution(i, o, 1, stride=2), norm(o))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class Generator(nn.Module):
    """CycleGAN's, small: residual blocks between a way down and a way up."""

    def __init__(self, norm: Norm, convolution: Convolution) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *unit(1, 8, norm, convolution),
            *unit(8, 16, norm, convolution, 2),
            Residual(16, 16, norm, convolution),
            Residual(16, 16, norm, convolution),
            nn.ConvTranspose2d(16, 8, 3, 2, 1, 1),
            norm(8),
            nn.ReLU(),
            nn.Conv2d(8, 3, 3),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Chain(nn.Module):
    """VGG, small."""

    def __init__(self, norm: Norm, convolution: Convolution) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *two_units(1, 8, norm, convolution),
            nn.MaxPool2d(2),
            *two_units(8, 16, norm, convolution),
        )
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Detector(nn.Module):
    """A residual body, a feature pyramid, towers, boxes and classes."""

    def __init__(self, norm: Norm, convolution: Convolution) -> None:
        super().__init__()
        how = (norm, convolution)
        self.stem = unit(1, 8, *how)
        self.body = nn.ModuleList(Residual(i, o, *how) for i, o in pairwise((8, 16, 32, 64)))
        self.lateral = nn.ModuleList(
            nn.Sequential(convolution(c, 16, 1), norm(16)) for c in (16, 32, 64)
        )
        self.smooth = nn.ModuleList(unit(16, 16, *how) for _ in range(3))
        self.towers = nn.ModuleList(unit(16, 16, *how) for _ in range(3))
        self.boxes = nn.ModuleList(nn.Conv2d(16, 4, 1) for _ in range(3))
        self.classes = nn.ModuleList(nn.Conv2d(16, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        levels = []
        for part, lateral in zip(self.body, self.lateral, strict=True):
            x = part(x)
            levels.append(lateral(x))
        for i in (1, 0):
            levels[i] = levels[i] + functional.interpolate(levels[i + 1], scale_factor=2)
        outputs = []
        for i, level in enumerate(levels):
            tower = self.towers[i](self.smooth[i](level))
            outputs += [self.boxes[i](tower), self.classes[i](tower)]
        return outputs


def seen(network: nn.Module) -> Survey:
    return survey(network.eval(), SHAPE, heads=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [UNet, Generator, Chain, Detector])
def test_sites_and_notes_are_those_with_batch_norm(
    network: Callable[[Norm, Convolution], nn.Module], kind: str
) -> None:
    batch, other = seen(network(nn.BatchNorm2d, nn.Conv2d)), seen(network(*KINDS[kind]))
    for expected, site in zip(batch.sites, other.sites, strict=True):
        assert site.name == expected.name
        assert site.role == expected.role
        assert site.points == expected.points
    assert other.notes == batch.notes


def test_a_unet_with_instance_norm_has_stages_and_a_neck() -> None:
    sites = seen(UNet(*KINDS["instance"])).sites
    names = [site.name for site in sites if "." not in site.name]
    assert names == ["stage1", "stage2", "stage3", "neck1", "neck2"]

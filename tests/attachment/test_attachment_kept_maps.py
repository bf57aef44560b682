"""Networks whose parts give each other maps by hooks, or that keep maps between two runs; networks
inside others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attachment_models import Residual
from torch import Tensor, nn
from torch.nn import functional

import nas_attn as na
from nas_attn.attachment import find_sites

SHAPE = (3, 32, 32)
ACTIVATIONS: dict[str, Tensor] = {}
"""As MiDaS has them: a global dictionary, which its hooks fill."""


class Kept:
    """fastai's way: an object with the hook as its method."""

    def __init__(self, module: nn.Module) -> None:
        self.map: Tensor | None = None
        module.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: object, result: Tensor) -> None:
        self.map = result

    def __call__(self) -> Tensor:
        assert self.map is not None
        return self.map


class ReadFrom:
    """What a hook has put into a dictionary."""

    def __init__(self, maps: dict[str, Tensor], name: str) -> None:
        self.maps = maps
        self.name = name

    def __call__(self) -> Tensor:
        return self.maps[self.name]


def by_method(modules: list[nn.Module]) -> list[Callable[[], Tensor]]:
    return [Kept(module) for module in modules]


def by_enclosed_dictionary(modules: list[nn.Module]) -> list[Callable[[], Tensor]]:
    maps: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: object, result: Tensor) -> None:
            maps[name] = result

        return keep

    for i, module in enumerate(modules):
        module.register_forward_hook(hook(str(i)))
    return [ReadFrom(maps, str(i)) for i in range(len(modules))]


def by_global_dictionary(modules: list[nn.Module]) -> list[Callable[[], Tensor]]:
    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: object, result: Tensor) -> None:
            ACTIVATIONS[name] = result

        return keep

    for i, module in enumerate(modules):
        module.register_forward_hook(hook(str(i)))
    return [ReadFrom(ACTIVATIONS, str(i)) for i in range(len(modules))]


class Up(nn.Module):
    def __init__(self, below: int, beside: int, kept: Callable[[], Tensor]) -> None:
        super().__init__()
        self.kept = kept
        self.first = nn.Conv2d(below + beside, beside, 3, padding=1)
        self.second = nn.Conv2d(beside, beside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        beside = self.kept()
        x = functional.interpolate(x, size=beside.shape[-2:])
        return functional.relu(self.second(functional.relu(self.first(torch.cat([x, beside], 1)))))


class Hooked(nn.Module):
    """A U-Net whose decoder takes the encoder's maps from hooks."""

    def __init__(self, kept: Callable[[list[nn.Module]], list[Callable[[], Tensor]]]) -> None:
        super().__init__()
        sides = ((3, 8), (8, 16), (16, 24))
        self.encoder = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.ReLU(), Residual(o)) for i, o in sides)
        )
        first, second, _ = kept(list(self.encoder))
        self.decoder = nn.Sequential(Up(24, 16, second), Up(16, 8, first))
        self.classes = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.decoder(self.encoder(x)))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("kept", [by_method, by_enclosed_dictionary, by_global_dictionary])
def test_a_decoder_takes_its_skips_from_hooks(kept: Any, trained: bool) -> None:
    ACTIVATIONS.clear()
    network = Hooked(kept)
    if trained:  # leaves maps with gradients
        network(torch.randn(2, *SHAPE)).sum().backward()
    network.eval()
    before = dict(ACTIVATIONS)
    names = [site.name for site in find_sites(network, SHAPE)]
    assert names == ["stage1", "stage2", "stage3", "neck1", "neck2"]
    assert before == ACTIVATIONS
    x = torch.randn(1, *SHAPE)
    want = network(x)
    na.attach(network, "*=se", input_shape=SHAPE)
    assert torch.equal(network(x), want)
    found = na.check(network, SHAPE)
    assert len(found) == 5
    assert all(one.takes_part for one in found)


class Keeping(nn.Module):
    """Keeps its maps, as Monodepth2's encoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.low = nn.Conv2d(3, 16, 3, padding=1), Residual(16)
        self.down, self.high = nn.Conv2d(16, 32, 3, 2, 1), Residual(32)
        self.head = nn.Linear(32, 4)
        self.maps: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.maps = [self.low(self.stem(x))]
        self.maps.append(self.high(self.down(self.maps[0])))
        return self.head(self.maps[-1].mean((2, 3)))


def test_maps_that_are_kept_from_training_stay_and_are_in_nobodys_way() -> None:
    network: Any = na.attach(Keeping(), "stage1=se stage2=eca", input_shape=SHAPE)
    network(torch.randn(2, *SHAPE)).sum().backward()
    kept = list(network.maps)
    found = na.check(network, SHAPE)
    assert len(found) == 2
    assert all(one.takes_part for one in found)
    assert len(find_sites(network, SHAPE)) == 2
    na.attach(na.detach(network), "stage1=se", input_shape=SHAPE)
    assert all(now is before for now, before in zip(network.maps, kept, strict=True))
    assert all(one.grad_fn is not None for one in kept)


class Around(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(Residual(8), Residual(8)),
        nn.Flatten(),
        nn.Linear(8 * 32 * 32, 5),
    )


WRAPPED: dict[str, Callable[[Any], nn.Module]] = {
    "in a trainer's module": Around,
    "behind a normalising layer": lambda network: nn.Sequential(nn.Identity(), network),
    "without its head": lambda network: nn.Sequential(*list(network.children())[:-1]),
    "without stem and head": lambda network: nn.Sequential(*list(network.children())[1:2]),
    "copied": lambda network: Around(copy.deepcopy(network)),
    "copied without its head": lambda network: copy.deepcopy(nn.Sequential(*network[:-1])),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_network_has_lost_nothing(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = na.attach(plain(), "stage1@block=se", input_shape=SHAPE)
    model = wrap(network)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    shape = (first.in_channels, *SHAPE[1:])
    assert [one.lost for one in na.check(model, shape, expected=network)] == [False, False]


def test_attention_that_the_expected_network_has_elsewhere_is_lost() -> None:
    network = na.attach(plain(), "stage1.block2@block=se", input_shape=SHAPE)
    other = Around(na.attach(plain(), "stage1.block1@block=se", input_shape=SHAPE))
    assert [one.lost for one in na.check(other, SHAPE, expected=network)] == [False, True]
    both = Around(na.attach(plain(), "stage1@block=se", input_shape=SHAPE))
    assert sum(one.lost for one in na.check(other, SHAPE, expected=both)) == 1
    assert sum(one.lost for one in na.check(Around(plain()), SHAPE, expected=both)) == 2

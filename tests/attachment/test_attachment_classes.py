"""What else looks at a module's class, changes it or keeps a list of classes: attention comes, stays
and goes, and the network is as before.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pytest
import torch
from attachment_models import shaken
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

import nas_attn as na
from nas_attn.attachment import attached_modules
from nas_attn.errors import BackboneError, NasAttnWarning

SHAPE = (3, 16, 16)
POSITIONS = ("residual", "block")


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.relu(self.first(x)))


def network(block: Callable[[int], nn.Module] = Block) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(block(8), block(8))
    layers = (nn.Conv2d(3, 8, 3, padding=1), body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8, 5)).eval()


def images() -> Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))


def attend(model: nn.Module, position: str) -> nn.Module:
    return na.attach(model, f"stage1@{position}=se", input_shape=SHAPE)


def convolutions(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


def spectral(model: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for convolution in convolutions(model):
        parametrizations.spectral_norm(convolution)
    return model.eval()


def weight(model: nn.Module) -> nn.Module:
    for convolution in convolutions(model):
        parametrizations.weight_norm(convolution)
    return model


def of_blocks(model: Any) -> nn.Module:
    """A parametrization of a block itself, which may be a host, too."""
    for block in model[1]:
        block.register_parameter("scale", nn.Parameter(torch.ones(3)))
        parametrize.register_parametrization(block, "scale", nn.Softplus())
    return model


def without_norm(model: nn.Module) -> nn.Module:
    for module in model.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    return model


@pytest.mark.parametrize("normed", [spectral, weight, of_blocks])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("order", ["norm first", "attention first"])
@pytest.mark.parametrize("removed", ["never", "attended", "detached"])
def test_parametrizations_come_and_go(
    normed: Callable[[nn.Module], nn.Module], position: str, order: str, removed: str
) -> None:
    bare, model = normed(network()), network()
    keys, want = list(bare.state_dict()), bare(images())
    model = attend(normed(model), position) if order[0] == "n" else normed(attend(model, position))
    assert torch.allclose(model(images()), want)
    assert len(na.check(model, SHAPE)) == 2
    twin = copy.deepcopy(shaken(model))
    attended = twin(images())
    assert torch.equal(model(images()), attended)
    assert len(attached_modules(twin)) == 2
    if removed == "attended":
        without_norm(model)
        assert len(na.check(model, SHAPE)) == 2
        assert torch.allclose(model(images()), attended, atol=1e-6)
    na.detach(model)
    assert len(attached_modules(twin)) == 2
    assert torch.allclose(model(images()), want, atol=1e-6)
    if removed == "detached":
        without_norm(model)
        assert torch.allclose(model(images()), want, atol=1e-6)
    if removed == "never":
        assert list(model.state_dict()) == keys
    else:
        assert [type(m) for m in model.modules()] == [type(m) for m in network().modules()]


class OldSuper(Block):
    """Asks its own class for the next one, which is wrong as soon as there is a subclass."""

    def forward(self, x: Tensor) -> Tensor:
        return super(self.__class__, self).forward(x)


REGISTRY: dict[str, type] = {}


class Named(nn.Module):
    def __init_subclass__(cls, name: str, **options: object) -> None:
        super().__init_subclass__(**options)
        if name in REGISTRY:
            raise ValueError(f"two layers are called {name}")
        REGISTRY[name] = cls


class NamedBlock(Block, Named, name="block"):
    pass


class Listing(type):
    """A metaclass that keeps a list of its classes."""

    made: list[str] = []  # noqa: RUF012 - of the metaclass

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        cls.made.append(name)
        return super().__new__(cls, name, bases, body)


class Listed(Block, metaclass=Listing):
    pass


class Abstract(nn.Module, ABC):
    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...


class Concrete(Block, Abstract):
    def forward(self, x: Tensor) -> Tensor:
        return Block.forward(self, x)


class ComparesItself(Block):
    """Compares the class that it says it has."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.__class__ is ComparesItself else x


@pytest.mark.parametrize("block", [OldSuper, NamedBlock, Listed, Concrete, ComparesItself])
@pytest.mark.parametrize("position", POSITIONS)
def test_classes_that_ask_for_themselves_or_keep_a_list(
    block: Callable[[int], nn.Module], position: str
) -> None:
    registry, made = dict(REGISTRY), list(Listing.made)
    model = network(block)
    types, keys, want = (
        [type(m) for m in model.modules()],
        list(model.state_dict()),
        model(images()),
    )
    attend(model, position)
    assert torch.equal(model(images()), want)
    assert len(na.check(model, SHAPE)) == 2
    assert len(attached_modules(copy.deepcopy(model))) == 2
    na.detach(model)
    assert [type(m) for m in model.modules()] == types
    assert list(model.state_dict()) == keys
    assert registry == REGISTRY
    assert made == Listing.made


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


WRAPPERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a block, then dropout": ("1.0", lambda m: nn.Sequential(m, nn.Dropout2d(0.1))),
    "the body, in a wrapper": ("1", Around),
    "the body, in DataParallel": ("1", nn.DataParallel),
    "a block, checkpointed": ("1.1", checkpoint_wrapper),
    "the body, compiled": ("1", lambda m: torch.compile(m, backend="eager")),
    "a convolution": ("1.0.second", Around),
}


@pytest.mark.parametrize(("path", "around"), WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("position", POSITIONS)
@torch.no_grad()
def test_a_part_with_attention_may_be_put_into_a_wrapper(
    path: str, around: Callable[[nn.Module], nn.Module], position: str
) -> None:
    model = shaken(attend(network(), position))
    want = model(images())
    part = model.get_submodule(path)
    model.set_submodule(path, around(part))
    model.eval()
    assert torch.allclose(model(images()), want, atol=1e-6)
    assert [one.takes_part for one in na.check(model, SHAPE)] == [True, True]
    if path == "1.0.second" and position == "residual":
        with pytest.raises(BackboneError, match="carries attention"):
            model.set_submodule(path, nn.Conv2d(8, 8, 3, padding=1))
    model.set_submodule(path, part)  # taken out of it again
    assert torch.allclose(model(images()), want, atol=1e-6)


class AsksForTheType(nn.Module):
    """Runs what is exactly a block, and leaves out everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList([Block(8), Block(8)])
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            if type(layer) is Block:
                x = layer(x)
        return self.head(x.mean((2, 3)))


class RefusesOtherTypes(AsksForTheType):
    def forward(self, x: Tensor) -> Tensor:
        if any(type(layer) is not Block for layer in self.layers):
            raise TypeError("only blocks")
        return super().forward(x)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(AsksForTheType, "computes something else"), (RefusesOtherTypes, "TypeError: only blocks")],
)
def test_a_network_that_asks_for_the_exact_type_is_left_as_it_was(
    kind: type[nn.Module], said: str
) -> None:
    model = kind().eval()
    types, keys, want = (
        [type(m) for m in model.modules()],
        list(model.state_dict()),
        model(images()),
    )
    with pytest.raises(BackboneError, match=f"{said}.*isinstance"):
        attend(model, "block")
    assert [type(m) for m in model.modules()] == types
    assert list(model.state_dict()) == keys
    assert torch.equal(model(images()), want)


class Noisy(AsksForTheType):
    """Counts its runs, and gives each another result."""

    runs = 0

    def forward(self, x: Tensor) -> Tensor:
        Noisy.runs += 1
        return super().forward(x) + Noisy.runs


def test_a_network_whose_runs_differ_is_attended_with_a_note() -> None:
    with pytest.warns(NasAttnWarning, match="two runs of one image differ"):
        model = attend(Noisy(), "residual")
    assert len(attached_modules(model)) == 2

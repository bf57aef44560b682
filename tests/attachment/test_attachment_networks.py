"""Networks of unusual parts: what cannot be copied, complex numbers, several outputs, a decoder of
single convolutions behind a transformer.
"""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attachment_models import Residual
from torch import Tensor, nn

import nas_attn as na
from nas_attn.errors import BackboneError

SHAPE = (3, 16, 16)


class Net(nn.Module):
    """A stem, two residual blocks, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(Residual(8), Residual(8))
        self.head = nn.Linear(8, 5)

    def features(self, x: Tensor) -> Tensor:
        maps: Tensor = self.body(self.stem(x))
        return maps.mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        return self.head(self.features(x))


def numbers() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (threading.RLock, "RLock"),
        (threading.Lock, "lock"),
        (queue.Queue, "Queue"),
        (lambda: open(__file__), "TextIOWrapper"),  # noqa: SIM115 - it is what is held
        (numbers, "generator"),
    ],
)
def test_what_cannot_be_copied_is_named_with_its_place(
    held: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    net = Net()
    thing = held()
    if isinstance(thing, io.IOBase):
        request.addfinalizer(thing.close)
    net.body[1].held = thing
    message = rf"Net cannot be copied.*'body\.1\.held' holds a {kind}, .*__getstate__"
    for look in (
        lambda: na.find_sites(net, SHAPE),
        lambda: na.attach(net, "stage1=se", input_shape=SHAPE),
        lambda: na.check(net, SHAPE),
    ):
        with pytest.raises(BackboneError, match=message) as error:
            look()
        assert "\n" not in str(error.value)


class WithoutLock(Net):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "lock"}


def test_the_way_out_of_a_lock_works() -> None:
    net = na.attach(WithoutLock(), "stage1=se", input_shape=SHAPE)
    assert [one.takes_part for one in na.check(net, SHAPE)] == [True, True]


@pytest.mark.parametrize("form", ["object", "tuple", "dictionary"])
def test_logits_beside_features_are_a_classifiers(form: str) -> None:
    class Several(Net):
        def forward(self, x: Tensor) -> Any:
            features = self.features(x)
            logits = self.head(features)
            if form == "object":
                return SimpleNamespace(logits=logits, features=features)
            if form == "tuple":
                return logits, features
            return {"logits": logits, "features": features}

    found, usual = (na.find_sites(net, SHAPE) for net in (Several(), Net()))
    assert found == usual
    net = na.attach(Several(), "stage1=se", input_shape=SHAPE)
    assert [one.takes_part for one in na.check(net, SHAPE)] == [True, True]


def test_complex_networks_have_a_sentence_of_their_own() -> None:
    class Complex(nn.Module):
        def __init__(self, turned: bool) -> None:
            super().__init__()
            self.turned = turned
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, dtype=torch.complex64),
                nn.Conv2d(8, 8, 3, padding=1, dtype=torch.complex64),
            )

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layers(torch.complex(x, x) if self.turned else x)
            return y.abs().mean((2, 3))

    with pytest.raises(BackboneError, match="maps are complex, which attention does not take"):
        na.find_sites(Complex(turned=True), SHAPE)
    with pytest.raises(BackboneError, match="computes with complex numbers"):
        na.find_sites(Complex(turned=False), SHAPE)


def test_real_maps_beside_a_transform_are_sites() -> None:
    class Spectral(Net):
        """Weighs frequencies by complex numbers, as Fourier layers do."""

        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.ones(8, 16, 9, dtype=torch.complex64))

        def features(self, x: Tensor) -> Tensor:
            y = torch.fft.rfft2(self.stem(x)) * self.weights
            maps: Tensor = self.body(torch.fft.irfft2(y))
            return maps.mean((2, 3))

    assert na.find_sites(Spectral(), SHAPE) == na.find_sites(Net(), SHAPE)


def test_a_decoder_of_single_convolutions_behind_a_transformer_has_sites() -> None:
    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, stride=4)
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
            self.up1 = nn.Sequential(nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.up2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x)
            encoded = self.encoder(tokens.flatten(2).transpose(1, 2))
            y = encoded.transpose(1, 2).reshape(tokens.shape)
            y = nn.functional.interpolate(self.up1(y), scale_factor=2.0)
            y = nn.functional.interpolate(self.up2(y), scale_factor=2.0)
            z: Tensor = self.last(y)
            return z

    paths = {
        point.path
        for site in na.find_sites(Segmenter(), SHAPE)
        for _, points in site.points
        for point in points
    }
    assert paths == {"up1.2", "up2.2"}
    torch.manual_seed(0)
    net = na.attach(Segmenter(), "*1=se", input_shape=SHAPE)
    assert all(one.takes_part for one in na.check(net, SHAPE))

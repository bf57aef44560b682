"""What is done to one layer, and to its type: attention behind it trains, computes and quantises as
the network above says.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from attachment_models import shaken
from torch import Tensor, nn
from torch.ao.quantization import (
    get_default_qat_qconfig,
    get_default_qat_qconfig_mapping,
    prepare_qat,
    quantize_fx,
)

import nas_attn as na
from nas_attn.attachment import attached_modules
from nas_attn.errors import NasAttnWarning

SHAPE = (3, 16, 16)
NORMS = [nn.BatchNorm2d, lambda channels: nn.GroupNorm(2, channels)]


class Block(nn.Module):
    def __init__(self, norm: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = norm(8)  # type: ignore[operator]
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.last = norm(8)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.again(self.norm(self.conv(x)).relu()))


class Net(nn.Module):
    def __init__(self, norm: object = nn.BatchNorm2d) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(Block(norm), Block(norm))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def attended(norm: object = nn.BatchNorm2d, module: str = "coord(reduction=4)") -> nn.Module:
    torch.manual_seed(0)
    net = na.attach(Net(norm).train(), f"stage1={module}", input_shape=SHAPE)
    assert list(attached_modules(net)) == ["body.0.last.nas_attn.0", "body.1.last.nas_attn.0"]
    return shaken(net)


def norms(net: nn.Module) -> list[nn.Module]:
    """Those of the bare backbone, as code finds them by type."""
    kinds = (nn.BatchNorm2d, nn.GroupNorm)
    return [m for n, m in net.named_modules() if isinstance(m, kinds) and "nas_attn" not in n]


@pytest.mark.parametrize("norm", NORMS)
def test_norms_frozen_one_by_one_leave_attention_training(norm: object) -> None:
    net = attended(norm)
    for layer in norms(net):
        layer.eval().requires_grad_(False)
    assert not any(layer.training for layer in norms(net))
    for attention in attached_modules(net).values():
        assert all(module.training for module in attention.modules())
        assert all(p.requires_grad for p in attention.parameters())
    for layer in norms(net):
        assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
        assert not any(p.requires_grad for p in layer.parameters())
    net(torch.rand(4, *SHAPE)).sum().backward()
    counted: list[Any] = [m.norm.num_batches_tracked for m in attached_modules(net).values()]
    assert all(int(count) > 0 for count in counted)


@pytest.mark.parametrize("norm", NORMS)
def test_the_network_above_reaches_norms_and_their_attention(norm: object) -> None:
    net = attended(norm)
    inside = [m for one in attached_modules(net).values() for m in one.modules()]
    assert not any(m.training for m in net.eval().modules())
    assert all(m.training for m in net.train().modules())
    net.body.requires_grad_(False)
    assert not any(p.requires_grad for m in inside for p in m.parameters())
    net.requires_grad_(True)
    assert {id(p) for m in inside for p in m.parameters()} <= {id(p) for p in net.parameters()}
    assert {p.dtype for p in net.double().parameters()} == {torch.float64}


@pytest.mark.parametrize("how", ["float", "to"])
def test_norms_in_float32_of_a_half_network_leave_attention_in_its_maps_type(how: str) -> None:
    net = attended().bfloat16()
    for layer in norms(net):
        if how == "to":
            layer.to("cpu").to(torch.float32)
        else:
            layer.float()
        assert {p.dtype for p in layer.parameters()} == {torch.float32}
    twin = copy.deepcopy(net)
    for attention in attached_modules(twin).values():
        assert {p.dtype for p in attention.parameters()} == {torch.bfloat16}
    assert twin.eval()(torch.rand(2, *SHAPE).bfloat16()).dtype == torch.bfloat16


# torch's own, of what it will take away
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("module", ["se", "cbam", "mhsa"])
def test_quantised_by_torch_fx_attention_stays(module: str) -> None:
    net = attended(module=module).eval()
    images = torch.rand(8, *SHAPE)
    want = net(images).detach()
    without = na.detach(copy.deepcopy(net))(images).detach()
    ready = quantize_fx.prepare_qat_fx(net.train(), get_default_qat_qconfig_mapping(), (images,))
    ready.eval()(images)
    found = quantize_fx.convert_fx(ready)(images).detach()
    assert (found - want).norm() < 0.2 * (found - without).norm()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_convolution_that_eager_quantisation_passes_by_is_said() -> None:
    net = Net(lambda _: nn.Identity()).train()
    na.attach(net, "mine=se", input_shape=SHAPE, custom={"mine": ["body.1.again"]})
    net.qconfig = get_default_qat_qconfig("x86")  # type: ignore[assignment]
    with pytest.warns(NasAttnWarning, match="Conv2d with attention behind it stays in float"):
        ready = prepare_qat(net)
    assert hasattr(ready.body[1].conv, "weight_fake_quant")
    assert not hasattr(ready.body[1].again, "weight_fake_quant")
    with warnings.catch_warnings():
        warnings.simplefilter("error", NasAttnWarning)
        net.body[1].again.qconfig = None

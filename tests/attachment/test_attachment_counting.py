"""Parameters, MACs and activation bytes, against torch's own counter and by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from attachment_models import SE, Repeating, placed, points_of
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nas_attn.attachment import attach, cost, find_sites
from nas_attn.backbones import build
from nas_attn.recipe import BackboneSection
from nas_attn.records import Choice


def counted_by_torch(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).eval()(torch.rand(1, *shape))
    flops: int = counter.get_total_flops()
    return flops // 2


def test_a_convolution_and_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30, 7))
    found = cost(model, (3, 5, 6))
    assert found["params"] == 8 * 27 + 240 * 7 + 7
    assert found["macs"] == 8 * 27 * 30 + 240 * 7
    assert found["memory"] == 4 * (240 + 240 + 7)


def test_macs_are_those_of_torchvisions_table() -> None:
    with torch.device("meta"):
        model = build(BackboneSection(name="torchvision:vit_b_32"), input_shape=(3, 224, 224), classes=10)
    assert cost(model, (3, 224, 224))["macs"] == pytest.approx(4.41e9, rel=0.01)


def test_attention_is_counted() -> None:
    model = build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=10)
    bare = cost(model, (3, 16, 16))
    assert bare["macs"] == counted_by_torch(model, (3, 16, 16))
    attach(model, placed(points_of(find_sites(model, (3, 16, 16)), "residual"), SE, Choice("ela")))
    found = cost(model, (3, 16, 16))
    assert found["params"] == sum(p.numel() for p in model.parameters()) > bare["params"]
    assert found["macs"] == counted_by_torch(model, (3, 16, 16)) > bare["macs"]
    assert found["memory"] > bare["memory"]


def test_shared_modules_count_once_in_parameters_and_each_time_in_macs() -> None:
    model = Repeating()
    assert cost(model, (3, 8, 8))["params"] == sum(p.numel() for p in model.parameters())
    assert cost(model, (3, 8, 8))["macs"] == 64 * (3 * 16 * 9 + 3 * 2 * 16 * 16 * 9) + 16 * 5


def test_attention_products_are_counted() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert cost(Scaled(), (6, 4, 5))["macs"] == 2 * 20 * 20 * 6


def test_nothing_changes() -> None:
    model = build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=10).train()
    state = copy.deepcopy(model.state_dict())
    generator = torch.random.get_rng_state()
    first = cost(model, (3, 16, 16))
    assert cost(model, (3, 16, 16)) == first
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())

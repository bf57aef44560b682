"""The cost `training_memory`: what autograd keeps of an image, by hand and on real numbers."""

from __future__ import annotations

import torch
from attachment_models import placed, points_of
from torch import Tensor, nn

from nas_attn.attachment import attach, find_sites
from nas_attn.attachment.counting import cost
from nas_attn.attention.choice import Choice
from nas_attn.backbones import build
from nas_attn.recipe.recipe import BackboneSection


def kept(model: nn.Module, shape: tuple[int, int, int]) -> float:
    return cost(model, shape)["training_memory"]


def test_what_is_kept_by_hand() -> None:
    """The image for the convolution, its result for the sigmoid's slope, that for the last layer."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid(), nn.Flatten())
    assert kept(model, (3, 5, 6)) == 4 * (90 + 240)
    assert kept(nn.Sequential(model, nn.Linear(240, 7)), (3, 5, 6)) == 4 * (90 + 240)
    in_place = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
    assert kept(in_place, (3, 5, 6)) == 4 * (90 + 240)


def test_a_frozen_network_keeps_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).requires_grad_(False)
    assert kept(model, (3, 5, 6)) == 0


def test_attention_keeps_more() -> None:
    model = build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=10)
    bare = kept(model, (3, 16, 16))
    attach(model, placed(points_of(find_sites(model, (3, 16, 16)), "residual"), Choice("cbam")))
    assert kept(model, (3, 16, 16)) > bare


class Doubtful(nn.Module):
    """Looks at its numbers, so that shapes alone do not do."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid() if x.mean() > 0 else x


def test_a_model_that_needs_numbers_is_counted_on_an_image() -> None:
    first = nn.Conv2d(3, 8, 3)
    nn.init.constant_(first.weight, 1.0)
    model = nn.Sequential(first, Doubtful())
    assert kept(model, (3, 5, 6)) == 4 * (90 + 96)
    assert torch.is_grad_enabled()

"""A loop of one's own: attention's rate, and a network frozen but for its attention."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

import nas_attn as na
from nas_attn.errors import BackboneError

SHAPE = (3, 32, 32)


def attended(placement: str = "stage3=cbam stage4=se") -> nn.Module:
    torch.manual_seed(0)
    return na.attach(torchvision.models.resnet18(), placement, input_shape=SHAPE)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, *SHAPE)).square().sum().backward()
        optimizer.step()


def test_attention_has_its_rate_and_norms_and_biases_no_decay() -> None:
    model = attended("stage3=cbam stage4=simam")
    groups = na.parameter_groups(model, 0.01, attention_lr=0.1, weight_decay=0.05)
    of = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        rate, decay = of.pop(id(parameter))
        assert rate == (0.1 if "nas_attn" in name else 0.01), name
        decayed = name.endswith("weight") and parameter.dim() > 1 and parameter.numel() > 1
        assert decay == (0.05 if decayed else 0.0), name
    assert of == {}
    torch.optim.AdamW(groups)


def test_a_layer_norm_of_several_dimensions_is_no_weight() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm((2, 2)))
    decayed, spared = na.parameter_groups(model, 0.1, weight_decay=1.0)
    assert (len(decayed["params"]), len(spared["params"])) == (1, 3)


def test_all_but_attention_stays_as_it_is() -> None:
    model = na.freeze_all_but_attention(attended())
    before = copy.deepcopy(model.state_dict())
    train(model, torch.optim.SGD(na.parameter_groups(model, 0.01)))
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all("nas_attn" in name for name in changed)
    assert any("running_mean" in name for name in changed)


def test_a_part_can_be_trained_again() -> None:
    model = copy.deepcopy(na.freeze_all_but_attention(attended()))
    model.get_submodule("layer4").requires_grad_(True)
    before = copy.deepcopy(model.state_dict())
    train(model, torch.optim.SGD(na.parameter_groups(model, 0.01)))
    after = model.state_dict()
    for name, same in (("layer4.1.bn1", False), ("layer3.1.bn1", True)):
        for part in ("weight", "running_mean"):
            assert torch.equal(after[f"{name}.{part}"], before[f"{name}.{part}"]) == same


def test_without_attention_there_is_nothing_to_train() -> None:
    with pytest.raises(BackboneError, match="attach it first"):
        na.freeze_all_but_attention(torchvision.models.resnet18())
    with pytest.raises(BackboneError, match="attention_lr"):
        na.parameter_groups(torchvision.models.resnet18(), 0.1, attention_lr=0.2)

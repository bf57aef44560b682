"""The bare backbone's time, stage by stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nas_attn.backbones import build
from nas_attn.latency.stages import stage_times
from nas_attn.recipe import BackboneSection, LatencySection

SPANS = {f"stage{n}": (f"layer{n}.0", f"layer{n}.0") for n in (1, 2, 3)}


@pytest.fixture
def resnet() -> nn.Module:
    return build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=4)


def test_each_part_has_a_time_and_the_model_stays_as_it_is(resnet: nn.Module) -> None:
    before = {name: value.clone() for name, value in resnet.state_dict().items()}
    found = stage_times(LatencySection(), resnet, (3, 16, 16), SPANS)
    assert found is not None
    assert list(found) == ["stem", "stage1", "stage2", "stage3", "rest"]
    assert all(ms >= 0 for ms in found.values())
    assert sum(found.values()) > 0
    assert all(torch.equal(before[name], value) for name, value in resnet.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in resnet.modules())


def test_nothing_is_said_where_modules_are_not_executed_or_stages_do_not_follow_each_other(resnet: nn.Module) -> None:
    compiled = LatencySection(mode="compile")
    assert stage_times(compiled, resnet, (3, 16, 16), SPANS) is None
    assert stage_times(LatencySection(), resnet, (3, 16, 16), {}) is None
    backwards = dict(reversed(SPANS.items()))
    assert stage_times(LatencySection(), resnet, (3, 16, 16), backwards) is None

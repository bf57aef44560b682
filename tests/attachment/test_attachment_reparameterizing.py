"""Networks that merge their own branches for inference: no attention is lost, and what is lost is
reported.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from attachment_models import SE, placed
from torch import Tensor, nn

import nas_attn as na
from nas_attn.attachment import attach, attached_modules, reparameterized, survey
from nas_attn.errors import BackboneError
from nas_attn.latency.nets import deployed
from nas_attn.recipe.recipe import LatencySection
from nas_attn.space.placement import Point

SHAPE = (3, 64, 64)


class Merging(nn.Module):
    """Two branches and a shortcut that become one convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.thin = nn.Conv2d(channels, channels, 1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(
            self.merged(x) if hasattr(self, "merged") else x + self.wide(x) + self.thin(x)
        )

    def switch_to_deploy(self) -> None:
        wide: Any = self.wide
        merged: Any = nn.utils.fusion.fuse_conv_bn_eval(wide[0], wide[1])
        merged.weight.data[:, :, 1:2, 1:2] += self.thin.weight.data
        merged.weight.data[:, :, 1, 1] += torch.eye(len(merged.weight))
        assert merged.bias is not None
        assert self.thin.bias is not None
        merged.bias.data += self.thin.bias.data
        self.merged = merged
        del self.wide, self.thin


class Merged(nn.Sequential):
    def __init__(self) -> None:
        stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        super().__init__(
            stem,
            *(Merging(8) for _ in range(3)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )


def network(name: str) -> nn.Module:
    """With norms and scales that have something to say."""
    torch.manual_seed(0)
    if name == "merged":
        model: nn.Module = Merged()
    else:
        model = pytest.importorskip("timm", reason="timm is not installed").create_model(
            name, num_classes=5
        )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
                module.momentum = 1.0
        for key, parameter in model.named_parameters():
            if key.endswith("gamma"):
                parameter.uniform_(0.3, 1)
        model(torch.rand(8, *SHAPE))
    return model.eval()


def attended(model: nn.Module, position: str) -> nn.Module:
    sites = [s for s in na.find_sites(model, SHAPE) if position in s.positions]
    assert sites
    where = " ".join(f"{s.name}@{position}=se(reduction=4)" for s in sites)
    return na.attach(model, where, input_shape=SHAPE, init="paper")


FAMILIES = [
    "efficientvim_m1",
    "efficientvit_m0",
    "fastvit_t8",
    "fastvit_mci0",
    "ghostnetv3_050",
    "iformer_t",
]
FAMILIES += [
    "lcnetv2_small",
    "mobileone_s0",
    "nextvit_small",
    "repghostnet_050",
    "repvgg_a0",
    "repvit_m0_9",
]
FAMILIES += ["shvit_s1", "tiny_vit_5m_224"]
"""timm's that reparameterize; of its LeViT only `levit_conv_...` has maps, at 224 x 224."""
CASES = [
    pytest.param(name, position, marks=() if name == "merged" else pytest.mark.slow)
    for name in ("merged", *FAMILIES)
    for position in ("residual", "block", "stage")
    if position != "residual"
    or name
    not in (
        "merged",
        "repvgg_a0",
        "mobileone_s0",
        "efficientvim_m1",
    )  # all of their blocks are merged whole
]


@pytest.mark.parametrize(("name", "position"), CASES)
def test_attention_survives_the_networks_own_reparameterization(name: str, position: str) -> None:
    model = network(name)
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        bare = model(x)
        attended(model, position)
        want = model(x)
        converted = reparameterized(model, SHAPE)
        effect = (want - bare).abs().max()
        assert (converted(x) - want).abs().max() < 0.01 * effect
        if name != "merged":
            from timm.utils import reparameterize_model

            assert (reparameterize_model(model)(x) - want).abs().max() < 0.01 * effect
    assert len(converted.state_dict()) < len(model.state_dict())
    assert all(one.takes_part for one in na.check(converted, SHAPE))
    assert len(na.check(converted, SHAPE)) == len(attached_modules(model))


def test_no_site_lies_in_what_is_merged_and_the_survey_says_so() -> None:
    model = network("merged")
    found = survey(model, SHAPE)
    paths = {point.path for site in found.sites for _, points in site.points for point in points}
    assert not any("wide" in path or "thin" in path for path in paths)
    assert any(note.kind == "merged" for note in found.notes)
    with pytest.raises(BackboneError, match=r"'1\.wide\.1'"):
        na.find_sites(network("merged"), SHAPE, custom={"mine": ["1.wide.1"]})


def test_attention_in_what_is_merged_is_never_lost_silently() -> None:
    model = attach(network("merged"), placed([Point("1.wide.1", 8, 32, 32)], SE))
    with pytest.raises(BackboneError, match="'wide' of Merging"):
        model[1].switch_to_deploy()  # type: ignore[operator,index]


def test_check_reports_what_was_attached_and_is_gone() -> None:
    model = attach(network("merged"), placed([Point("1", 8, 32, 32), Point("3", 8, 32, 32)], SE))
    assert not any(one.lost for one in na.check(model, SHAPE))
    rebuilt = copy.deepcopy(model)
    rebuilt._modules["3"] = Merging(8).eval()
    kept, lost = na.check(rebuilt, SHAPE)
    assert (kept.path, kept.takes_part) == ("1.nas_attn.0", True)
    assert (lost.path, lost.lost, lost.takes_part) == ("3.nas_attn.0", True, False)
    assert na.check(na.detach(rebuilt), SHAPE) == ()
    assert [one.lost for one in na.check(rebuilt, SHAPE, expected=model)] == [True, True]


def test_a_method_of_such_a_name_that_does_something_else_is_left_alone() -> None:
    class Fusing(Merged):
        def forward(self, x: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=super().forward(x))

        def fuse(self) -> None:
            self[1] = nn.Identity()

    model = Fusing().eval()
    x = torch.rand(1, *SHAPE)
    assert torch.equal(reparameterized(model, SHAPE)(x).logits, model(x).logits)
    assert len(na.find_sites(model, SHAPE)) == len(na.find_sites(nn.Sequential(*model), SHAPE))


def test_latency_is_of_the_deployed_network() -> None:
    model = attach(network("merged"), placed([Point("2", 8, 32, 32)], SE))
    timed = deployed(model, LatencySection(), SHAPE)
    x = torch.rand(2, *SHAPE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in timed.modules())
    assert sum(isinstance(module, nn.Conv2d) for module in timed.modules()) == 4, (
        "the stem, and one a block"
    )
    torch.testing.assert_close(timed(x), model(x))

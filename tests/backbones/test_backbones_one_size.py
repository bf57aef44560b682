"""Networks that take images of one size only."""

from __future__ import annotations

import pytest
import torch

from nas_attn import backbones
from nas_attn.backbones.weights_input import only_side
from nas_attn.recipe.reading import backbone_section

NETWORKS = [
    *("torchvision:vit_b_32", "torchvision:maxvit_t", "torchvision:swin_t"),
    *("torchvision:swin_v2_t", "torchvision:resnet18", "torchvision:convnext_tiny"),
    *("timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224", "timm:coatnet_0_224"),
    *("timm:swinv2_tiny_window8_256", "timm:maxvit_tiny_tf_224", "timm:efficientformer_l1"),
    *("timm:resnet18", "timm:convnext_atto", "timm:xcit_nano_12_p16_224"),
]


def takes(name: str, side: int) -> bool:
    with torch.device("meta"):
        network = backbones.build(
            backbone_section(name), input_shape=(3, side, side), classes=10
        ).eval()
    try:
        network(torch.empty(1, 3, side, side, device="meta"))
    except (AssertionError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_an_only_side_takes_any(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    side = only_side(name)
    assert takes(name, side or 224)
    assert side is not None or takes(name, 96)

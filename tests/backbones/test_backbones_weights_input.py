"""The input that weights are made for, over all networks of the libraries, without a download."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.transforms import InterpolationMode

from nas_attn import backbones
from nas_attn.backbones.weights_input import WeightsInput, only_side, weights_input
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import backbone_section

CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
SEGMENTERS = torchvision.models.list_models(module=torchvision.models.segmentation)
SCALINGS = {mode.value for mode in InterpolationMode}
LARGEST = 1024


def built(name: str, side: int) -> torch.Size:
    """The shape of a network's answer to an image, which is computed without values."""
    section = backbone_section(name)
    try:
        with torch.device("meta"):
            network = backbones.build(section, input_shape=(3, side, side), classes=10)
    except BackboneError:
        # it computes its widths by values
        network = backbones.build(section, input_shape=(3, side, side), classes=10).to("meta")
    return network.eval()(torch.empty(1, 3, side, side, device="meta")).shape


def is_usable(own: WeightsInput | None) -> bool:
    assert own is not None
    assert own.size is not None
    assert own.resize is not None
    in_order = 4 <= own.size <= own.resize and own.size <= LARGEST
    moments = len(own.mean) == len(own.std) == 3 and min(own.std) > 0
    return in_order and moments and own.interpolation in SCALINGS


@pytest.mark.parametrize("network", [*CLASSIFIERS, *SEGMENTERS])
def test_torchvision_says_the_input_of_all_its_weights(network: str) -> None:
    for weights in torchvision.models.get_model_weights(network):
        assert is_usable(weights_input(f"torchvision:{network}.{weights.name}", "default"))


@pytest.mark.parametrize(
    "network", [name for name in CLASSIFIERS if name.startswith(("vit_", "maxvit", "swin", "inc"))]
)
def test_a_network_of_torchvision_takes_the_images_of_its_weights(network: str) -> None:
    for weights in torchvision.models.get_model_weights(network):
        name = f"torchvision:{network}.{weights.name}"
        own = weights_input(name, "default")
        assert own is not None
        assert own.size is not None
        assert only_side(name, "default") in (None, own.size)
        assert built(name, own.size) == (1, 10)


def test_timm_says_the_input_of_all_its_weights() -> None:
    timm = pytest.importorskip("timm")
    # whose images have 1,024 x 768 pixels
    names = [name for name in timm.list_pretrained() if "sapiens" not in name]
    assert len(names) > 1000
    for name in names:
        assert is_usable(weights_input(f"timm:{name}", "default"))


def test_what_some_weights_are_made_for() -> None:
    assert weights_input("torchvision:resnet50", "default") == (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        *(224, 232, "bilinear"),
    )
    first = weights_input("torchvision:resnet50.IMAGENET1K_V1", "default")
    assert first is not None
    assert first.resize == 256
    assert first.resize_for(112) == 128
    huge = weights_input("torchvision:vit_h_14", "default")
    assert huge is not None
    assert huge.size == only_side("torchvision:vit_h_14", "default") == 518
    assert only_side("torchvision:vit_h_14") == 224


def test_a_file_is_taken_for_weights_trained_as_the_published_ones() -> None:
    pytest.importorskip("timm")
    half = (0.5,) * 3
    for number, side, resize in ((0, 224, 256), (1, 240, 272), (2, 260, 292)):
        name = f"timm:tf_efficientnet_lite{number}"
        assert weights_input(name, "mine.pt") == (half, half, side, resize, "bicubic")
        assert weights_input(name, None) is None


@pytest.mark.parametrize("name", ["resnet8", "smp:unet/resnet18", "my_models:build"])
def test_nothing_is_known_of_weights_of_other_networks(name: str) -> None:
    assert weights_input(name, "mine.pt") is None
    assert only_side(name, "mine.pt") is None

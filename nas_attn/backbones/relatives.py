"""Relatives of a backbone: larger and smaller networks of its family, which may be what a user
needs in place of attention.

A CIFAR ResNet has others in width and depth. The families of libraries stand in a table; a network
of another family is compared if `search.controls` names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_attn.attention.choice import Choice
from nas_attn.recipe.recipe import BackboneSection

WIDER = (1.125, 1.25, 1.375, 1.5, 2.0)
NARROWER = (0.875, 0.75, 0.625, 0.5)
"""Times the width of a CIFAR ResNet."""
NEAREST = 3
"""Relatives on each side that are given, at most."""
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "torchvision": {
        "resnet*": "18 34 50 101 152",
        "wide_resnet*_2": "50 101",
        "vgg*": "11 13 16 19",
        "vgg*_bn": "11 13 16 19",
        "densenet*": "121 169 201 161",
        "mobilenet_v3_*": "small large",
        "mnasnet*": "0_5 0_75 1_0 1_3",
        "shufflenet_v2_x*": "0_5 1_0 1_5 2_0",
        "efficientnet_b*": "0 1 2 3 4 5 6 7",
        "efficientnet_v2_*": "s m l",
        "regnet_x_*": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf",
        "regnet_y_*": "400mf 800mf 1_6gf 3_2gf 8gf 16gf 32gf 128gf",
        "convnext_*": "tiny small base large",
        "swin_*": "t s b",
        "swin_v2_*": "t s b",
        "vit_*_16": "b l",
        "vit_*_32": "b l",
        "deeplabv3_resnet*": "50 101",
        "fcn_resnet*": "50 101",
    },
    "timm": {
        "resnet*": "18 34 50 101 152",
        "resnet*d": "18 34 50 101 152",
        "resnetv2_*": "50 101",
        "regnetx_*": "002 004 006 008 016 032 064",
        "regnety_*": "002 004 006 008 016 032 064",
        "efficientnet_b*": "0 1 2 3 4 5",
        "tf_efficientnet_b*": "0 1 2 3 4 5 6 7",
        "tf_efficientnet_lite*": "0 1 2 3 4",
        "tf_efficientnetv2_b*": "0 1 2 3",
        "tf_efficientnetv2_*": "s m l",
        "mobilenetv2_*": "050 100 140",
        "mobilenetv3_*": "small_050 small_075 small_100 large_100",
        "mobilenetv4_conv_*": "small medium large",
        "convnext_*": "atto femto pico nano tiny small base large",
        "convnextv2_*": "atto femto pico nano tiny base large",
        "edgenext_*": "xx_small x_small small base",
        "repvit_m*": "0_9 1_0 1_1 1_5 2_3",
        "vit_*_patch16_224": "tiny small base large",
        "deit_*_patch16_224": "tiny small base",
        "swin_*_patch4_window7_224": "tiny small base large",
    },
    "smp": {
        "resnet*": "18 34 50 101 152",
        "vgg*": "11 13 16 19",
        "vgg*_bn": "11 13 16 19",
        "densenet*": "121 169 201 161",
        "efficientnet-b*": "0 1 2 3 4 5 6 7",
        "mit_b*": "0 1 2 3 4 5",
    },
    "ultralytics": {
        f"{version}*{task}": "n s m l x"
        for version in ("yolov5", "yolov8", "yolo11", "yolo12", "yolo26")
        for task in ("", "-seg", "-pose", "-obb")
    },
}
"""Source -> the names of a family's networks, with `*` for the size -> its sizes, the smallest
first, by the operations for an image.
"""


@dataclass(frozen=True, slots=True)
class Relatives:
    """The networks of a backbone's family, each as a placement names it, the nearest first."""

    larger: tuple[Choice, ...] = ()
    smaller: tuple[Choice, ...] = ()
    # a sentence for networks that are left out, each with why
    notes: tuple[str, ...] = ()


def relatives(section: BackboneSection, *, weights: str | None = None) -> Relatives:
    """Larger and smaller networks of a backbone's family.

    Args:
        section: the backbone.
        weights: what it starts from: None for random weights, or for those of a training of each
            network's own; `default`, the published ones, in which case each relative starts from
            its own; a file, which fits no other network.

    Returns:
        The relatives; none of a network whose family is not known, with a file of weights, or of a
        CIFAR ResNet with any weights, which are published for none.
    """
    if weights not in (None, "default"):
        note = (
            f"the backbone starts from '{weights}', which fits no other network: those that"
            " search.controls names are compared, from their published weights"
        )
        return Relatives(notes=(note,))
    if ":" in section.name:
        return _of_library(section.name)
    return _of_cifar(section)


def _of_cifar(section: BackboneSection) -> Relatives:
    from nas_attn.backbones.cifar import MODELS

    if section.name not in MODELS:
        return Relatives()
    width = section.width or 16
    wider = sorted({max(width + 1, round(factor * width)) for factor in WIDER})
    narrower = sorted({min(width - 1, round(factor * width)) for factor in NARROWER})[::-1]
    deeper, shallower = _beside(section.name, list(MODELS))

    def named(widths: Iterable[int], names: Sequence[str]) -> tuple[Choice, ...]:
        pairs = [(section.name, other) for other in widths if other]
        pairs += [(name, width) for name in names[:1]]
        return tuple(Choice(name, (("width", channels),)) for name, channels in pairs)

    return Relatives(named(wider, deeper), named(narrower, shallower))


def _of_library(name: str) -> Relatives:
    source, _, inner = name.partition(":")
    place, slash, file = inner.rpartition("/")
    # what follows the point is the name of the weights, but for Ultralytics
    network, point, ending = file.partition(".")
    if source != "ultralytics":
        point = ending = ""

    def named(names: Sequence[str]) -> tuple[Choice, ...]:
        files = [f"{place}{slash}{other}{point}{ending}" for other in names]
        if ending == "pt":
            # nobody asked to fetch others
            files = [file for file in files if Path(file).is_file()]
        return tuple(Choice(f"{source}:{file}") for file in files[:NEAREST])

    for pattern, sizes in FAMILIES.get(source, {}).items():
        family = [pattern.replace("*", size) for size in sizes.split()]
        if network in family:
            larger, smaller = _beside(network, family)
            return Relatives(named(larger), named(smaller))
    return Relatives()


def _beside(name: str, family: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The members after and before one of a family, the nearest first."""
    at = family.index(name)
    return family[at + 1 :], family[:at][::-1]

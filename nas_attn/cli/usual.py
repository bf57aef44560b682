"""What is assumed of a library's network where the user does not say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_attn.backbones.torchvision_detectors import FIXED_SIDES

if TYPE_CHECKING:
    from torch import nn

SMALL_SIDE = 32
LARGE_SIDE = 224
SEGMENTERS = ("deeplabv3", "fcn_", "lraspp")
DETECTORS = ("fasterrcnn", "fcos", "keypointrcnn", "maskrcnn", "retinanet", "ssd")
"""How torchvision's names begin."""
WITH_WEIGHTS = ("torchvision", "timm", "smp", "ultralytics")
"""Sources of networks that have published weights."""
CLASSES = {"classification": 1000, "segmentation": 21, "detection": 91}
"""Of ImageNet, Pascal VOC, and COCO as torchvision counts it. A segmenter enlarges a map for each
class, so with a thousand of them that would be most of its time.
"""


def task_of(backbone: str) -> str:
    """What such a network is for."""
    source, _, name = backbone.partition(":")
    if source == "smp" or (source == "torchvision" and name.startswith(SEGMENTERS)):
        return "segmentation"
    if source == "ultralytics" or (source == "torchvision" and name.startswith(DETECTORS)):
        return "detection"
    return "classification"


def usual_start(backbone: str) -> str:
    """Published weights where a library has them."""
    if backbone.partition(":")[0] in WITH_WEIGHTS:
        return "weights"
    return "scratch"


def usual_shape(backbone: str) -> str:
    """The size of images that a network's published weights are made for, or else the usual one."""
    source, _, name = backbone.partition(":")
    side = LARGE_SIDE if source != backbone else SMALL_SIDE
    if source == "torchvision":
        side = FIXED_SIDES.get(name, side)
    # it loads the library
    from nas_attn.backbones.weights_input import weights_input

    own = weights_input(backbone, "default")
    if own is not None and own.size is not None:
        side = own.size
    return f"3x{side}x{side}"


def bare_network(backbone: str, shape: tuple[int, int, int], task: str) -> nn.Module:
    """The network without attention, with as many classes as its published weights."""
    from nas_attn.backbones import build
    from nas_attn.recipe.reading import backbone_section

    classes = CLASSES.get(task, CLASSES["classification"])
    return build(backbone_section(backbone), input_shape=shape, classes=classes)

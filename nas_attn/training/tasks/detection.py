"""Boxes with classes, scored by mAP50-95."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType

from typing_extensions import override

from nas_attn.recipe.tables import data_sets_with, find_data_set
from nas_attn.recipe.task import (
    DETECTOR_SIDE,
    MIXING,
    Hints,
    InputProposal,
    Pace,
    RecipeParts,
    Task,
)

CLASSIFIERS = ("timm", "smp")
"""Sources of networks that are no detectors."""
USUAL_DETECTOR = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
MADE_SIDE = 32
"""Side of a made image with a digit of 8 pixels; torchvision's smallest anchors are 32, so it is
fed larger.
"""
COCO = """\
# Side of the detector's input; the longer side of an image is scaled to it.
size = {size}
# The share of the training images to score on, if there are no validation annotations.
# validation = 0.2
# Where the files are, if they are not found:
# [data.coco]
# train = "annotations/train.json"
# images = "images"
# validation = "annotations/val.json"
"""


class Detection(Task):
    """Boxes with classes, scored by mAP50-95; trained by our own trainer."""

    name = "detection"
    metrics = ("map50_95", "map50")
    conditions = MappingProxyType({"nms": "left out, where it is not part of the network itself"})
    labels = "boxes"
    backbone = USUAL_DETECTOR
    answer = "boxes"
    normalised = False
    hints = Hints(
        backbones=(
            "torchvision:NAME (fasterrcnn_…, retinanet_…, fcos_…, ssd…), package.module:function"
        ),
        own_images={"task": "detection", "data": "coco:FOLDER", "backbone": USUAL_DETECTOR},
        space="detector",
    )
    training_lines = """\
learning_rate = 0.01               # candidates get a fifth of it, or finetune_learning_rate
clip_norm = 5.0                    # the first steps of a detector have large gradients
"""

    @override
    def check(self, recipe: RecipeParts) -> None:
        backbone = recipe.backbone.name
        source, colon, _ = backbone.partition(":")
        if not colon or source in CLASSIFIERS:
            raise ValueError(
                f"backbone.name = '{backbone}' is not a detector: give {USUAL_DETECTOR}, another"
                " detector, or package.module:function for your own"
            )
        row = find_data_set(recipe.data.name)
        if row is None or not row.boxes:
            raise ValueError(
                f"data.name = '{recipe.data.name}' has no boxes for '{backbone}': give"
                f" {' or '.join(data_sets_with('boxes'))} (yolo:PATH.yaml is for a trainer"
                " that reads its images itself)"
            )
        for setting in _unsupported(recipe):
            raise ValueError(f"{setting} is not supported in detection: remove it")

    @override
    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 30, 10)

    @override
    def pace_of_few(self, images: float) -> Pace:
        """1,500 steps, or 300 epochs: a detector finds nothing at all for the first few hundred
        steps.
        """
        epochs = min(300, max(30, round(1500 * 16 / images)))
        return Pace(16, epochs, epochs // 3)

    @override
    def trial_side(self, backbone: str) -> int:
        return usual_side(backbone)

    @override
    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        if data.startswith("coco:"):
            return COCO.format(size=proposed.size if proposed else usual_side(backbone))
        side = 4 * MADE_SIDE if data == "digits" else 640
        return sizes(data, MADE_SIDE, fixed_side(backbone) or side, "")


class EvaluatedDetection(Detection):
    """A detection whose trainer, an evaluator, reads the images itself, from a YAML file in the
    layout of YOLO.
    """

    @override
    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        return evaluated

    @override
    def check(self, recipe: RecipeParts) -> None:
        """The evaluator knows what it can do."""


def _unsupported(recipe: RecipeParts) -> Iterator[str]:
    """What a recipe sets that detection has no use for."""
    if recipe.training.loss:
        yield "training.loss"
    for name in sorted(MIXING & recipe.augmentations):
        yield f"{name} in training.augment"
    if recipe.training.execution in ("compile", "cuda-graph"):
        yield "training.execution"
    for name in ("mean", "groups"):
        if getattr(recipe.data, name) is not None:
            yield f"data.{name}"


def usual_side(backbone: str) -> int:
    """Default side of the input of a detector, `torchvision:NAME` or another."""
    return fixed_side(backbone) or DETECTOR_SIDE


def fixed_side(backbone: str) -> int | None:
    """Side of the input of a detector that takes no other; else None."""
    # Here, since backbones read recipes, which look up their task first.
    from nas_attn.backbones.torchvision_detectors import FIXED_SIDES

    return FIXED_SIDES.get(backbone.removeprefix("torchvision:"))


def sizes(data: str, made: int, side: int, more: str) -> str:
    """Gives the lines of `[data]` about the side of images.

    Args:
        data: name of the data.
        made: side of a made image in pixels.
        side: side of the detector's input.
        more: ends the comment.
    """
    line = f"size = {side}                         # side of the detector's input{more}\n"
    if data != "digits":
        return line
    return f"options = {{ size = {made}, train = 1000, validation = 500, test = 500 }}\n{line}"

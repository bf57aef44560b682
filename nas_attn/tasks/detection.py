"""Boxes with classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn import data_sets
from nas_attn.importing import named
from nas_attn.records import ALONE, Share
from nas_attn.tasks.task import EXTERNAL, MIXING, Hints, Pace, Task

if TYPE_CHECKING:
    import torch

    from nas_attn.data import Dataset
    from nas_attn.recipe import DataSection, Recipe

CLASSIFIERS = ("timm", "smp")
"""Sources of networks that are no detectors."""
USUAL_SIDE = 320
"""Of what a detector is fed, unless its data or itself says otherwise."""
FIXED_SIDES: Mapping[str, int] = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
"""Detectors of torchvision that scale whatever they are given to one size."""
MADE = 32
"""Side of a made image with a digit of 8 pixels; torchvision's smallest anchors are 32, so it is fed larger."""
YOLO = "nas_attn.data.yolo"
COCO = """\
size = {size}                         # side of the detector's input; the longer side of an image is scaled to it
# validation = 0.2                 # share of the training images to score on, if there are no validation annotations
# coco = {{ train = "annotations/train.json", images = "images", validation = "annotations/val.json" }}  # if not found
"""


class Detection(Task):
    """Boxes with classes, scored by mAP50-95; trained by our own trainer."""

    name = "detection"
    shares = MappingProxyType({"map50_95": "mAP50-95", "map50": "mAP50"})
    losses = MappingProxyType({})
    conditions = MappingProxyType({"nms": "left out, where it is not part of the network itself"})
    why_constant = "perhaps training is too brief for a detector to find anything (training.rungs), or the boxes do not match the images"
    labels = "boxes"
    answer = "boxes"
    normalised = False
    images_by = "nas_attn.data.boxed:Boxes"
    learnt_by = "nas_attn.training.detection:BoxesOfImage"
    exported_by = "nas_attn.export.answers:Boxes"
    hints = Hints(
        backbones="torchvision:NAME (fasterrcnn_…, retinanet_…, fcos_…, ssd…), package.module:function",
        own_images={
            "task": "detection",
            "data": "coco:FOLDER",
            "backbone": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
        },
        space="detector",
        target_epochs=30,
    )

    def check(self, recipe: Recipe) -> None:
        backbone, data = recipe.backbone.name, recipe.data
        source, colon, _ = backbone.partition(":")
        if not colon or source in CLASSIFIERS:
            raise ValueError(
                f"backbone.name = '{backbone}' is not a detector: give torchvision:fasterrcnn_mobilenet_v3_large_320_fpn, another "
                "one of torchvision's or Ultralytics' detectors, or package.module:function for your own"
            )
        row = data_sets.find(data.name)
        if row is None or not row.boxes:
            raise ValueError(
                f"data.name = '{data.name}' has no boxes for '{backbone}': give {' or '.join(data_sets.names('boxes'))} "
                "(yolo:PATH.yaml is for a trainer that reads its images itself)"
            )
        mixing = sorted(MIXING & recipe.augmentations)
        asked = [
            *(["training.label_smoothing"] if recipe.training.label_smoothing else []),
            *(f"{name} in training.augment" for name in mixing),
            *(["training.execution"] if recipe.training.execution in ("compile", "cuda-graph") else []),
            *(f"data.{name}" for name in ("mean", "groups") if getattr(data, name) is not None),
        ]
        if asked:
            raise ValueError(f"{asked[0]} is not supported in a detection: remove it")

    # ------------------------------------------------------------------------------------ data

    def data_section(self, recipe: Recipe) -> DataSection:
        """The recipe's data with the side that its detector is fed."""
        return recipe.data.model_copy(update={"size": recipe.data.size or usual_side(recipe.backbone.name)})

    def load(self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE) -> Dataset | None:
        if recipe.data.name != EXTERNAL:
            named("nas_attn.training.detection:require_scorer")()
        return super().load(recipe, device=device, share=share)

    # ------------------------------------------------------------------------------------ `init`

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"

    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 20, (3, 10))

    def pace_of_few(self, images: float) -> Pace:
        """1,500 steps, or 300 epochs: a detector finds nothing at all for the first few hundred steps."""
        epochs = min(300, max(20, round(1500 * 16 / images)))
        return Pace(16, epochs, (max(3, epochs // 5), max(10, epochs // 2)))

    def training_lines(self, backbone: str) -> str:
        return """\
learning_rate = 0.01               # candidates get a fifth of it, or finetune_learning_rate
clip_norm = 5.0                    # the first steps of a detector have large gradients
"""

    def data_lines(self, data: str, backbone: str) -> str:
        if data.startswith("coco:"):
            return COCO.format(size=usual_side(backbone))
        return sizes(data, MADE, FIXED_SIDES.get(backbone.removeprefix("torchvision:"), 4 * MADE), "")


def usual_side(backbone: str) -> int:
    """What a detector of this name, `torchvision:NAME` or another, is fed where nobody says otherwise."""
    return FIXED_SIDES.get(backbone.removeprefix("torchvision:"), USUAL_SIDE)


def sizes(data: str, made: int, side: int, more: str) -> str:
    """Lines of `[data]` about the side of images.

    Args:
        made: side of a made image.
        side: what the detector is fed then.
    """
    said = f"side of the detector's input{more}"
    if data != "digits":
        return f"size = 640                         # {said}\n"
    made_images = f"options = {{ size = {made}, train = 1000, validation = 500, test = 500 }}\n"
    return f"{made_images}size = {side}                         # {said}\n"


class EvaluatedDetection(Detection):
    """A detection whose trainer, an evaluator, reads the images itself, from a YAML file in the layout of YOLO."""

    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        return evaluated

    def check(self, recipe: Recipe) -> None:
        return

    def data_section(self, recipe: Recipe) -> DataSection:
        return recipe.data

    def load(self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE) -> Dataset | None:
        return None

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        if recipe.data.name == EXTERNAL:
            return super().shape_and_classes(recipe)
        side = named(f"{YOLO}:side")(recipe.data)
        return (3, side, side), len(named(f"{YOLO}:class_names")(recipe.data))

    def missing_test(self, recipe: Recipe) -> str:
        if recipe.data.name == EXTERNAL or named(f"{YOLO}:described")(recipe.data).get("test"):
            return ""
        return f"data YAML '{named(f'{YOLO}:data_file')(recipe.data)}' has no test split: add test: and its images"

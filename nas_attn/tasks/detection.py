"""Boxes with classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nas_attn import data_sets
from nas_attn.records import ALONE, Share
from nas_attn.tasks.task import EXTERNAL, Hints, Interface, Pace, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nas_attn.data import Dataset
    from nas_attn.data.kinds import Classes
    from nas_attn.evaluation.plan import Plan
    from nas_attn.recipe import DataSection, Recipe
    from nas_attn.training.learning import Learnt, Tally

CLASSIFIERS = ("timm", "smp")
"""Sources of networks that are no detectors."""
COMPARED = 4
"""Images that a detector's file is compared on: on one alone there may be nothing."""
BOX = 6
"""Numbers of a box that a detector has chosen: left, top, right, bottom, score, class."""
MADE = 32
"""Side of a made image with a digit of 8 pixels; torchvision's smallest anchors are 32, so it is fed larger."""
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
        augments = (recipe.training.augment, recipe.target.augment)
        asked = [
            *(["training.label_smoothing"] if recipe.training.label_smoothing else []),
            *(["training.augment.mixup"] if any(one is not None and one.mixup for one in augments) else []),
            *(["training.execution"] if recipe.training.execution in ("compile", "cuda-graph") else []),
            *(f"data.{name}" for name in ("mean", "groups") if getattr(data, name) is not None),
        ]
        if asked:
            raise ValueError(f"{asked[0]} is not supported in a detection: remove it")

    # ------------------------------------------------------------------------------------ data

    def kind(self) -> Classes:
        from nas_attn.data.boxed import Boxes

        return Boxes()

    def data_section(self, recipe: Recipe) -> DataSection:
        """The recipe's data with the side that its detector is fed."""
        from nas_attn.backbones.detectors import usual_side

        return recipe.data.model_copy(update={"size": recipe.data.size or usual_side(recipe.backbone.name)})

    def load(self, recipe: Recipe, *, device: torch.device | str, share: Share = ALONE) -> Dataset | None:
        from nas_attn.training.detection import require_scorer

        if recipe.data.name != EXTERNAL:
            require_scorer()
        return super().load(recipe, device=device, share=share)

    # ------------------------------------------------------------------------------------ learning

    def learnt(self, classes: int) -> Learnt:
        from nas_attn.training.detection import BoxesOfImage

        return BoxesOfImage(self, classes)

    # ------------------------------------------------------------------------------------ export

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        from nas_attn.training.detection import MOST

        if dataset is None:
            return super().interface(plan, dataset)
        return Interface(tuple(dataset.classes), *UNCHANGED, (MOST, BOX))

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
        from nas_attn.export.graphs import Chosen

        return Chosen(model).eval()

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        if dataset is None:
            yield from super().compared(plan, dataset, stored=stored)
            return
        yield from (x.contiguous() for x, _ in islice(dataset.validation.batches(1), COMPARED))

    def judged(self, run: Callable[[Any], Any], dataset: Dataset, *, stored: bool, batch: int) -> Tally:
        import torch

        tally = self.learnt(len(dataset.classes)).tally()
        for x, y in dataset.validation.batches(1):  # an ONNX file takes one image
            (found,) = torch.from_numpy(run(x.contiguous().numpy())).reshape(1, -1, BOX)
            found = found[found[:, 5] > 0]
            tally.add([{"boxes": found[:, :4], "scores": found[:, 4], "labels": found[:, 5]}], y)
        return tally

    def answer_said(self, shape: tuple[int, ...], format_: str) -> str:
        more = "" if format_ == "onnx" else "; torch gives the same as boxes, scores and labels of each image"
        return f"(found, {BOX}) of an image: left, top, right, bottom in pixels, score, class from 1{more}"

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
        from nas_attn.backbones.detectors import FIXED_SIDES, usual_side

        if data.startswith("coco:"):
            return COCO.format(size=usual_side(backbone))
        return sizes(data, MADE, FIXED_SIDES.get(backbone.removeprefix("torchvision:"), 4 * MADE), "")


UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and deviation of images from 0 to 1."""


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
        from nas_attn.data import yolo

        if recipe.data.name == EXTERNAL:
            return super().shape_and_classes(recipe)
        side = yolo.side(recipe.data)
        return (3, side, side), len(yolo.class_names(recipe.data))

    def missing_test(self, recipe: Recipe) -> str:
        from nas_attn.data import yolo

        if recipe.data.name == EXTERNAL or yolo.described(recipe.data).get("test"):
            return ""
        return f"data YAML '{yolo.data_file(recipe.data)}' has no test split: add test: and its images"

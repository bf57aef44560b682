"""Each pixel of an image into a class."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn.tasks.task import FOLDER, MIXING, Hints, Pace, Task

if TYPE_CHECKING:
    from nas_attn.recipe import Recipe


class Segmentation(Task):
    """A class of each pixel, scored by mean IoU."""

    name = "segmentation"
    shares = MappingProxyType({"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"})
    labels = "masks"
    paced_by_images = False
    images_by = "nas_attn.data.masks:Masks"
    learnt_by = "nas_attn.training.classes:ClassOfPixel"
    hints = Hints(
        backbones="smp:ARCHITECTURE/ENCODER, torchvision:NAME (lraspp_…, deeplabv3_…, fcn_…), package.module:function",
        own_images={"task": "segmentation", "data": "folder:PATH"},
    )

    def check(self, recipe: Recipe) -> None:
        for name in sorted(MIXING & recipe.augmentations):
            raise ValueError(f"{name} in training.augment is not supported for segmentation: remove it")

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        return (classes, *size)

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return "torchvision:lraspp_mobilenet_v3_large"

    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 8, (1, 2)) if small else Pace(16, 20, (1, 3))

    def data_lines(self, data: str, backbone: str) -> str:
        if data.startswith("folder:"):
            return FOLDER.replace("size = 64 ", "size = 128 ")
        return "options = { size = 32, train = 2000, validation = 1000, test = 1000 }\n"

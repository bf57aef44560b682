"""A class of each pixel, scored by mean IoU."""

from __future__ import annotations

from typing_extensions import override

from nas_attn.recipe.task import (
    USUAL_SIDE,
    Hints,
    InputProposal,
    Pace,
    Task,
)


class Segmentation(Task):
    """A class of each pixel, scored by mean IoU."""

    name = "segmentation"
    metrics = ("mean_iou", "pixel_accuracy", "loss")
    labels = "masks"
    backbone = "torchvision:lraspp_mobilenet_v3_large"
    paced_by_images = False
    hints = Hints(
        backbones=(
            "smp:ARCHITECTURE/ENCODER, torchvision:NAME (lraspp_…, deeplabv3_…, fcn_…),"
            " package.module:function"
        ),
        own_images={"task": "segmentation", "data": "folder:PATH"},
    )

    @override
    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        return (classes, *size)

    @override
    def pace(self, data: str, *, small: bool) -> Pace:
        return Pace(16, 10, 3) if small else Pace(16, 20, 6)

    @override
    def input_side(self, backbone: str) -> int:
        return 2 * USUAL_SIDE

    @override
    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        made = "options = { size = 32, train = 2000, validation = 1000, test = 1000 }\n"
        return super().data_lines(data, backbone, proposed) or made

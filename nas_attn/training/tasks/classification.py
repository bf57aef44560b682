"""A class of each image, scored by accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from typing_extensions import override

from nas_attn.recipe.task import (
    Hints,
    Pace,
    RecipeParts,
    Task,
)

# epochs from trained weights: on 575 photographs, EfficientNet-Lite0 reached 87 % in five at 224
# pixels, and 76 % in 26 at 96
TUNED_EPOCHS = 5


class Classification(Task):
    """A class of each image, scored by accuracy."""

    name = "classification"
    metrics: ClassVar[Sequence[str]] = (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "loss",
        "brier",
    )
    per_image = True
    hints = Hints(
        backbones="resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function",
        own_images={"data": "folder:PATH", "backbone": "torchvision:resnet18"},
    )

    @override
    def check(self, recipe: RecipeParts) -> None:
        """It can do all that a recipe can ask for."""

    @override
    def usual_backbone(self, data: str, *, small: bool) -> str:
        if small:
            return "resnet8"
        return "resnet20" if "cifar" in data else "torchvision:resnet18"

    @override
    def pace(self, data: str, *, small: bool) -> Pace:
        if data.startswith("folder:"):
            return Pace(64, 20, TUNED_EPOCHS)
        return Pace(128, 10, 3) if small else Pace(128, 20, 6)

    @override
    def pace_of_few(self, images: float) -> Pace:
        """1,200 steps, from 40 to 200 epochs: half as long was too short in four folders of four
        (`docs/benchmarks/brief-training.md`). From trained weights 100 steps, or five epochs.
        """
        return Pace(
            16,
            min(200, max(40, round(1200 * 16 / images))),
            tuned=min(60, max(TUNED_EPOCHS, round(100 * 16 / images))),
        )

"""Images into classes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn.tasks.task import Hints, Pace, Task

if TYPE_CHECKING:
    from nas_attn.data.kinds import Classes
    from nas_attn.training.learning import Learnt


class Classification(Task):
    """A class of each image, scored by accuracy."""

    name = "classification"
    shares = MappingProxyType(
        {
            "accuracy": "accuracy",
            "balanced_accuracy": "balanced accuracy",
            "macro_f1": "macro F1",
        }
    )
    per_image = True
    hints = Hints(
        backbones="resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function",
        own_images={"data": "folder:PATH", "backbone": "torchvision:resnet18"},
    )

    def kind(self) -> Classes:
        from nas_attn.data.kinds import Classes

        return Classes()

    def learnt(self, classes: int) -> Learnt:
        from nas_attn.training.classes import ClassOfImage

        return ClassOfImage(self, classes)

    def pace(self, data: str, *, small: bool) -> Pace:
        if data.startswith("folder:"):
            return Pace(64, 20, (1, 3))
        return Pace(128, 8, (1, 2)) if small else Pace(128, 20, (1, 3))

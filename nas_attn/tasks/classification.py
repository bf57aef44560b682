"""Images into classes."""

from __future__ import annotations

from types import MappingProxyType

from nas_attn.tasks.task import Hints, Pace, Task


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
    images_by = "nas_attn.data.loading:Classes"
    learnt_by = "nas_attn.training.classes:ClassOfImage"
    hints = Hints(
        backbones="resnet8|14|20|32|56, torchvision:NAME, timm:NAME, package.module:function",
        own_images={"data": "folder:PATH", "backbone": "torchvision:resnet18"},
    )

    def pace(self, data: str, *, small: bool) -> Pace:
        if data.startswith("folder:"):
            return Pace(64, 20, (1, 3))
        return Pace(128, 8, (1, 2)) if small else Pace(128, 20, (1, 3))

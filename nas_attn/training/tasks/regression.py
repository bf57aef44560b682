"""Numbers of each image, scored by their mean absolute error."""

from __future__ import annotations

from nas_attn.recipe.task import Hints
from nas_attn.training.tasks.classification import Classification
from nas_attn.training.tasks.multi_label import TargetsOfImage


class Regression(TargetsOfImage):
    """A number, or one for each of some columns, scored by their mean absolute error."""

    name = "regression"
    metrics = ("mae", "r2")
    labels = "numbers"
    usual_loss = "L1Loss"
    answer = "numbers"
    said = "in the units of the data"
    hints = Hints(
        backbones=Classification.hints.backbones,
        own_images={
            "task": "regression",
            "data": "folder:PATH",
            "backbone": "torchvision:resnet18",
        },
    )

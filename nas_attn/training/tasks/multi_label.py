"""Several labels of each image, scored by mean average precision."""

from __future__ import annotations

from typing_extensions import override

from nas_attn.recipe.task import (
    USUAL_SIDE,
    Hints,
    InputProposal,
    RecipeParts,
    input_lines,
    refuse_mixing,
)
from nas_attn.training.tasks.classification import Classification

TABLE = """\
# The table of the images' labels, if another than init found, and which of its columns to learn:
# [data.table]
# file = "labels.csv"
# columns = ["one", "other"]
"""


class TargetsOfImage(Classification):
    """What a table, or a user's data set, has of each image: several labels, or numbers."""

    per_image = False

    @override
    def check(self, recipe: RecipeParts) -> None:
        refuse_mixing(self.name, recipe)

    @override
    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        if data.startswith("coco:"):
            return input_lines(proposed or InputProposal(USUAL_SIDE, "cut"))
        lines = super().data_lines(data, backbone, proposed)
        return f"{lines}{TABLE}" if lines else ""


class MultiLabel(TargetsOfImage):
    """Several labels of each image, or none, scored by mean average precision."""

    name = "multi-label"
    metrics = ("mean_ap", "macro_f1", "loss")
    labels = "tags"
    said = "before sigmoid"
    hints = Hints(
        backbones=Classification.hints.backbones,
        own_images={
            "task": "multi-label",
            "data": "folder:PATH",
            "backbone": "torchvision:resnet18",
        },
    )

"""Several labels of each image, scored by mean average precision; or numbers, scored by their mean
absolute error.
"""

from __future__ import annotations

from typing import ClassVar

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

OF_ONE_CLASS = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Losses of torch.nn that take class numbers, or shares of classes that sum to 1."""


class TargetsOfImage(Classification):
    """What a table, or a user's data set, has of each image: several labels, or numbers."""

    per_image = False
    usual_loss: ClassVar[str]
    """A loss of torch.nn that it can have."""

    @override
    def check(self, recipe: RecipeParts) -> None:
        refuse_mixing(self.name, recipe)
        loss = recipe.training.loss
        if loss is not None and loss.name in OF_ONE_CLASS:
            raise ValueError(
                f"training.loss = '{loss.name}' is for one class of an image, not for {self.name}:"
                f" remove it, or give another one, like {self.usual_loss}"
            )

    @override
    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        if data.startswith("coco:"):
            return input_lines(proposed or InputProposal(USUAL_SIDE, "cut"))
        return super().data_lines(data, backbone, proposed)


class MultiLabel(TargetsOfImage):
    """Several labels of each image, or none, scored by mean average precision."""

    name = "multi-label"
    metrics = ("mean_ap", "macro_f1", "loss")
    labels = "tags"
    usual_loss = "BCEWithLogitsLoss"
    said = "before sigmoid"
    hints = Hints(
        backbones=Classification.hints.backbones,
        own_images={"task": "multi-label", **Classification.hints.own_images},
    )


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
        own_images={"task": "regression", **Classification.hints.own_images},
    )

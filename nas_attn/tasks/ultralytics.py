"""Boxes with classes by detectors of ultralytics, which its own trainer trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas_attn.tasks.detection import EvaluatedDetection, sizes
from nas_attn.tasks.task import Hints

if TYPE_CHECKING:
    from nas_attn.recipe import Recipe

PREFIX = "ultralytics:"
"""Beginning of the names of its detectors."""
OURS = (
    "backbone_learning_rate",
    "label_smoothing",
    "ema",
    "clip_norm",
    "execution",
    "augment",
    "transforms",
    "schedule",
)
"""Settings of `[training]` that only our own trainer knows."""
LOADED_HERE = ("validation", "train_subset", "mean", "groups")
"""Settings of `[data]` for images that are loaded here."""
MADE = 64
"""Side of a made image."""


class UltralyticsDetection(EvaluatedDetection):
    """A detection that ultralytics' trainer trains, on images that it reads itself."""

    own_trainer = False
    trained_by = "nas_attn.evaluation.ultralytics:detector_evaluator"
    exported_by = "nas_attn.export.ultralytics:Decoded"
    hints = Hints(
        backbones="ultralytics:NAME.yaml or NAME.pt",
        own_images={"task": "detection", "data": "yolo:PATH.yaml"},
        space="detector",
        target_epochs=30,
        more_data=("yolo:PATH.yaml (for ultralytics)",),
    )

    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        return backbone.startswith(PREFIX) and not evaluated

    def check(self, recipe: Recipe) -> None:
        usual = type(recipe.training)()
        asked = [name for name in OURS if getattr(recipe.training, name) != getattr(usual, name)]
        if asked:
            raise ValueError(f"training.{asked[0]} is not supported with ultralytics' trainer: remove it")
        given = [name for name in LOADED_HERE if getattr(recipe.data, name) is not None]
        if given:
            raise ValueError(
                f"data.{given[0]} is not supported with ultralytics' trainer, whose YAML file names the splits: remove it"
            )
        for name, start in (("training", recipe.training.start), ("target", recipe.target.start)):
            if start == "backbone":
                raise ValueError(
                    f"ultralytics' trainer needs {name}.start = 'scratch', or 'pretrained' with weights = 'default' for a .pt"
                )

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return f"{PREFIX}yolo11n.yaml"

    def training_lines(self, backbone: str) -> str:
        return "learning_rate = 0.01               # from a .pt: a fifth of it, or finetune_learning_rate\n"

    def data_lines(self, data: str, backbone: str) -> str:
        return sizes(data, MADE, MADE, ", a multiple of 32")

"""Boxes with classes by detectors of ultralytics, which its own trainer trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from nas_attn.tasks.detection import BOX, COMPARED, UNCHANGED, EvaluatedDetection, sizes
from nas_attn.tasks.task import Hints, Interface

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas_attn.data import Dataset
    from nas_attn.evaluation.evaluators import Evaluator
    from nas_attn.evaluation.plan import Plan
    from nas_attn.export.formats import Format
    from nas_attn.recipe import Recipe

PREFIX = "ultralytics:"
"""Beginning of the names of its detectors."""
OURS = ("backbone_learning_rate", "label_smoothing", "ema", "clip_norm", "execution", "augment")
"""Settings of `[training]` that only our own trainer knows."""
LOADED_HERE = ("validation", "train_subset", "mean", "groups")
"""Settings of `[data]` for images that are loaded here."""
MADE = 64
"""Side of a made image."""


class UltralyticsDetection(EvaluatedDetection):
    """A detection that ultralytics' trainer trains, on images that it reads itself."""

    own_trainer = False
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

    def evaluator(self, recipe: Recipe) -> Evaluator | None:
        from nas_attn.evaluation.ultralytics import detector_evaluator

        return detector_evaluator(recipe)

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        import torch

        from nas_attn.data import yolo
        from nas_attn.export.ultralytics import Answer

        with torch.no_grad():
            answer = Answer(plan.bare(0).eval())(torch.zeros(1, *plan.input_shape))
        return Interface(yolo.class_names(plan.recipe.data), *UNCHANGED, tuple(answer.shape[1:]))

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
        from nas_attn.export.ultralytics import Answer

        return Answer(model).eval()

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        import torch

        from nas_attn.data import yolo

        found = [torch.from_numpy(x) for x in islice(yolo.validation_images(plan.recipe.data), COMPARED)]
        yield from found or [torch.rand(1, *plan.input_shape)]

    def answer_said(self, shape: tuple[int, ...], format_: str) -> str:
        chosen = "after the network's own choice among boxes" if shape[-1] == BOX else "before NMS"
        return f"({', '.join(map(str, ('N', *shape)))}) boxes and scores as ultralytics decodes them, {chosen}"

    def formats(self) -> Mapping[str, Format]:
        from nas_attn.export.ultralytics import FORMATS

        return FORMATS

    def usual_backbone(self, data: str, *, small: bool) -> str:
        return f"{PREFIX}yolo11n.yaml"

    def training_lines(self, backbone: str) -> str:
        return "learning_rate = 0.01               # from a .pt: a fifth of it, or finetune_learning_rate\n"

    def data_lines(self, data: str, backbone: str) -> str:
        return sizes(data, MADE, MADE, ", a multiple of 32")

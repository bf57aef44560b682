"""How images with boxes are read: by us, or by an evaluator's trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.task import EXTERNAL
from nas_attn.system.memory import SOLE_WORKER, Share
from nas_attn.training.tasks.data import TaskData
from nas_attn.training.tasks.detection import usual_side

if TYPE_CHECKING:
    # A module that loads torch.
    import torch

    from nas_attn.data.dataset import Dataset


class ImagesWithBoxes(TaskData):
    """Images with boxes, which we read."""

    @override
    def section(self, recipe: Recipe) -> DataSection:
        """The recipe's data, with the side of the detector's input."""
        side = recipe.data.size or usual_side(recipe.backbone.name)
        return recipe.data.model_copy(update={"size": side})

    @override
    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = SOLE_WORKER
    ) -> Dataset | None:
        if recipe.data.name != EXTERNAL:
            from nas_attn.training.tasks.detection.learning import require_scorer

            require_scorer()
        return super().load(recipe, device=device, share=share)

    @override
    def first_look(self, section: DataSection, images: float, backbone: str) -> str:
        try:
            return super().first_look(section, images, backbone)
        except DataError as error:
            # the recipe may correct it
            return str(error)


class ReadElsewhere(ImagesWithBoxes):
    """Images that an evaluator's trainer reads itself."""

    @override
    def section(self, recipe: Recipe) -> DataSection:
        return recipe.data

    @override
    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = SOLE_WORKER
    ) -> Dataset | None:
        return None

    @override
    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        if recipe.data.name == EXTERNAL:
            return super().shape_and_classes(recipe)
        from nas_attn.data import yolo

        side = yolo.side(recipe.data)
        return (3, side, side), len(yolo.class_names(recipe.data))

    @override
    def missing_test(self, recipe: Recipe) -> str:
        from nas_attn.data import yolo

        if recipe.data.name == EXTERNAL or yolo.described(recipe.data).get("test"):
            return ""
        return (
            f"data YAML '{yolo.data_file(recipe.data)}' has no test split: add test: and its images"
        )

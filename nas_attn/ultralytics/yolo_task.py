"""Detection by ultralytics' trainer."""

from __future__ import annotations

from typing_extensions import override

from nas_attn.data.inventory import Inventory
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.task import YOLO_SIDE, Hints, InputProposal, RecipeParts
from nas_attn.training.tasks.data import ReadElsewhere
from nas_attn.training.tasks.detection import EvaluatedDetection, sizes

DETECTOR_PREFIX = "ultralytics:"
"""Beginning of the names of its detectors."""
OUR_OPTIONS = (
    "attention_learning_rate",
    "backbone_learning_rate",
    "head_learning_rate",
    "accumulate",
    "loss",
    "ema",
    "clip_norm",
    "execution",
    "memory_format",
    "threads",
    "augment",
    "transforms",
    "schedule",
)
"""Settings of `[training]` that only our own trainer knows."""
LOADED_HERE = (
    "validation",
    "train_subset",
    "mean",
    "groups",
)
"""Settings of `[data]` for images that are loaded here."""
MADE_FOR_YOLO = 64
"""Side of a made image."""


class UltralyticsDetection(EvaluatedDetection):
    """A detection that ultralytics' trainer trains, on images that it reads itself."""

    own_trainer = False
    backbone = "ultralytics:yolo11n.yaml"
    hints = Hints(
        backbones="ultralytics:NAME.yaml or NAME.pt",
        own_images={"task": "detection", "data": "yolo:PATH.yaml"},
        space="detector",
        more_data=("yolo:PATH.yaml (for ultralytics)",),
    )
    training_lines = (
        "learning_rate = 0.01               # from a .pt: a fifth of it, or"
        " finetune_learning_rate\n"
    )

    @override
    def fits(self, backbone: str, *, evaluated: bool) -> bool:
        return backbone.startswith(DETECTOR_PREFIX) and not evaluated

    @override
    def check(self, recipe: RecipeParts) -> None:
        usual = type(recipe.training)()
        asked = [
            name for name in OUR_OPTIONS if getattr(recipe.training, name) != getattr(usual, name)
        ]
        if recipe.training.backbone_learning_rate == 0 and recipe.training.start == "pretrained":
            # by target.freeze; no other factor has a counterpart there
            asked.remove("backbone_learning_rate")
        if asked:
            raise ValueError(
                f"training.{asked[0]} is not supported with ultralytics' trainer: remove it"
            )
        given = [name for name in LOADED_HERE if getattr(recipe.data, name) is not None]
        if given:
            raise ValueError(
                f"data.{given[0]} is not for ultralytics' trainer, whose YAML names the splits:"
                " remove it"
            )
        if recipe.training.start == "backbone":
            raise ValueError(
                "ultralytics' trainer needs training.start = 'scratch', or 'pretrained' with"
                " weights = 'default' for a .pt"
            )

    @override
    def data_lines(self, data: str, backbone: str, proposed: InputProposal | None) -> str:
        side = self.input_side(backbone)
        if proposed is not None and isinstance(proposed.size, int):
            side = proposed.size
        return sizes(data, MADE_FOR_YOLO, side, ", a multiple of 32")

    @override
    def input_side(self, backbone: str) -> int:
        """That of the images that its `.pt` was trained on, if the file is here."""
        from nas_attn.ultralytics.networks import trained_side

        return trained_side(backbone.removeprefix(DETECTOR_PREFIX)) or YOLO_SIDE


FEWEST_IMAGES = 200
"""Training images for a YOLO with random weights."""


class ReadByUltralytics(ReadElsewhere):
    """Images that ultralytics' trainer reads itself."""

    @override
    def proposed(self, inventory: Inventory, backbone: str, weights: str | None) -> InputProposal:
        proposal = super().proposed(inventory, backbone, weights)
        if proposal.size == YOLO_SIDE or proposal.size != self.task.input_side(backbone):
            return proposal
        why = f"size: {proposal.size}, at which '{backbone}' was trained"
        return proposal._replace(why=why)

    @override
    def first_look(
        self, section: DataSection, images: float, backbone: str
    ) -> tuple[Inventory | None, str]:
        """Warns of few images: after 400 epochs on 40 made images of 64 x 64 pixels, YOLO11n found
        nothing.
        """
        inventory, note = super().first_look(section, images, backbone)
        random_weights = backbone.endswith((".yaml", ".yml"))
        few = 0 < images < FEWEST_IMAGES
        if section.name.startswith("coco:") or not few or not random_weights:
            return inventory, note
        warning = (
            f"note: {images:.0f} images are few for a YOLO from random weights: if it scores 0,"
            " give its .pt as the backbone"
        )
        return inventory, f"{note}\n{warning}" if note else warning

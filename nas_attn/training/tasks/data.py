"""How the images of the tasks are read. Loads torch only when it reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from nas_attn.data.inventory import Inventory
from nas_attn.errors import DataError, shorten
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.sections import height_and_width
from nas_attn.recipe.tables import find_data_set
from nas_attn.recipe.task import EXTERNAL, InputProposal, Task
from nas_attn.training.tasks.detection import fixed_side, usual_side

if TYPE_CHECKING:
    # A module that loads torch.
    import torch

    from nas_attn.backbones.weights_input import WeightsInput
    from nas_attn.data.dataset import Dataset

# most networks halve the sides five times
STRIDE = 32


def _input_of_weights(recipe: Recipe) -> WeightsInput | None:
    """The input that the weights of a recipe's network are made for; None: nobody knows one, or its
    images are grey.
    """
    row = find_data_set(recipe.data.name)
    if row is not None and row.grey:
        return None
    from nas_attn.backbones.weights_input import weights_input

    converts = bool(recipe.backbone.options.get("transform_input"))
    weights = recipe.training.weights or recipe.target.weights
    return weights_input(recipe.backbone.name, weights, converts=converts)


def _usual(section: DataSection, own: WeightsInput) -> tuple[dict[str, Any], dict[str, Any]]:
    """What weights want of these images: keys of `[data]`, and of its `options`."""
    usual: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if section.channels is None:
        usual = {"mean": list(own.mean), "std": list(own.std)}
    # such images become as large as the weights want them
    if own.size and section.name.startswith(("folder:", "coco:")):
        usual["size"] = own.size
        options["interpolation"] = own.interpolation
        size = section.size or own.size
        if isinstance(size, int) and section.fit == "cut":
            options["resize"] = own.resize_for(size)
    return usual, options


def data_of(task: Task) -> TaskData:
    """How the images of this task are read."""
    kind: type[TaskData] = task.row.data()
    return kind(task)


def reading_of(recipe: Recipe) -> TaskData:
    """How a recipe's images are read."""
    return data_of(tasks.of(recipe))


@dataclass(frozen=True)
class TaskData:
    """How a task's images are read: those with a class each, or a mask, as it stands here."""

    task: Task

    def section(self, recipe: Recipe) -> DataSection:
        """The recipe's data. Trained weights set the normalisation and, for a folder, size, crop
        and scaling, unless the recipe says them.
        """
        section = recipe.data
        own = _input_of_weights(recipe)
        if own is None:
            return section
        usual, options = _usual(section, own)
        unsaid = {name: value for name, value in usual.items() if getattr(section, name) is None}
        return section.model_copy(update={**unsaid, "options": options | section.options})

    def of_other(self, recipe: Recipe, other: Recipe) -> DataSection:
        """A recipe's data as another network takes them.

        What the recipe says of them as its own weights want it, size, crop, scaling and
        normalisation, is the other's own; all else, a smaller size for example, holds for both.

        Args:
            recipe: the study's.
            other: the same with another network and what that starts from.
        """
        section = recipe.data
        own = _input_of_weights(recipe)
        if own is None or own == _input_of_weights(other):
            return section
        usual, options = _usual(section, own)
        said = {name: v for name, v in section.options.items() if v != options.get(name)}
        unsaid = {name: None for name, v in usual.items() if getattr(section, name) == v}
        data = section.model_copy(update={**unsaid, "options": said})
        return self.section(other.model_copy(update={"data": data}))

    def load(
        self, recipe: Recipe, *, device: torch.device | str, workers: int = 1
    ) -> Dataset | None:
        """The recipe's data; None if an evaluator brings its own. DataError if they cannot be
        loaded.
        """
        if recipe.data.name == EXTERNAL:
            return None
        from nas_attn.data import loading

        section = self.section(recipe)
        if not recipe.may_resplit:
            section = section.model_copy(update={"resplit": False})
        return loading.load(section, device=device, workers=workers, task=self.task)

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        """Shape of a network's input, (C, H, W), and number of classes, if `load` gives None."""
        # the recipe's schema sees to it
        assert recipe.data.input_shape is not None
        return recipe.data.input_shape, recipe.data.classes or 1

    def missing_test(self, recipe: Recipe) -> str:
        """Why there is no test split, with the way out; empty if there is one, or if only an
        evaluator knows.
        """
        from nas_attn.data import looks, prepared

        found = looks.listed(recipe.data, self.task.labels)
        if found is not None:
            # no image is read
            return prepared.missing_test(found, self.task.labels)
        dataset = self.load(recipe, device="cpu")
        return "" if dataset is None else dataset.missing_test

    def inventory(self, section: DataSection) -> Inventory | None:
        """What the user's images are; None for other data. Raises DataError: they are not as this
        task needs them.
        """
        from nas_attn.data import looks

        return looks.of(section, self.task.labels)

    def proposed(self, inventory: Inventory, backbone: str, weights: str | None) -> InputProposal:
        """Proposes how these images become the input of a network, given by its name and what it
        starts from.
        """
        return input_of(inventory, backbone, self.task.input_side(backbone), weights)

    def first_look(
        self,
        section: DataSection,
        images: float,  # noqa: ARG002 - a task may need more of them than it has
        backbone: str,  # noqa: ARG002 - as before
    ) -> tuple[Inventory | None, str]:
        """Returns what these data are, if they are the user's images, and a line about them that
        `init` says. Raises DataError: they are not known, or not as this task needs them.

        Args:
            section: Where the images are.
            images: How many there are to train on, 0 if that is not known.
            backbone: The network's name.
        """
        inventory = self.inventory(section)
        if inventory is None and section.name != EXTERNAL and self.task.own_trainer:
            from nas_attn.data import loading

            loading.reader(section.name, self.task.labels)
        return inventory, ""


def input_of(
    inventory: Inventory, backbone: str, usual: int, weights: str | None = None
) -> InputProposal:
    """Proposes how images become a network's input: of the only size that it takes, if there is
    one; else as its weights want them, and smaller if the images are.

    Args:
        inventory: What the images are.
        backbone: The network's name.
        usual: The side in pixels for photographs, where the weights say none.
        weights: What it starts from: `default` or a file; None: random weights.
    """
    from nas_attn.backbones.weights_input import only_side, weights_input

    own = weights_input(backbone, weights)
    only = only_side(backbone, weights)
    bands = inventory.bands
    if only is not None:
        _, fit = inventory.proposed(only)
        why = f"size: {only}, since {backbone} is built for it"
        # such a network takes squares
        proposal = InputProposal(only, "cut" if fit == "cut" else "letterbox", bands, why)
    elif own is not None and own.size is not None:
        proposal = _as_weights_want(inventory, own.size, weights)
    else:
        return InputProposal(*inventory.proposed(usual), bands)
    if own is None or bands is not None:
        return proposal
    return proposal._replace(mean=own.mean, std=own.std, interpolation=own.interpolation)


def _as_weights_want(inventory: Inventory, side: int, weights: str | None) -> InputProposal:
    """Proposes the side in pixels for which weights are made. Smaller images are enlarged to half
    of it at most: less hides from the network what it has learnt to see.
    """
    size, fit = inventory.proposed(side, least=STRIDE * math.ceil(side / 2 / STRIDE), step=STRIDE)
    high, wide = height_and_width(size)
    shown = " x ".join(map(str, dict.fromkeys((high, wide))))
    whose = "the published weights are"
    if weights != "default":
        whose = f"published weights of this network, and probably '{shorten(str(weights))}', are"
    why = f"size: {shown}, since {whose} made for {side}"
    if high * wide < side * side and inventory.shapes is not None:
        shapes = inventory.shapes
        why += (
            f", while the images have {shapes.width:,.0f} x {shapes.height:,.0f} in the median"
            f" (data.size = {side} enlarges them, and takes {side * side / (high * wide):.1f} times"
            " as long)"
        )
    return InputProposal(size, fit, inventory.bands, why)


class NamedImages(TaskData):
    """Images that a file names with their labels, which a recipe may say how to read."""

    @override
    def first_look(
        self, section: DataSection, images: float, backbone: str
    ) -> tuple[Inventory | None, str]:
        try:
            return super().first_look(section, images, backbone)
        except DataError as error:
            # the recipe may correct it
            return None, str(error)


class ImagesWithBoxes(NamedImages):
    """Images with boxes, which we read."""

    @override
    def section(self, recipe: Recipe) -> DataSection:
        """The recipe's data, with the side of the detector's input."""
        side = recipe.data.size or usual_side(recipe.backbone.name)
        return recipe.data.model_copy(update={"size": side})

    @override
    def proposed(self, inventory: Inventory, backbone: str, weights: str | None) -> InputProposal:
        if side := fixed_side(backbone):
            return InputProposal(side, "cut")
        size, fit = inventory.proposed(self.task.input_side(backbone))
        return InputProposal(size, fit, inventory.bands)


class ReadElsewhere(ImagesWithBoxes):
    """Images that an evaluator's trainer reads itself."""

    @override
    def section(self, recipe: Recipe) -> DataSection:
        return recipe.data

    @override
    def load(
        self, recipe: Recipe, *, device: torch.device | str, workers: int = 1
    ) -> Dataset | None:
        return None

    @override
    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        if recipe.data.name == EXTERNAL:
            return super().shape_and_classes(recipe)
        from nas_attn.data import yolo_files

        side = yolo_files.side(recipe.data)
        return (3, side, side), len(yolo_files.class_names(recipe.data))

    @override
    def missing_test(self, recipe: Recipe) -> str:
        from nas_attn.data import yolo_files

        if recipe.data.name == EXTERNAL or yolo_files.described(recipe.data).get("test"):
            return ""
        yaml = yolo_files.data_file(recipe.data)
        return f"data YAML '{yaml}' has no test split: add test: and its images"

"""How the images of the tasks are read. Loads torch only when it reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from nas_attn.data.inventory import Inventory
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.tables import find_data_set
from nas_attn.recipe.task import EXTERNAL, InputProposal, Task
from nas_attn.system.memory import SOLE_WORKER, Share
from nas_attn.training.tasks.detection import fixed_side, usual_side

if TYPE_CHECKING:
    # A module that loads torch.
    import torch

    from nas_attn.data.dataset import Dataset


def data_of(task: Task) -> TaskData:
    """How the images of this task are read."""
    kind: type[TaskData] = task.row.data()
    return kind(task)


class TaskData:
    """How a task's images are read: those with a class each, or a mask, as it stands here."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def section(self, recipe: Recipe) -> DataSection:
        """The recipe's data. Published weights set the normalisation and, for a folder, the size at
        which they were validated.
        """
        section = recipe.data
        row = find_data_set(section.name)
        published = "default" in (recipe.training.weights, recipe.target.weights)
        if not published or (row is not None and row.grey):
            return section
        from nas_attn.backbones.building import published_input

        converts = bool(recipe.backbone.options.get("transform_input"))
        fed = published_input(recipe.backbone.name, converts=converts)
        changed: dict[str, Any] = {}
        if section.mean is None and section.channels is None:
            changed["mean"] = list(fed.mean)
            changed["std"] = list(fed.std)
        if section.name.startswith(("folder:", "coco:")) and fed.size and fed.resize:
            size = section.size or fed.size
            usual: dict[str, Any] = {"interpolation": fed.interpolation}
            if isinstance(size, int) and section.fit == "cut":
                usual["resize"] = round(size * fed.resize / fed.size)
            changed["size"] = size
            changed["options"] = {**usual, **section.options}
        return section.model_copy(update=changed)

    def load(
        self, recipe: Recipe, *, device: torch.device | str, share: Share = SOLE_WORKER
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
        return loading.load(section, device=device, share=share, task=self.task)

    def shape_and_classes(self, recipe: Recipe) -> tuple[tuple[int, int, int], int]:
        """Shape of a network's input, (C, H, W), and number of classes, if `load` gives None."""
        # the recipe's schema sees to it
        assert recipe.data.input_shape is not None
        return recipe.data.input_shape, recipe.data.classes or 1

    def missing_test(self, recipe: Recipe) -> str:
        """Why there is no test split, with the way out; empty if there is one, or if only an
        evaluator knows.
        """
        dataset = self.load(recipe, device="cpu")
        return "" if dataset is None else dataset.missing_test

    def inventory(self, section: DataSection) -> Inventory | None:
        """What the user's images are; None for other data. Raises DataError: they are not as this
        task needs them.
        """
        from nas_attn.data import taking

        return taking.of(section, self.task.labels)

    def proposed(self, inventory: Inventory, backbone: str) -> InputProposal:
        """Proposes how these images become the input of a network, given by its name."""
        return input_of(inventory, backbone, self.task.input_side(backbone))

    def first_look(
        self,
        section: DataSection,
        images: float,  # noqa: ARG002 - a task may need more of them than it has
        backbone: str,
    ) -> tuple[str, InputProposal | None]:
        """Returns what `init` says of these data, and how it proposes to make them the network's
        input. Raises DataError: they are not known, or not as this task needs them.

        Args:
            section: Where the images are.
            images: How many there are to train on, 0 if that is not known.
            backbone: The network's name.
        """
        inventory = self.inventory(section)
        if inventory is None:
            if section.name != EXTERNAL and self.task.own_trainer:
                from nas_attn.data import loading

                loading.reader(section.name, self.task.labels)
            return "", None
        proposed = self.proposed(inventory, backbone)
        taken = replace(inventory, **proposed._asdict())
        return "\n".join(taken.described()), proposed


def input_of(inventory: Inventory, backbone: str, usual: int) -> InputProposal:
    """Proposes how images become a network's input: of the only size that it takes, if there is
    one.

    Args:
        inventory: What the images are.
        backbone: The network's name.
        usual: The side in pixels for photographs, where several can be taken.
    """
    from nas_attn.backbones.building import only_side

    side = only_side(backbone)
    size, fit = inventory.proposed(side or usual)
    if side is None:
        return InputProposal(size, fit, inventory.bands)
    # a network of one size takes squares
    return InputProposal(side, "cut" if fit == "cut" else "letterbox", inventory.bands)


class NamedImages(TaskData):
    """Images that a file names with their labels, which a recipe may say how to read."""

    @override
    def first_look(
        self, section: DataSection, images: float, backbone: str
    ) -> tuple[str, InputProposal | None]:
        try:
            return super().first_look(section, images, backbone)
        except DataError as error:
            # the recipe may correct it
            return str(error), None


class ImagesWithBoxes(NamedImages):
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
            from nas_attn.training.tasks.box_scores import require_scorer

            require_scorer()
        return super().load(recipe, device=device, share=share)

    @override
    def proposed(self, inventory: Inventory, backbone: str) -> InputProposal:
        if side := fixed_side(backbone):
            return InputProposal(side, "cut")
        return super().proposed(inventory, backbone)


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

"""The task of a recipe, looked up by name. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TypeVar

from nas_attn.recipe.tables import TASK_ROWS, find_data_set
from nas_attn.recipe.task import MIXING, Pace, RecipeParts, Task

__all__ = [
    "MIXING",
    "TASKS",
    "USUAL_TASK",
    "Pace",
    "Task",
    "find",
    "of",
    "usual_pace",
    "variants",
]

USUAL_TASK = next(iter(TASK_ROWS))
"""The name of the task of a recipe that names none: a class for each image."""
FEW_TRAINING_IMAGES = 2000
"""With fewer, an epoch has few steps."""
Value = TypeVar("Value")


@cache
def _all() -> tuple[Task, ...]:
    """One object for each row of `nas_attn.wiring`, in the same order."""
    return tuple(row.facts()(row) for row in TASK_ROWS.values())


def of(recipe: RecipeParts) -> Task:
    """The task of a recipe."""
    evaluated = recipe.training.evaluator is not None
    return find(recipe.task.name, recipe.backbone.name, evaluated=evaluated)


def variants(name: str) -> list[Task]:
    """All objects that a task's name can stand for."""
    return [task for task in _all() if task.name == name]


def find(name: str, backbone: str, *, evaluated: bool = False) -> Task:
    """The task of this name for this backbone. `evaluated`: the user's evaluator trains and scores,
    not the task's own trainer.
    """
    return next(task for task in variants(name) if task.fits(backbone, evaluated=evaluated))


def usual_pace(task: Task, data: str, images: float) -> Pace:
    """Epochs and batch of a usual training.

    Args:
        task: what the network is for.
        data: their name.
        images: to train on, about; 0: not known.
    """
    if task.paced_by_images and 0 < images < FEW_TRAINING_IMAGES:
        return task.pace_of_few(images)
    row = find_data_set(data)
    return task.pace(data, small=row is not None and row.small)


class _Tasks(Mapping[str, Task]):
    """Name -> the last task of this name, which is trained by our own trainer."""

    def __getitem__(self, name: str) -> Task:
        return {task.name: task for task in _all()}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(task.name for task in _all()))

    def __len__(self) -> int:
        return len({task.name for task in _all()})


TASKS: Mapping[str, Task] = _Tasks()

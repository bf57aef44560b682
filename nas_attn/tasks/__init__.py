"""The task of a recipe: one object, looked up once. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn.tasks.kinds import (
    FIXED_SIDES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MIXING,
    Classification,
    Detection,
    EvaluatedDetection,
    Pace,
    Segmentation,
    Task,
    usual_side,
)
from nas_attn.tasks.ultralytics import UltralyticsDetection

if TYPE_CHECKING:
    from nas_attn.recipe import Recipe

__all__ = [
    "FIXED_SIDES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MIXING",
    "SHARES",
    "TASKS",
    "Pace",
    "Task",
    "find",
    "of",
    "usual_side",
    "variants",
]

_ALL: tuple[Task, ...] = (
    Classification(),
    Segmentation(),
    UltralyticsDetection(),
    EvaluatedDetection(),
    Detection(),
)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
SHARES: Mapping[str, str] = MappingProxyType(
    {name: title for task in _ALL for name, title in task.shares.items()}
)


def of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return find(
        recipe.task.name, recipe.backbone.name, evaluated=recipe.training.evaluator is not None
    )


def variants(name: str) -> list[Task]:
    """All objects that a task's name can stand for."""
    return [task for task in _ALL if task.name == name]


def find(name: str, backbone: str, *, evaluated: bool = False) -> Task:
    """The task of this name for this backbone. `evaluated`: the user's evaluator trains and scores,
    not the task's own trainer.
    """
    return next(
        task for task in _ALL if task.name == name and task.fits(backbone, evaluated=evaluated)
    )

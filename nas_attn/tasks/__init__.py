"""What a study's networks are for: one object for each task, with all that differs between tasks.

Importing this package loads no torch. The objects' methods import what they need when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn.tasks.classification import Classification
from nas_attn.tasks.detection import Detection, EvaluatedDetection
from nas_attn.tasks.segmentation import Segmentation
from nas_attn.tasks.task import Task
from nas_attn.tasks.ultralytics import UltralyticsDetection

if TYPE_CHECKING:
    from nas_attn.recipe import Recipe

__all__ = ["SHARES", "TASKS", "Task", "find", "of", "variants"]

_ALL: tuple[Task, ...] = (
    Classification(),
    Segmentation(),
    UltralyticsDetection(),
    EvaluatedDetection(),
    Detection(),
)
"""The first one that fits a recipe is its task."""
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
"""Name in a recipe -> the task as our own trainer does it."""
SHARES: Mapping[str, str] = MappingProxyType({name: title for task in _ALL for name, title in task.shares.items()})
"""Metrics that are shown in percent -> title."""


def of(recipe: Recipe) -> Task:
    """The task of a recipe."""
    return find(recipe.task.name, recipe.backbone.name, evaluated=recipe.training.evaluator is not None)


def variants(name: str) -> list[Task]:
    """All objects that a task's name can stand for."""
    return [task for task in _ALL if task.name == name]


def find(name: str, backbone: str, *, evaluated: bool = False) -> Task:
    """The task of this name with this backbone.

    Args:
        evaluated: whether an evaluator trains and scores, and not a trainer that comes with the task.
    """
    return next(task for task in _ALL if task.name == name and task.fits(backbone, evaluated=evaluated))

"""What a study's networks are for, and how what they score is said: the one place that knows tasks by name.

What trains and scores for a task: `nas_attn.training.tasks`, and for detectors of ultralytics `nas_attn.evaluation.detectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

TaskName = Literal["classification", "segmentation", "detection"]


@dataclass(frozen=True, slots=True)
class Task:
    """A task's metrics and words."""

    name: TaskName
    shares: Mapping[str, str]
    """Metrics that are shares of what there is to get right, shown in percent, their differences in points -> title.
    The first is the task's own."""
    losses: Mapping[str, str]
    """Metrics of which lower is better -> title."""
    per_image: bool
    """Whether a network is right or wrong about an image, so that something can be said of new images."""

    @property
    def metric(self) -> str:
        """What the task is scored by, unless a recipe says otherwise."""
        return next(iter(self.shares))

    def output(self, classes: int, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the logits for one image of this (height, width)."""
        return (classes,) if self.name == "classification" else (classes, *size)


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "classification": Task(
            "classification",
            {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"},
            {"loss": "log-loss"},
            per_image=True,
        ),
        "segmentation": Task(
            "segmentation",
            {"mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"},
            {"loss": "log-loss"},
            per_image=False,
        ),
        "detection": Task("detection", {"map50_95": "mAP50-95", "map50": "mAP50"}, {}, per_image=False),
    }
)
SHARES: Mapping[str, str] = MappingProxyType(
    {name: said for task in TASKS.values() for name, said in task.shares.items()}
)
"""Metrics whose unit is known -> title."""

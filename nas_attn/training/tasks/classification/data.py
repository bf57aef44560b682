"""How images with classes are read."""

from __future__ import annotations

from nas_attn.training.tasks.data import TaskData


class ImagesWithClasses(TaskData):
    """Images with a class each."""

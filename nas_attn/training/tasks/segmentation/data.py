"""How images with masks are read."""

from __future__ import annotations

from nas_attn.training.tasks.data import TaskData


class ImagesWithMasks(TaskData):
    """Images with a class for each pixel."""

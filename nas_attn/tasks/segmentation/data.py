"""How images with masks are read."""

from __future__ import annotations

from typing_extensions import override

from nas_attn.recipe import DataSection
from nas_attn.tasks.data import TaskData


class ImagesWithMasks(TaskData):
    """Images with a class for each pixel."""

    @override
    def seen(self, section: DataSection, images: float, backbone: str) -> str:
        inventory = self.inventory(section)
        return "" if inventory is None else inventory.text()

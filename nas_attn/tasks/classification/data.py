"""How images with classes are read."""

from __future__ import annotations

from typing_extensions import override

from nas_attn.recipe import DataSection
from nas_attn.tasks.data import TaskData


class ImagesWithClasses(TaskData):
    """Images with a class each."""

    @override
    def seen(self, section: DataSection, images: float, backbone: str) -> str:
        inventory = self.inventory(section)
        return "" if inventory is None else inventory.text()

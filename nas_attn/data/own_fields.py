"""The image and the label of an item or batch of a user's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_attn.errors import DataError, few

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABELS = (
    "label",
    "labels",
    "mask",
    "annotation",
    "objects",
    "target",
)


def image_and_label(item: Any, where: str) -> tuple[Any, Any]:
    """DataError: it has no such fields; `where` says whose item it is."""
    if isinstance(item, Mapping):
        image = next((name for name in IMAGE_COLUMNS if name in item), None)
        label = next((name for name in LABELS if name in item), None)
        if image is not None and label is not None:
            return item[image], item[label]
        raise DataError(
            f"{where} has the fields {few(list(map(str, item)))}: it needs image and label"
        )
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise DataError(f"{where} is a {type(item).__name__}, not (image, label)")

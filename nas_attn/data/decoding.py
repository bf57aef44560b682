"""From an image file to a square RGB array."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_attn.data.files import cores


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """One image as uint8 (3, size, size): shorter side scaled to `size`, middle square cut out.

    Raises:
        Exception: whatever Pillow raises for a broken file, which is nearly anything.
    """
    with Image.open(path) as opened:
        opened.draft("RGB", (2 * size, 2 * size))  # a JPEG far larger than needed is decoded at a fraction of its size
        image = _to_rgb(ImageOps.exif_transpose(opened))
    return np.asarray(_square(size)(image)).transpose(2, 0, 1)


def decode_all(paths: Sequence[Path], size: int, *, keep: bool) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Decodes every file on all cores.

    Returns:
        bool (N,), which are broken; and with `keep` the images (N, 3, size, size), broken ones black.
    """
    broken = np.zeros(len(paths), dtype=bool)
    images = np.zeros((len(paths), 3, size, size), dtype=np.uint8) if keep else None

    def work(number: int) -> None:
        try:
            image = decode(paths[number], size)
        except Exception:  # a decoder meets any nonsense that a file may hold; the caller names the file
            broken[number] = True
        else:
            if images is not None:
                images[number] = image

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, range(len(paths))))
    return broken, images


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@lru_cache(maxsize=8)
def _square(size: int) -> Any:
    from torchvision.transforms import v2

    return v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])

"""Validation images as small PNG files, for the report."""

from __future__ import annotations

import io
from collections.abc import Iterable

import torch
from PIL import Image

from nas_attn import tasks
from nas_attn.analysis.per_image import Picture
from nas_attn.recipe import Recipe

SIDE = 96
"""Pixels of the longer side, at most."""


def pictures(recipe: Recipe, images: Iterable[int]) -> dict[int, Picture]:
    """Images of the validation split by their numbers; empty where the recipe's data are not loaded here.

    Raises:
        DataError: the data cannot be loaded.
    """
    wanted = sorted(set(images))
    dataset = tasks.of(recipe).load(recipe, device="cpu") if wanted else None
    if dataset is None or wanted[-1] >= len(dataset.validation):
        return {}
    split = dataset.validation
    (pixels,) = split.pixels.fetch([torch.tensor(wanted)])
    labels = [dataset.classes[int(split.labels[image])] for image in wanted]
    return {i: Picture(_png(x), label) for i, x, label in zip(wanted, pixels, labels, strict=True)}


def _png(pixels: torch.Tensor) -> bytes:
    """uint8 (C, H, W) as a PNG; an image of other than three channels by its first one."""
    shown = pixels.permute(1, 2, 0).numpy() if len(pixels) == 3 else pixels[0].numpy()
    image = Image.fromarray(shown)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()

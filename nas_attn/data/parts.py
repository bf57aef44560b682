"""What a source of images hands over before it is split, normalised and put on a device."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.pixels import Indices, InMemory, Pixels
from nas_attn.records import ALONE, Share


@dataclass(frozen=True)
class Place:
    """Where images go."""

    device: torch.device
    share: Share = ALONE
    """With how many workers its memory is shared: that decides whether the images of files are held in it."""


@dataclass(frozen=True)
class Labelled:
    """Images, their labels, and what tells one image from another."""

    pixels: Pixels
    labels: NDArray[np.int64]
    """(N,), indices into the classes."""
    identity: NDArray[np.int64]
    """(N,), a checksum of each image, or of its file's name and size."""
    groups: NDArray[np.str_] | None = None
    """(N,), images of one group stand on one side of a split; None: each is its own."""
    boxes: NDArray[np.float32] | None = None
    """(N, M, 5), of images with boxes (`coco.Boxes`); zeros where an image has fewer than M."""

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Self:
        """From an array (N, C, H, W) or (N, H, W)."""
        images = np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)
        identity = np.fromiter((zlib.crc32(image.data) for image in images), np.int64, len(images))
        return cls(InMemory(torch.from_numpy(images)), labels, identity)

    def subset(self, index: Indices) -> Labelled:
        groups = None if self.groups is None else self.groups[index]
        boxes = None if self.boxes is None else self.boxes[index]
        return Labelled(self.pixels.subset(index), self.labels[index], self.identity[index], groups, boxes)


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they are asked for."""

    train: Labelled
    validation: Labelled | None
    """None: to be taken from `train`."""
    test: Callable[[], Labelled]
    classes: tuple[str, ...]
    missing_test: str = ""
    """Why there is no test split, with the way out; empty where there is one."""

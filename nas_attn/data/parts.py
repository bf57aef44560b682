"""The parts of a source: its images and labels, before they are split, normalised and put on a
device.

Shapes: N images, M boxes. In segmentation an image's last channel is its mask.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.manifest import Listing
from nas_attn.data.pixels import Indices, InMemory, Pixels
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.task import DETECTOR_SIDE
from nas_attn.system.memory import SOLE_WORKER, Share
from nas_attn.system.processes import cores

# mean and standard deviation of the training images' labels or numbers, (K,) each
Moments = tuple[torch.Tensor, torch.Tensor]
# (M, 5): class from 1 (below: a crowd, not counted), left, top, right, bottom in pixels
BoxTable = NDArray[np.float32]


def box_table(boxes: Sequence[BoxTable]) -> NDArray[np.float32]:
    """Returns the boxes of N images as one table (N, M, 5), zeros where an image has fewer."""
    most = max(map(len, boxes), default=0)
    table = np.zeros((len(boxes), max(most, 1), 5), np.float32)
    for row, image_boxes in zip(table, boxes, strict=True):
        row[: len(image_boxes)] = image_boxes
    return table


def checksums(rows: Iterable[NDArray[np.float32]]) -> NDArray[np.int64]:
    """Returns (N,) checksums of what N images have, by which a change is noticed."""
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.int64)


def detector_side(section: DataSection, usual: int = DETECTOR_SIDE) -> int:
    """Returns the side of a detector's input. Raises DataError: the recipe has another shape."""
    if isinstance(section.size, tuple) or section.fit != "cut":
        raise DataError(
            f"data.size = {section.size} and data.fit = '{section.fit}': a detector's images keep"
            " their shape in a square, so give data.size as one number, and no data.fit"
        )
    return section.size or usual


@dataclass(frozen=True)
class Place:
    """The device for images."""

    device: torch.device
    # Workers that share its memory, which limits images of files, and the cores of this machine
    share: Share = SOLE_WORKER

    @property
    def processes(self) -> int:
        """Processes that load or transform images for one worker, by default."""
        return max(1, cores() // self.share.machine)


@dataclass(frozen=True)
class Labelled:
    """Images, their labels, and an identity of each image."""

    pixels: Pixels
    # (N,), indices into the classes
    labels: NDArray[np.int64]
    # (N,), a checksum of each image, or of its file's name and size
    identity: NDArray[np.int64]
    # (N,), images of one group stay on one side of a split; None: no groups
    groups: NDArray[np.str_] | None = None
    # (N, M, 5), `BoxTable`; zeros if an image has fewer
    boxes: NDArray[np.float32] | None = None
    # (N, K): 0 or 1 for each of K labels, or the numbers of K columns
    targets: NDArray[np.float32] | None = None
    # (N,), paths below the data's folder; None: the images are in no files of their own
    names: NDArray[np.str_] | None = None
    # (N,), checksums of the files' contents; None: those of the pixels, in `identity`
    content: NDArray[np.int64] | None = None
    # False: the images are others at each reading, so that content tells nothing
    fixed: bool = True

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]) -> Self:
        """Takes an array (N, C, H, W) or (N, H, W). Raises DataError: another shape or dtype, or
        not one label for each image.
        """
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or labels.dtype.kind not in "iu"
            or labels.shape != (len(images),)
        ):
            shapes = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            raise DataError(
                "images must be uint8 (N, C, H, W), with an integer label for each, but they are"
                f" {shapes}"
            )
        images = np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)
        identity = np.fromiter((zlib.crc32(image.data) for image in images), np.int64, len(images))
        return cls(InMemory(torch.from_numpy(images)), labels.astype(np.int64), identity)

    def subset(self, index: Indices) -> Labelled:
        def chosen(rows: NDArray[Any] | None) -> Any:
            return None if rows is None else rows[index]

        return replace(
            self,
            pixels=self.pixels.subset(index),
            labels=self.labels[index],
            identity=self.identity[index],
            groups=chosen(self.groups),
            boxes=chosen(self.boxes),
            targets=chosen(self.targets),
            names=chosen(self.names),
            content=chosen(self.content),
        )

    @property
    def listing(self) -> Listing:
        """The images, to be compared with those of later."""
        content = self.identity if self.content is None else self.content
        labels = self.labels
        rows: Sequence[NDArray[np.float32]] | NDArray[np.float32] | None = self.targets
        if self.boxes is not None:
            rows = [table[table[:, 0] != 0] for table in self.boxes]
        if rows is not None:
            labels = checksums(rows)
        return Listing(labels, self.names, content if self.fixed else None, boxed=rows is not None)


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they
    are asked for.
    """

    train: Labelled
    # None: a part of `train`
    validation: Labelled | None
    test: Callable[[], Labelled]
    classes: tuple[str, ...]
    # why there is no test split, with the way out; else empty
    missing_test: str = ""
    # names and classes of the test images, if they are known unread
    unread: Listing | None = None

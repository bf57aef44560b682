"""Images with boxes for detectors that our trainer trains: `coco:FOLDER`, and the cluttered digits.

An image is scaled until its longer side is what the detector is fed; below or beside it is grey.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from nas_attn.data import coco
from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Split
from nas_attn.data.decoding import GREY
from nas_attn.data.digits import OPTIONS, box_of, chosen_options, draw_masked, generated
from nas_attn.data.folder import Files, prepare
from nas_attn.data.loading import Classes, Statistics
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.transforms import Named, Transformed
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection

SIDE = 320
"""Of what a detector is fed, unless `data.size` says otherwise."""
MEAN, STD = tuple(value / 255 for value in GREY), (1.0, 1.0, 1.0)
"""A batch has its grey at 0 while it is augmented; a detector is fed 0 to 1, and normalises itself."""


@dataclass(frozen=True)
class BoxedSplit(Split):
    """Images with boxes; `labels` say nothing. y of a batch is float32 (B, M, 5): `coco.Boxes`, zeros where there are fewer."""

    boxes: Tensor
    """float32 (N, M, 5), on the device."""

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order: x float32 (B, 3, H, W), 0 to 1, and their boxes."""
        for images, y in self.stored(batch_size):
            yield self._fed(self._normalised(images)), y

    @property
    def _y(self) -> Tensor:
        return self.boxes

    def _augmented(self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes are mirrored and cropped along with their image; x 0 to 1."""
        x, _ = super()._augmented(plan, number, mirrored, y)
        return self._fed(x), plan.apply_boxes(number, y, self.pixels.shape[1:])

    def _transformed(self, steps: tuple[Named, ...]) -> Transformed:
        return replace(super()._transformed(steps), boxes=self.boxes.cpu())

    def _fed(self, x: Tensor) -> Tensor:
        return x + torch.tensor(self.mean, device=x.device)[:, None, None]


class Boxes(Classes):
    """Images with boxes."""

    name = "boxes"

    def strata(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        return ("image",)

    def check(self, part: Labelled, classes: tuple[str, ...], what: str) -> None:
        assert part.boxes is not None  # what reads boxes gives them
        if not (part.boxes[..., 0] > 0).any():
            raise DataError(f"{what} has no image with a box")

    def statistics(self, train: Labelled, section: DataSection) -> Statistics:
        return MEAN, STD

    def split(self, part: Labelled, place: torch.device, classes: int, statistics: Statistics) -> Split:
        assert part.boxes is not None
        labels, boxes = torch.from_numpy(part.labels).to(place), torch.from_numpy(part.boxes).to(place)
        return BoxedSplit(part.pixels.to(place), labels, classes, *statistics, boxes)


def coco_folder(section: DataSection, place: Place) -> Parts:
    """`coco:FOLDER`."""
    found = coco.find(section)
    side = section.size or SIDE

    def ready(split: str) -> Labelled:
        part = found.read(split)
        numbers = np.arange(len(part.images))
        images = prepare(Files(found.root, part.images, numbers), section.model_copy(update={"size": side}), place)
        boxes = coco.scaled(part.boxes, part.images, side)[images.labels]  # what is broken may be left out
        return Labelled(images.pixels, np.zeros_like(images.labels), images.identity, boxes=boxes)

    validation = None
    if "validation" in found.files:
        if section.validation is not None:
            raise DataError(
                f"data.validation does not apply, since '{found.files['validation']}' has the validation images: remove it"
            )
        validation = ready("validation")
    return Parts(ready("train"), validation, lambda: ready("test"), tuple(found.classes.values()), found.missing_test)


def digits(section: DataSection, _place: Place) -> Parts:
    """`digits`, scaled to what the detector is fed."""
    options = chosen_options(section, OPTIONS)
    side = section.size or SIDE

    def make(split: str) -> Labelled:
        images, masks, _ = draw_masked(section.seed, split, options)
        larger = interpolate(torch.from_numpy(images)[:, None], size=(side, side), mode="bilinear")  # uint8 stays
        part = Labelled.of(larger.expand(-1, 3, -1, -1).numpy(), np.zeros(len(images), np.int64))
        boxes = np.array([_corners(mask, side) for mask in masks], np.float32)[:, None]
        return Labelled(part.pixels, part.labels, part.identity, boxes=boxes)

    return generated(make)


def _corners(mask: NDArray[np.uint8], side: int) -> tuple[float, ...]:
    label, x, y, width, height = box_of(mask)
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return (label + 1, *(side * value for value in corners))

"""Images with boxes: a split of them, what is known of them, and the cluttered digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from nas_attn.data.augment import EpochPlan, Named, Transformed
from nas_attn.data.dataset import Classes, Split, Statistics
from nas_attn.data.decoding import PADDING_GREY
from nas_attn.data.digits import OPTIONS, box_of, chosen_options, draw_masked, generated
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection

SHOWN_SCORE = 0.3
# (M, 5): class from 1 (below: a crowd, not counted), left, top, right, bottom in pixels
BoxTable = NDArray[np.float32]

# of a detector's input, unless `data.size` says otherwise
DETECTOR_SIDE = 320
# Grey is 0 in augmentation; a detector takes 0 to 1
MEAN = tuple(value / 255 for value in PADDING_GREY)
STD = (
    1.0,
    1.0,
    1.0,
)


@dataclass(frozen=True)
class BoxedSplit(Split):
    """Images with boxes; `labels` is not used. y of a batch is float32 (B, M, 5): `BoxTable`,
    filled with zeros.
    """

    # float32 (N, M, 5), on the device
    boxes: Tensor

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images once, in order: x float32 (B, 3, H, W), 0 to 1, and their boxes."""
        for images, y in self.stored(batch_size):
            yield self._fed(self._normalised(images)), y

    @property
    def _y(self) -> Tensor:
        return self.boxes

    def _augmented(
        self, plan: EpochPlan, number: int, mirrored: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Boxes are mirrored and cropped along with their image; x 0 to 1."""
        x, _ = super()._augmented(plan, number, mirrored, y)
        return self._fed(x), plan.apply_boxes(number, y, self.pixels.shape[1:])

    def _transformed(self, steps: tuple[Named, ...]) -> Transformed:
        return replace(super()._transformed(steps), boxes=self.boxes.cpu())

    def _fed(self, x: Tensor) -> Tensor:
        return x + self._mean_colour

    @cached_property
    def _mean_colour(self) -> Tensor:
        """float32 (3, 1, 1). Put on the device once: a copy in each batch would wait for it."""
        return torch.tensor(self.mean, device=self.device)[:, None, None]


class Boxes(Classes):
    """Images with boxes."""

    def strata(self, classes: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG002 - as of `Classes`
        return ("image",)

    def check(
        self,
        part: Labelled,
        classes: tuple[str, ...],  # noqa: ARG002 - as of `Classes`
        what: str,
    ) -> None:
        # readers of boxes set them
        assert part.boxes is not None
        if not (part.boxes[..., 0] > 0).any():
            raise DataError(f"{what} has no image with a box: add some")

    def statistics(
        self,
        train: Labelled,  # noqa: ARG002 - as of `Classes`
        section: DataSection,  # noqa: ARG002 - as of `Classes`
    ) -> Statistics:
        return MEAN, STD

    def split(
        self, part: Labelled, place: torch.device, classes: int, statistics: Statistics
    ) -> Split:
        assert part.boxes is not None
        labels = torch.from_numpy(part.labels).to(place)
        boxes = torch.from_numpy(part.boxes).to(place)
        return BoxedSplit(part.pixels.to(place), labels, classes, *statistics, boxes)


def digits(section: DataSection, _place: Place) -> Parts:
    """`digits`, scaled to the detector's input."""
    options = chosen_options(section, OPTIONS)
    side = section.size or DETECTOR_SIDE

    def make(split: str) -> Labelled:
        images, masks, _ = draw_masked(section.seed, split, options)
        # uint8 stays
        larger = interpolate(torch.from_numpy(images)[:, None], size=(side, side), mode="bilinear")
        part = Labelled.of(larger.expand(-1, 3, -1, -1).numpy(), np.zeros(len(images), np.int64))
        return replace(
            part, boxes=np.array([_digit_box(mask, side) for mask in masks], np.float32)[:, None]
        )

    return generated(make)


def _digit_box(mask: NDArray[np.uint8], side: int) -> tuple[float, ...]:
    label, x, y, width, height = box_of(mask)
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return (label + 1, *(side * value for value in corners))

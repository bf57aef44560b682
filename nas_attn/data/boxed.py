"""Images with boxes for detectors that our trainer trains: `coco:FOLDER`, and the cluttered digits.

An image is scaled until its longer side is what the detector is fed; below or beside it is grey. `data.boxes` has the data of
ultralytics, which reads its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from nas_attn.data import coco
from nas_attn.data.augment import EpochPlan
from nas_attn.data.boxes import box_of
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.decoding import GREY
from nas_attn.data.digits import CLASSES, DEFAULTS, LIMITS, draw_masked, refuse_validation, whole_numbers
from nas_attn.data.folder import Files, prepare
from nas_attn.data.parts import Labelled
from nas_attn.data.splitting import amount, stratified
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection
from nas_attn.records import Share

SIDE = 320
"""Of what a detector is fed, unless `data.size` says otherwise."""
MEAN, STD = tuple(value / 255 for value in GREY), (1.0, 1.0, 1.0)
"""A batch has its grey at 0 while it is augmented; a detector is fed 0 to 1, and normalises itself."""

Part = tuple[Labelled, NDArray[np.float32]]
"""Images, and (N, M, 5) their boxes."""


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

    def _augmented(self, plan: EpochPlan, number: int, mirrored: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes are mirrored and cropped along with their image; x 0 to 1."""
        x, _ = super()._augmented(plan, number, mirrored)
        return self._fed(x), plan.apply_boxes(number, self.boxes[plan.batches[number]], self.pixels.shape[1:])

    def _fed(self, x: Tensor) -> Tensor:
        return x + torch.tensor(self.mean, device=x.device)[:, None, None]


def load(section: DataSection, *, device: torch.device, share: Share) -> Dataset:
    """Reads a data set with boxes, splits it and puts it on the device.

    Raises:
        DataError: the name has no boxes, or its files are not what they should be.
    """
    if section.name == "digits":
        return _digits(section, device)
    if not section.name.startswith("coco:"):
        raise DataError(f"'{section.name}' has no boxes for our trainer: give digits or coco:FOLDER")
    return _coco(section, device, share)


def _coco(section: DataSection, device: torch.device, share: Share) -> Dataset:
    found = coco.find(section)
    side = section.size or SIDE
    names = tuple(found.classes.values())

    def ready(part: coco.Annotated, index: NDArray[np.int64] | None = None) -> Part:
        numbers = np.arange(len(part.images)) if index is None else index
        files = Files(found.root, tuple(i.image for i in part.images), np.arange(len(part.images)), framed=part.images)
        labelled = prepare(files.subset(numbers), section.model_copy(update={"size": side}), device, share)
        return labelled, coco.scaled(part.boxes, part.images, side)[labelled.labels]  # what is broken may be left out

    train = found.read("train")
    everything = np.zeros(len(train.images), np.int64)
    if "validation" in found.files:
        if section.validation is not None:
            raise DataError(
                f"data.validation does not apply, as '{found.files['validation']}' has the validation images: leave it out"
            )
        validation, kept = ready(found.read("validation")), np.arange(len(everything))
    else:
        count = amount(section.validation, everything, "data.validation")
        taken, kept = stratified(everything, count, section.seed, ("image",))
        validation = ready(train, taken)
    if section.train_subset is not None and section.train_subset < len(kept):
        few_of_them, _ = stratified(everything[kept], section.train_subset, section.seed, ("image",))
        kept = kept[few_of_them]
    return _dataset(
        section, names, ready(train, kept), validation, device, lambda: ready(found.read("test")), found.missing_test
    )


def _digits(section: DataSection, device: torch.device) -> Dataset:
    refuse_validation(section)
    options = whole_numbers(section, DEFAULTS, LIMITS)
    side = section.size or SIDE

    def make(split: str) -> Part:
        images, masks = draw_masked(section.seed, split, options)
        larger = interpolate(torch.from_numpy(images)[:, None], size=(side, side), mode="bilinear")  # uint8 stays
        table = np.array([_corners(mask, side) for mask in masks], np.float32)[:, None]
        return Labelled.of(larger.expand(-1, 3, -1, -1).numpy(), np.zeros(len(images), np.int64)), table

    train = make("train")
    if section.train_subset is not None and section.train_subset < len(train[1]):
        taken, _ = stratified(np.zeros(len(train[1]), np.int64), section.train_subset, section.seed, ("image",))
        train = train[0].subset(taken), train[1][taken]
    return _dataset(section, CLASSES, train, make("validation"), device, lambda: make("test"), "")


def _corners(mask: NDArray[np.uint8], side: int) -> tuple[float, ...]:
    label, x, y, width, height = box_of(mask)
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return (label + 1, *(side * value for value in corners))


def _dataset(
    section: DataSection,
    names: tuple[str, ...],
    train: Part,
    validation: Part,
    device: torch.device,
    test: Callable[[], Part],
    missing: str,
) -> Dataset:
    def on_device(part: Part) -> BoxedSplit:
        labelled, table = part
        labels = torch.zeros(len(table), dtype=torch.int64, device=device)
        boxes = torch.from_numpy(table).to(device)
        return BoxedSplit(labelled.pixels.to(device), labels, len(names), MEAN, STD, boxes)

    for what, (_, table) in (("training", train), ("validation", validation)):
        if not (table[..., 0] > 0).any():
            raise DataError(f"{what} split of '{section.name}' has no image with a box")
    digest = hashlib.blake2b(digest_size=8)
    for labelled, table in (train, validation):
        digest.update(labelled.identity.tobytes())
        digest.update(table.tobytes())
    return Dataset(
        name=section.name,
        train=on_device(train),
        validation=on_device(validation),
        classes=names,
        input_shape=train[0].pixels.shape,
        digest=digest.hexdigest(),
        open_test=lambda: on_device(test()),
        missing_test=missing,
        validation_identity=validation[0].identity,
        task="detection",
    )

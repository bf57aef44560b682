"""What a user's images are: splits, classes, what is left out, and what would make scores
misleading.

`nas_attn.data.looks` takes an inventory. `init`, `search` and its `--dry-run` show it, and a study
keeps it for its report. Images are named by their paths in their folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nas_attn.errors import few, several
from nas_attn.recipe.sections import Fit, InputSize, height_and_width
from nas_attn.recipe.tables import Kind

# the name of the only split of images that are not divided
WHOLE = "all"
# value of a mask's pixels without a class: not used for training or scores
NOT_COUNTED = 255

# what the outputs of a network stand for, one and several
NAMED: Mapping[Kind, tuple[str, str]] = {
    "classes": ("class", "classes"),
    "tags": ("label", "labels"),
    "numbers": ("column", "columns"),
    "masks": ("class", "classes"),
    "boxes": ("class", "classes"),
}


@dataclass(frozen=True, slots=True)
class Remark:
    """What would make scores misleading, as a sentence that begins in lower case."""

    kind: str
    text: str


# the kind of the remark on bands that are not read
BANDED = "fourth_band"
# the kind of the remark on a value that may stand for pixels without data
NO_DATA = "no_data"
# bands whose values are told of
SHOWN_BANDS = 16
# side in pixels at the network's input, below which a detector hardly finds a box, and the one that
# is proposed
LEAST_BOX = 8.0
USUAL_BOX = 16.0
# share of the median image that a cut keeps at least, or it is not proposed
LEAST_KEPT = 0.6
# times that the widest tenth may be wider than the narrowest tenth for one shape to be proposed
ONE_SHAPE = 1.5
# sides that are proposed, from where most networks can halve them five times, and of what they are
# multiples
SIDES = (32, 1024)
STEP = 8
DETECTOR_STEP = 32


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes of images in pixels, as they are shown."""

    # medians
    width: float
    height: float
    # width over height: of the narrowest tenth at most, of the widest at least
    narrow: float
    wide: float
    # median share of an image that its middle square is
    square: float


@dataclass(frozen=True, slots=True)
class Boxes:
    """The sizes of boxes: square roots of their areas, medians."""

    # of the images as they are
    pixels: float
    # of an image's longer side
    share: float


@dataclass(frozen=True)
class Inventory:
    """The images of a folder, or of annotations."""

    classes: tuple[str, ...]
    # split (or WHOLE) -> class -> readable images
    counts: Mapping[str, Mapping[str, int]]
    # file -> why
    unreadable: Mapping[str, str]
    # reason -> files
    left_out: Mapping[str, Sequence[str]]
    cautions: tuple[Remark, ...]
    labels: Kind = "classes"
    # split -> the folders that `data.splits` names for it
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # None: no image can be read, or the study is from before they were kept; so for the rest
    shapes: Shapes | None = None
    boxes: Boxes | None = None
    # how images become the network's input; None: as its task has it
    size: InputSize | None = None
    fit: Fit = "cut"
    # bands of all images, if RGB leaves some out
    bands: int | None = None
    # `data.channels`: bands that are read
    channels: int | None = None
    # lines about several labels or numbers
    about: Sequence[str] = ()
    # lowest and highest value of each band, if there are bands
    ranges: Sequence[tuple[float, float]] = ()
    # `data.nodata`: the value of pixels without data
    nodata: float | None = None

    def proposed(
        self, usual: int, *, least: int = SIDES[0], step: int = STEP
    ) -> tuple[InputSize, Fit]:
        """Proposes `data.size` and `data.fit`.

        Small images are not enlarged beyond the least side. Images of one shape that is far from a
        square get that shape, with twice the pixels of a square at most; of many shapes, all of
        each is kept. Where boxes would be small at the usual side, it is larger, if that makes them
        large enough.

        Args:
            usual: The side in pixels that the task has for photographs.
            least: The smallest side.
            step: Of which the side of a square is a multiple, unless it is the usual one.
        """
        if self.boxes is not None:
            side = _multiple(USUAL_BOX / self.boxes.share, DETECTOR_STEP)
            reaches = self.boxes.share * SIDES[1] >= LEAST_BOX
            return max(usual, side) if reaches else usual, self.fit
        if self.shapes is None or self.labels == "boxes":
            return usual, self.fit
        shapes = self.shapes
        side = min(usual, max(least, _multiple(min(shapes.width, shapes.height), step)))
        if self.labels == "masks":
            # networks halve the sides four times and more
            side = max(side, usual // 2)
        if _kept(shapes, side) >= LEAST_KEPT:
            return side, "cut"
        if shapes.wide > ONE_SHAPE * shapes.narrow:
            return usual, "letterbox"
        ratio = math.sqrt(shapes.width / shapes.height)
        wide = min(math.sqrt(2) * side * ratio, shapes.width)
        high = min(math.sqrt(2) * side / ratio, shapes.height)
        return (_multiple(high, STEP), _multiple(wide, STEP)), "resize"

    @property
    def images(self) -> int:
        """All image files of the classes, the unreadable ones included."""
        return sum(sum(of.values()) for of in self.counts.values()) + len(self.unreadable)

    def described(self) -> list[str]:
        """Returns what images there are, and then what a person should know, in lines."""
        names = f"{NAMED[self.labels][1]}: {few(self.classes)}"
        lines = [self._count_line(), names, *self.about, *self._unreadable_lines()]
        if self.folders:
            parts = (f"{split} is {', '.join(names)}" for split, names in self.folders.items())
            lines.append(f"splits: {'; '.join(parts)}")
        if self.channels is not None:
            lines.append(
                f"bands: {self.channels}, read as they are; each is normalised by its own mean and"
                " deviation in the training images"
            )
        if self.ranges and (self.bands or self.channels):
            shown = [f"{low:.5g} to {high:.5g}" for low, high in self.ranges[:SHOWN_BANDS]]
            more = "; …" * (len(self.ranges) > SHOWN_BANDS)
            known = "" if self.nodata is None else f"; {self.nodata:.15g} counts as no data"
            lines.append(f"range of each band: {'; '.join(shown)}{more}{known}")
        lines += self._input_lines()
        for reason, files in self.left_out.items():
            lines.append(f"not read: {several(len(files), 'file')} {reason}, {few(files)}")
        answered = {BANDED: self.channels is not None, NO_DATA: self.nodata is not None}
        told = [caution for caution in self.cautions if not answered.get(caution.kind)]
        return [*lines, *(f"note: {caution.text}" for caution in told)]

    def _input_lines(self) -> Iterable[str]:
        """What the network gets of the images and their boxes."""
        if self.shapes is None:
            return
        shapes = self.shapes
        yield f"sizes: {shapes.width:,.0f} x {shapes.height:,.0f} pixels in the median"
        if self.labels != "boxes" and self.fit == "cut":
            kept = _kept(shapes, self.size or 1)
            if kept < LEAST_KEPT:
                yield (
                    f"note: the part that is cut out is {kept:.0%} of the median image, and the"
                    ' network never sees the rest: data.fit = "resize" or "letterbox" keeps all of'
                    " it, and data.size = [HEIGHT, WIDTH] its shape"
                )
        if self.boxes is not None and isinstance(self.size, int):
            at_input = self.boxes.share * self.size
            shown = f"{at_input:.0f}" if at_input >= USUAL_BOX else f"{at_input:.1f}"
            sizes = f"{self.boxes.pixels:.0f} pixels in the median, {shown} at the network's"
            yield f"boxes: {sizes} input of {self.size}"
            if at_input < LEAST_BOX:
                # in which the median box has the size that is proposed
                tile = int(self.boxes.pixels * self.size / USUAL_BOX)
                yield (
                    f"note: boxes of {shown} pixels are hard to find: cut the images into tiles of"
                    f" {tile:,} pixels, or give a larger data.size, up to {SIDES[1]}"
                )

    def _count_line(self) -> str:
        """`2 classes, 20 images (train: 10, validation: 10), 1 unreadable (left out)`."""
        drawn = {"masks": " with masks", "boxes": " with boxes"}.get(self.labels, "")
        images = f"{self.images:,} images{drawn}"
        if len(self.counts) > 1:
            parts = [f"{split}: {sum(of.values()):,}" for split, of in self.counts.items()]
            images += f" ({', '.join(parts)})"
        classes = f"{len(self.classes)} {NAMED[self.labels][len(self.classes) != 1]}"
        left_out = " (left out)" if self.unreadable else ""
        return f"{classes}, {images}, {len(self.unreadable)} unreadable{left_out}"

    def _unreadable_lines(self) -> Iterable[str]:
        """The unreadable files by reason, the most frequent first."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.unreadable.items():
            by_reason.setdefault(why, []).append(name)
        for why, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
            yield f"unreadable: {several(len(names), 'file')}, {why}: {few(names)}"


def _multiple(pixels: float, step: int) -> int:
    """The next multiple of a step from so many pixels on."""
    return min(SIDES[1], max(SIDES[0], step * math.ceil(pixels / step)))


def _kept(shapes: Shapes, size: InputSize) -> float:
    """The share of the median image that a cut to this shape keeps."""
    high, wide = height_and_width(size)
    if high == wide:
        return shapes.square
    ratio = (shapes.width / shapes.height) * (high / wide)
    return min(ratio, 1 / ratio)


@dataclass(frozen=True, slots=True)
class Division:
    """How many images each seed trains on and validates with, where it divides them anew."""

    trained: int
    validated: int


@dataclass(frozen=True, slots=True)
class StudyImages:
    """What the images of a study were when it began."""

    # None: the images are not the user's own
    inventory: Inventory | None = None
    # None: there is one division for all seeds
    division: Division | None = None

    def described(self) -> list[str]:
        """Returns what the images were, in lines."""
        lines = [] if self.inventory is None else self.inventory.described()
        if self.division is not None:
            lines.append(
                f"each seed divides these anew: {self.division.trained:,} images to train on,"
                f" {self.division.validated:,} for validation; the test images stay"
            )
        return lines

"""What a user's images are: splits, classes, what is left out, and what would make scores
misleading.

`nas_attn.data.taking` takes an inventory. `init`, `search` and its `--dry-run` show it, and a study
keeps it for its report. Images are named by their paths in their folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from nas_attn.errors import few, several
from nas_attn.recipe.tables import Kind

# the name of the only split of images that are not divided
WHOLE = "all"
# value of a mask's pixels without a class: not used for training or scores
NOT_COUNTED = 255
# bits of a value in a file with more than 8, if all of them are used
FULL_BITS = 16
# of unreadable files
SHOWN_REASONS = 5
# what masks and boxes are drawn on: an image as its file stores it, or as EXIF data say it is shown
DrawnOn = Literal["stored", "shown"]


@dataclass(frozen=True, slots=True)
class Remark:
    """What would make scores misleading, as a sentence that begins in lower case."""

    kind: str
    text: str


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
    # studies from before have facts, the kind among them, in place of a sentence
    cautions: tuple[Remark | Mapping[str, Any], ...]
    labels: Kind = "classes"
    # split -> the folders that `data.splits` names for it
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # bits that the training images with more than 8 use; FULL_BITS: all, or the images have 8
    bits: int = FULL_BITS

    @property
    def images(self) -> int:
        """All image files of the classes, the unreadable ones included."""
        return sum(sum(of.values()) for of in self.counts.values()) + len(self.unreadable)

    def described(self) -> list[str]:
        """Returns what images there are, and then what a person should know, in lines."""
        lines = [self._count_line(), f"classes: {few(self.classes)}", *self._unreadable_lines()]
        if self.folders:
            parts = (f"{split} is {', '.join(names)}" for split, names in self.folders.items())
            lines.append(f"splits: {'; '.join(parts)}")
        if self.bits < FULL_BITS:
            lines.append(
                f"bits: {self.bits} of {FULL_BITS} in use, so {(1 << self.bits) - 1:,} is white;"
                " data.bits changes it"
            )
        for reason, files in self.left_out.items():
            lines.append(f"not read: {several(len(files), 'file')} {reason}, {few(files)}")
        for caution in self.cautions:
            if isinstance(caution, Remark):
                lines.append(f"note: {caution.text}")
            else:
                facts = (f"{name} {value}" for name, value in caution.items() if name != "kind")
                lines.append(f"note: {caution['kind'].replace('_', ' ')}: {', '.join(facts)}")
        return lines

    def _count_line(self) -> str:
        """`2 classes, 20 images (train: 10, validation: 10), 1 unreadable (left out)`."""
        by_split = {split: sum(of.values()) for split, of in self.counts.items()}
        if self.labels == "boxes":
            parts = [f"{split}: {count:,} images" for split, count in by_split.items()]
            images = f"{', '.join(parts)} with boxes"
        else:
            images = f"{self.images:,} images{' with masks' if self.labels == 'masks' else ''}"
            if len(by_split) > 1:
                parts = [f"{split}: {count:,}" for split, count in by_split.items()]
                images += f" ({', '.join(parts)})"
        classes = f"{len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}"
        left_out = " (left out)" if self.unreadable else ""
        return f"{classes}, {images}, {len(self.unreadable)} unreadable{left_out}"

    def _unreadable_lines(self) -> Iterable[str]:
        """The unreadable files by reason, the most frequent first."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.unreadable.items():
            by_reason.setdefault(why, []).append(name)
        ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
        for why, names in ordered[:SHOWN_REASONS]:
            yield f"unreadable: {several(len(names), 'file')}, {why}: {few(names)}"
        rest = sum(len(names) for _, names in ordered[SHOWN_REASONS:])
        if rest:
            yield f"unreadable: {several(rest, 'file')} more, for other reasons"


@dataclass(frozen=True, slots=True)
class Division:
    """How many images each seed trains on and validates with, where it divides them anew."""

    trained: int
    validated: int


@dataclass(frozen=True, slots=True)
class StudyImages:
    """What the images of a study were when it began."""

    # None: the images are not the user's own, or the study is from before facts were kept
    inventory: Inventory | None = None
    # None: there is one division for all seeds
    division: Division | None = None
    # what a study from before has in place of facts
    lines: tuple[str, ...] = ()

    def described(self) -> list[str]:
        """Returns what the images were, in lines."""
        lines = list(self.lines)
        if self.inventory is not None:
            lines += self.inventory.described()
        if self.division is not None:
            lines.append(
                f"each seed divides these anew: {self.division.trained:,} images to train on,"
                f" {self.division.validated:,} for validation; the test images stay"
            )
        return lines

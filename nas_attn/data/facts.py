"""What is known of a user's images before a network sees them: splits, classes, what is left out,
and what would make scores misleading. `nas_attn.data` finds it, `nas_attn.words.images` says it.

Images are named by their paths in their folder. A study keeps these facts as JSON, each remark with
its `kind`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

# the name of the only split of images that are not divided
WHOLE = "all"
# value of a mask's pixels without a class: not used for training or scores
NOT_COUNTED = 255
# bits of a value in a file with more than 8, if all of them are used
FULL_BITS = 16
# what images have in place of classes of their own
LabelKind = Literal["classes", "masks", "boxes"]
# what masks and boxes are drawn on: an image as its file stores it, or as EXIF data say it is shown
DrawnOn = Literal["stored", "shown"]
# two images: one, and the one that it is compared with
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FilesInTwoSplits:
    """Annotations name some files in more than one split."""

    files: int
    example: str
    # of the example
    splits: tuple[str, ...]
    kind: Literal["files_in_two_splits"] = "files_in_two_splits"


@dataclass(frozen=True, slots=True)
class Copies:
    """Files with the same pixels."""

    # that have copies
    images: int
    # those of all copies
    files: int
    example: Pair
    # where copies are: in two splits, in two classes, or in a split that a division may part
    place: Literal["splits", "classes", "parted"]
    # whether groups can keep them together
    by_groups: bool = True
    kind: Literal["copies"] = "copies"


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Images that are nearly equal to another one."""

    images: int
    example: Pair
    # the other one is in another split, or a division may part the two
    place: Literal["splits", "parted"]
    # whether groups can keep them together
    by_groups: bool = True
    kind: Literal["near_copies"] = "near_copies"


@dataclass(frozen=True, slots=True)
class OneColour:
    """Images that show nothing."""

    images: int
    example: str
    kind: Literal["one_colour"] = "one_colour"


@dataclass(frozen=True, slots=True)
class SeveralPages:
    """Files with several pages or frames, of which one is read."""

    files: tuple[str, ...]
    kind: Literal["several_pages"] = "several_pages"


@dataclass(frozen=True, slots=True)
class TurnedImages:
    """EXIF data turn or mirror images, and nothing tells what their labels are drawn on."""

    images: int
    example: str
    labels: Literal["masks", "boxes"]
    # as is usual
    taken: DrawnOn
    kind: Literal["turned_images"] = "turned_images"


@dataclass(frozen=True, slots=True)
class SharedNames:
    """Names that say that images belong together, as those of one patient."""

    names: int
    example: Pair
    # what the names of the example share
    shared: str
    # the images are in two splits, or a division may part them
    place: Literal["splits", "parted"]
    # expression of `data.groups` that keeps them together; empty: groups cannot
    pattern: str = ""
    kind: Literal["shared_names"] = "shared_names"


@dataclass(frozen=True, slots=True)
class SameNames:
    """Files whose names differ only in case or Unicode form."""

    files: int
    example: Pair
    kind: Literal["same_names"] = "same_names"


@dataclass(frozen=True, slots=True)
class UnknownClasses:
    """Classes of a split that the training images do not have, so that no network can learn
    them.
    """

    split: str
    classes: tuple[str, ...]
    kind: Literal["unknown_classes"] = "unknown_classes"


@dataclass(frozen=True, slots=True)
class LackingClasses:
    """Classes without an image in a split."""

    split: str
    classes: tuple[str, ...]
    kind: Literal["lacking_classes"] = "lacking_classes"


@dataclass(frozen=True, slots=True)
class UnequalClasses:
    """One class is far smaller than the largest."""

    smallest: str
    images: int
    largest: str
    most: int
    kind: Literal["unequal_classes"] = "unequal_classes"


@dataclass(frozen=True, slots=True)
class FewOfClass:
    """A class has few images to be scored on."""

    name: str
    images: int
    # the division is not made yet, and may take one more or less
    estimated: bool
    # whether the largest class has hardly more; studies that were begun before do not say it
    alike: bool = False
    kind: Literal["few_of_class"] = "few_of_class"


@dataclass(frozen=True, slots=True)
class ClassInFolder:
    """Images of one class lie in a folder with another class's name."""

    folder: str
    counted_as: str
    name: str
    kind: Literal["class_in_folder"] = "class_in_folder"


@dataclass(frozen=True, slots=True)
class ClassesBelow:
    """Two classes have the same folders in them, which may be the classes."""

    classes: tuple[str, ...]
    alike: Pair
    shared: tuple[str, ...]
    # the folder around them
    parent: str
    kind: Literal["classes_below"] = "classes_below"


@dataclass(frozen=True, slots=True)
class UndrawnClasses:
    """No mask of a split has a pixel of these classes."""

    split: str
    classes: tuple[str, ...]
    # whether masks have the value that counts as no class
    uncounted: bool
    kind: Literal["undrawn_classes"] = "undrawn_classes"


@dataclass(frozen=True, slots=True)
class WithoutBoxes:
    """Images without a box."""

    split: str
    images: tuple[str, ...]
    kind: Literal["without_boxes"] = "without_boxes"


@dataclass(frozen=True, slots=True)
class UnreadLabels:
    """Files that look like labels, where ultralytics does not look."""

    split: str
    files: tuple[str, ...]
    kind: Literal["unread_labels"] = "unread_labels"


@dataclass(frozen=True, slots=True)
class Polygons:
    """Labels that are polygons, from which a detector learns boxes."""

    split: str
    number: int
    kind: Literal["polygons"] = "polygons"


@dataclass(frozen=True, slots=True)
class RepeatedLabels:
    """Labels that a file has twice."""

    split: str
    number: int
    kind: Literal["repeated_labels"] = "repeated_labels"


ImageRemark = Annotated[
    FilesInTwoSplits
    | Copies
    | NearCopies
    | OneColour
    | SeveralPages
    | TurnedImages
    | SharedNames
    | SameNames
    | UnknownClasses
    | LackingClasses
    | UnequalClasses
    | FewOfClass
    | ClassInFolder
    | ClassesBelow
    | UndrawnClasses
    | WithoutBoxes
    | UnreadLabels
    | Polygons
    | RepeatedLabels,
    Field(discriminator="kind"),
]


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
    # what makes scores misleading
    cautions: tuple[ImageRemark, ...]
    labels: LabelKind = "classes"
    # split -> the folders that `data.splits` names for it
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # bits that the training images with more than 8 use; FULL_BITS: all, or the images have 8
    bits: int = FULL_BITS

    @property
    def images(self) -> int:
        """All image files of the classes, the unreadable ones included."""
        return sum(sum(of.values()) for of in self.counts.values()) + len(self.unreadable)


@dataclass(frozen=True, slots=True)
class Division:
    """How each seed divides the images anew."""

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


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What is seen of the images before there is a recipe."""

    # None: the images are not the user's own, or cannot be looked at yet
    inventory: Inventory | None = None
    # why they cannot be used as they are, which the recipe may correct; else empty
    problem: str = ""
    # training images, where they are few for a YOLO from random weights
    few_for_yolo: float | None = None

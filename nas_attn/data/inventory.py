"""What a user's images are: splits, classes, what is left out, and what would make scores
misleading.

`nas_attn.data.taking` takes an inventory. `init`, `search` and its `--dry-run` show it, and a study
keeps it for its report. Images are named by their paths in their folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
# What makes scores misleading, in JSON's types: its `kind`, and what SENTENCES needs to say it.
Remark = Mapping[str, Any]


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
        return lines + [f"note: {remark_text(remark)}" for remark in self.cautions]

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


def remark_text(remark: Remark) -> str:
    """Returns a remark as a sentence that begins in lower case."""
    facts = dict(remark)
    return SENTENCES[facts.pop("kind")](**facts)


def _kept_together(by_groups: bool) -> str:
    if by_groups:
        return "remove them, or keep them together with data.groups"
    return "give validation a file of its own without them, or leave out one"


def _copies(
    images: int, files: int, example: Sequence[str], place: str, by_groups: bool = True
) -> str:
    one, other = example
    copied = f"{several(images, 'image')} with copies of the same pixels"
    if files != 2 * images:
        # some have more than one copy
        copied += f" ({files:,} files)"
    if place == "splits":
        return (
            f"{copied} in two splits, such as '{one}' and '{other}': scores on them tell nothing"
            " about new images; leave them out of one split"
        )
    if place == "classes":
        return (
            f"{copied} in two classes, such as '{one}' and '{other}': no network can be right about"
            " both; leave them out of one class"
        )
    return (
        f"{copied}, such as '{one}' and '{other}', which may come into two splits:"
        f" {_kept_together(by_groups)}"
    )


def _near_copies(images: int, example: Sequence[str], place: str, by_groups: bool = True) -> str:
    one, other = example
    alike = f"{several(images, 'image')} nearly equal to"
    if place == "splits":
        return (
            f"{alike} one of another split, such as '{one}' and '{other}': if they are one"
            " photograph, scaled or saved again, leave them out of one split"
        )
    return (
        f"{alike} another one, such as '{one}' and '{other}', which may come into two splits: if"
        f" they are of one scene, {_kept_together(by_groups)}"
    )


def _shared_names(
    names: int, example: Sequence[str], shared: str, place: str, pattern: str = ""
) -> str:
    one, other = example
    by_images = f"{several(names, 'name')} shared by images"
    origin = f"such as '{one}' and '{other}': if '{shared}' is one photograph, film or patient"
    if place == "splits":
        return (
            f"{by_images} of two splits, {origin}, scores on it tell nothing about new ones; put"
            " its images into one split"
        )
    way_out = _kept_together(by_groups=False)
    if pattern:
        way_out = f"keep its images together with data.groups = {{ pattern = '{pattern}' }}"
    return f"{by_images} that may come into two splits, {origin}, {way_out}"


def _turned_images(images: int, example: str, labels: str, taken: DrawnOn) -> str:
    way_out = "if it was the image as stored, remove the tag"
    if taken == "stored":
        way_out = "if it was the image as shown, save it turned, without the tag"
    return (
        f"{several(images, 'image')} that EXIF data turn or mirror, such as '{example}', and the"
        f" sizes do not tell what {labels} were drawn on: the image as {taken} is taken; {way_out}"
    )


def _undrawn_classes(split: str, classes: Sequence[str], uncounted: bool) -> str:
    of_split = "" if split == WHOLE else f" of {split}"
    sentence = f"no mask{of_split} has a pixel of class {few(classes)}"
    if uncounted:
        sentence += (
            f"; the value {NOT_COUNTED} counts as no class: if it stands for one, write that"
            " class's number"
        )
    return sentence


# what hides small classes, and the way out
_BALANCED = (
    'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'
)


def _few_of_class(name: str, images: int, estimated: bool, alike: bool = False) -> str:
    about = "about " if estimated else ""
    only = f"class '{name}' has {about}{several(images, 'validation image')}, and"
    if alike:
        return f"{only} the others hardly more: add images, so that small gains can be seen"
    return f"{only} accuracy hides small classes; {_BALANCED}"


def _refused(split: str) -> str:
    return f"{'the final test' if split == 'test' else 'the search'} will be refused"


# kind of remark -> its sentence, of facts as studies keep them
SENTENCES: Mapping[str, Callable[..., str]] = {
    "files_in_two_splits": lambda files, example, splits: (
        f"{several(files, 'file')} in two splits at once, such as '{example}' in"
        f" {' and '.join(splits)}: scores on them tell nothing about new images; give each split"
        " images of its own"
    ),
    "copies": _copies,
    "near_copies": _near_copies,
    "shared_names": _shared_names,
    "one_colour": lambda images, example: (
        f"{several(images, 'image')} of one colour all over, such as '{example}', which show"
        " nothing; what is transparent is white here"
    ),
    "several_pages": lambda files: (
        f"{several(len(files), 'file')} with several pages or frames ({few(files)}): only the first"
        " of each is read; save the others as files of their own if they are to count"
    ),
    "turned_images": _turned_images,
    "same_names": lambda files, example: (
        f"{several(files, 'file')} whose name differs from another one's only in case or Unicode"
        f" form, such as '{example[0]}' and '{example[1]}': on Windows and macOS, one of the two"
        " replaces the other; rename them"
    ),
    "unknown_classes": lambda split, classes: (
        f"{split} has the class {few(classes)}, which train has not: {_refused(split)}; add it to"
        " train, or move it out of the folder"
    ),
    "lacking_classes": lambda split, classes: (
        f"{split} has no image of class {few(classes)}: {_refused(split)}; add some"
    ),
    "unequal_classes": lambda smallest, images, largest, most: (
        f"class '{smallest}' has {several(images, 'image')} and '{largest}' {most:,}: accuracy"
        f" hides the smallest class; {_BALANCED}"
    ),
    "few_of_class": _few_of_class,
    "class_in_folder": lambda folder, counted_as, name: (
        f"the images in '{folder}' count as '{counted_as}', although '{name}' is a class, too: move"
        " them if that is wrong"
    ),
    "classes_below": lambda classes, alike, shared, parent: (
        f"the classes are {few(classes)}, and {few(alike)} have the same folders in them,"
        f" {few(shared)}: if these are the classes, give the folder around them, {parent}, or name"
        " those for each split with data.splits"
    ),
    "undrawn_classes": _undrawn_classes,
    "without_boxes": lambda split, images: (
        f"{several(len(images), 'image')} of {split} without a box ({few(images)}): they count as"
        " images that show none of the classes"
    ),
    "unread_labels": lambda split, files: (
        f"{several(len(files), 'file')} that may be labels of {split} not read ({few(files)}):"
        " ultralytics looks in the folder labels beside images, and for .txt; move or rename them"
    ),
    "polygons": lambda split, number: (
        f"{several(number, 'polygon')} in the labels of {split}: a detector learns the boxes round"
        " them"
    ),
    "repeated_labels": lambda split, number: (
        f"{several(number, 'label')} of {split} twice, counted once"
    ),
}

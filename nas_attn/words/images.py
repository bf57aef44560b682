"""What is said of a user's images before a network sees them: how many, which classes, what is left
out, and what would make scores misleading.
"""

from __future__ import annotations

from nas_attn.data.facts import (
    FULL_BITS,
    NOT_COUNTED,
    WHOLE,
    ClassesBelow,
    ClassInFolder,
    Copies,
    Division,
    FewOfClass,
    FilesInTwoSplits,
    FirstLook,
    ImageRemark,
    Inventory,
    LackingClasses,
    NearCopies,
    OneColour,
    Polygons,
    RepeatedLabels,
    SameNames,
    SeveralPages,
    SharedNames,
    StudyImages,
    TurnedImages,
    UndrawnClasses,
    UnequalClasses,
    UnknownClasses,
    UnreadLabels,
    WithoutBoxes,
)
from nas_attn.errors import few, several

# of unreadable files
SHOWN_REASONS = 5
GROUPS = "remove them, or keep them together with data.groups"
SEPARATE_FILE = "give validation a file of its own without them, or leave out one"
BALANCED = 'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'


def inventory_text(inventory: Inventory) -> str:
    """The inventory's lines as one text."""
    return "\n".join(inventory_lines(inventory))


def inventory_lines(inventory: Inventory) -> list[str]:
    """What images there are; then what a person should know."""
    lines = [
        _count_line(inventory),
        f"classes: {few(inventory.classes)}",
        *_unreadable_lines(inventory),
    ]
    if inventory.folders:
        parts = (f"{split} is {', '.join(names)}" for split, names in inventory.folders.items())
        lines.append(f"splits: {'; '.join(parts)}")
    if inventory.bits < FULL_BITS:
        lines.append(
            f"bits: {inventory.bits} of {FULL_BITS} in use, so {(1 << inventory.bits) - 1:,} is"
            " white; data.bits changes it"
        )
    for reason, files in inventory.left_out.items():
        lines.append(f"not read: {several(len(files), 'file')} {reason}, {few(files)}")
    lines += [f"note: {image_remark_text(remark)}" for remark in inventory.cautions]
    return lines


def study_images_lines(images: StudyImages | None) -> list[str]:
    """What the images of a study were when it began; empty if nothing is kept."""
    if images is None:
        return []
    lines = list(images.lines)
    if images.inventory is not None:
        lines += inventory_lines(images.inventory)
    if images.division is not None:
        lines.append(_division_line(images.division))
    return lines


def unchecked_text(why: str, data: str) -> str:
    """That a change of the images may not be noticed. `why`: as a study keeps it; `data`: their
    name.
    """
    match why:
        case "evaluator":
            return _read_by("the evaluator")
        case "trainer":
            return _read_by("the task's trainer")
        case "content":
            return (
                "whether the images change is checked by their number and labels only, since"
                f" '{data}' gives others at each reading"
            )
    # the sentence of a study from before
    return why


def _read_by(who: str) -> str:
    return f"whether the images change cannot be checked, since {who} reads them itself"


def first_look_text(look: FirstLook) -> str:
    """What `init` says of the images; empty if there is nothing to say."""
    lines = []
    if look.problem:
        lines.append(look.problem)
    if look.inventory is not None:
        lines.append(inventory_text(look.inventory))
    if look.few_for_yolo is not None:
        lines.append(
            f"note: {look.few_for_yolo:.0f} images are few for a YOLO from random weights: if it"
            " scores 0, give its .pt as the backbone"
        )
    return "\n".join(lines)


def image_remark_text(remark: ImageRemark) -> str:
    """What makes scores misleading, in a sentence that begins in lower case."""
    match remark:
        case FilesInTwoSplits(files, example, splits):
            return (
                f"{several(files, 'file')} in two splits at once, such as '{example}' in"
                f" {' and '.join(splits)}: scores on them tell nothing about new images; give each"
                " split images of its own"
            )
        case Copies():
            return _copies_text(remark)
        case NearCopies():
            return _near_copies_text(remark)
        case OneColour() | SeveralPages() | TurnedImages():
            return _looks_text(remark)
        case SharedNames():
            return _shared_names_text(remark)
        case SameNames(files, (one, other)):
            return (
                f"{several(files, 'file')} whose name differs from another one's only in case or"
                f" Unicode form, such as '{one}' and '{other}': on Windows and macOS, one of the"
                " two replaces the other; rename them"
            )
        case UndrawnClasses(split, classes, uncounted):
            return _undrawn_text(split, few(classes), uncounted=uncounted)
        case WithoutBoxes() | UnreadLabels() | Polygons() | RepeatedLabels():
            return _boxes_text(remark)
        case _:
            return _classes_text(remark)


def _count_line(inventory: Inventory) -> str:
    """`2 classes, 20 images (train: 10, validation: 10), 1 unreadable (left out)`."""
    classes = "1 class"
    if len(inventory.classes) != 1:
        classes = f"{len(inventory.classes)} classes"
    by_split = {split: sum(of.values()) for split, of in inventory.counts.items()}
    if inventory.labels == "boxes":
        parts = [f"{split}: {count:,} images" for split, count in by_split.items()]
        images = f"{', '.join(parts)} with boxes"
    else:
        images = f"{inventory.images:,} images"
        if inventory.labels == "masks":
            images += " with masks"
        if len(by_split) > 1:
            parts = [f"{split}: {count:,}" for split, count in by_split.items()]
            images += f" ({', '.join(parts)})"
    unreadable = f"{len(inventory.unreadable)} unreadable"
    if inventory.unreadable:
        unreadable += " (left out)"
    return f"{classes}, {images}, {unreadable}"


def _unreadable_lines(inventory: Inventory) -> list[str]:
    """The unreadable files by reason, the most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for name, why in inventory.unreadable.items():
        by_reason.setdefault(why, []).append(name)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    lines = [
        f"unreadable: {several(len(names), 'file')}, {why}: {few(names)}"
        for why, names in ordered[:SHOWN_REASONS]
    ]
    rest = ordered[SHOWN_REASONS:]
    if rest:
        count = sum(len(names) for _, names in rest)
        lines.append(f"unreadable: {several(count, 'file')} more, for other reasons")
    return lines


def _division_line(division: Division) -> str:
    return (
        f"each seed divides these anew: {division.trained:,} images to train on,"
        f" {division.validated:,} for validation; the test images stay"
    )


def _copies_text(copies: Copies) -> str:
    copied = f"{several(copies.images, 'image')} with copies of the same pixels"
    if copies.files != 2 * copies.images:
        # some have more than one copy
        copied += f" ({copies.files:,} files)"
    one, other = copies.example
    pair = f"'{one}' and '{other}'"
    if copies.place == "splits":
        return (
            f"{copied} in two splits, such as {pair}: scores on them tell nothing about new images;"
            " leave them out of one split"
        )
    if copies.place == "classes":
        return (
            f"{copied} in two classes, such as {pair}: no network can be right about both; leave"
            " them out of one class"
        )
    way_out = GROUPS if copies.by_groups else SEPARATE_FILE
    return f"{copied}, such as {pair}, which may come into two splits: {way_out}"


def _near_copies_text(copies: NearCopies) -> str:
    one, other = copies.example
    example = f"such as '{one}' and '{other}'"
    alike = f"{several(copies.images, 'image')} nearly equal to"
    if copies.place == "splits":
        return (
            f"{alike} one of another split, {example}: if they are one photograph, scaled or saved"
            " again, leave them out of one split"
        )
    way_out = GROUPS if copies.by_groups else SEPARATE_FILE
    return (
        f"{alike} another one, {example}, which may come into two splits: if they are of one scene,"
        f" {way_out}"
    )


def _looks_text(remark: OneColour | SeveralPages | TurnedImages) -> str:
    match remark:
        case OneColour(images, example):
            return (
                f"{several(images, 'image')} of one colour all over, such as '{example}', which"
                " show nothing; what is transparent is white here"
            )
        case SeveralPages(files):
            return (
                f"{several(len(files), 'file')} with several pages or frames ({few(files)}): only"
                " the first of each is read; save the others as files of their own if they are to"
                " count"
            )
        case TurnedImages():
            return _turned_text(remark)


def _turned_text(remark: TurnedImages) -> str:
    unclear = (
        f"{several(remark.images, 'image')} that EXIF data turn or mirror, such as"
        f" '{remark.example}', and the sizes do not tell what {remark.labels} were drawn on"
    )
    if remark.taken == "stored":
        return (
            f"{unclear}: the image as stored is taken; if it was the image as shown, save it"
            " turned, without the tag"
        )
    return f"{unclear}: the image as shown is taken; if it was the image as stored, remove the tag"


def _shared_names_text(remark: SharedNames) -> str:
    one, other = remark.example
    shared = f"{several(remark.names, 'name')} shared by images"
    origin = f"if '{remark.shared}' is one photograph, film or patient"
    if remark.place == "splits":
        return (
            f"{shared} of two splits, such as '{one}' and '{other}': {origin}, scores on it tell"
            " nothing about new ones; put its images into one split"
        )
    way_out = SEPARATE_FILE
    if remark.pattern:
        way_out = f"keep its images together with data.groups = {{ pattern = '{remark.pattern}' }}"
    return (
        f"{shared} that may come into two splits, such as '{one}' and '{other}': {origin},"
        f" {way_out}"
    )


def _undrawn_text(split: str, classes: str, *, uncounted: bool) -> str:
    of_split = "" if split == WHOLE else f" of {split}"
    sentence = f"no mask{of_split} has a pixel of class {classes}"
    if uncounted:
        sentence += (
            f"; the value {NOT_COUNTED} counts as no class: if it stands for one, write that"
            " class's number"
        )
    return sentence


def _boxes_text(remark: WithoutBoxes | UnreadLabels | Polygons | RepeatedLabels) -> str:
    match remark:
        case WithoutBoxes(split, images):
            return (
                f"{several(len(images), 'image')} of {split} without a box ({few(images)}): they"
                " count as images that show none of the classes"
            )
        case UnreadLabels(split, files):
            return (
                f"{several(len(files), 'file')} that may be labels of {split} not read"
                f" ({few(files)}): ultralytics looks in the folder labels beside images, and for"
                " .txt; move or rename them"
            )
        case Polygons(split, number):
            return (
                f"{several(number, 'polygon')} in the labels of {split}: a detector learns the"
                " boxes round them"
            )
        case RepeatedLabels(split, number):
            return f"{several(number, 'label')} of {split} twice, counted once"


def _classes_text(
    remark: UnknownClasses
    | LackingClasses
    | UnequalClasses
    | FewOfClass
    | ClassInFolder
    | ClassesBelow,
) -> str:
    match remark:
        case UnknownClasses(split, classes):
            return (
                f"{split} has the class {few(classes)}, which train has not: {_refused(split)} will"
                " be refused; add it to train, or move it out of the folder"
            )
        case LackingClasses(split, classes):
            return (
                f"{split} has no image of class {few(classes)}: {_refused(split)} will be refused;"
                " add some"
            )
        case UnequalClasses(smallest, images, largest, most):
            return (
                f"class '{smallest}' has {several(images, 'image')} and '{largest}' {most:,}:"
                f" accuracy hides the smallest class; {BALANCED}"
            )
        case FewOfClass(name, images, estimated, alike):
            about = "about " if estimated else ""
            only = f"{about}{several(images, 'validation image')}"
            if alike:
                return (
                    f"class '{name}' has {only}, and the others hardly more: add images, so that"
                    " small gains can be seen"
                )
            return f"class '{name}' has {only}, and accuracy hides small classes; {BALANCED}"
        case ClassInFolder(folder, counted_as, name):
            return (
                f"the images in '{folder}' count as '{counted_as}', although '{name}' is a class,"
                " too: move them if that is wrong"
            )
        case ClassesBelow(classes, alike, shared, parent):
            return (
                f"the classes are {few(classes)}, and {few(alike)} have the same folders in them,"
                f" {few(shared)}: if these are the classes, give the folder around them, {parent},"
                " or name those for each split with data.splits"
            )


def _refused(split: str) -> str:
    return "the final test" if split == "test" else "the search"

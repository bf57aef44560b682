"""What the images of a recipe are: splits, classes, images, what is left out and why, and what
would make scores misleading. `init`, `search`, its `--dry-run` and the report show the same one.

All files are opened, those of the test too, but no network sees them here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas_attn.data import coco, image_names, masks, yolo
from nas_attn.data.class_counts import (
    WHOLE,
    check_counts,
    lacking_classes,
    small_classes,
    unknown_classes,
)
from nas_attn.data.class_folders import class_names, classes_problem
from nas_attn.data.copies import GROUPS, Seen, cautions, look_at
from nas_attn.data.decoding import NOT_COUNTED
from nas_attn.data.depth import FULL_BITS
from nas_attn.data.folder import bits_in_use, image_folder
from nas_attn.data.walking import Layout, layout, walk
from nas_attn.data.yolo_labels import LabelFiles, labels_file, read_labels
from nas_attn.errors import DataError, few, several
from nas_attn.recipe import DataSection, SplitsSection
from nas_attn.tables import Kind

LOOSE = "outside the class folders"
UNNAMED = "in folders of no split"
LONE_MASKS = "which are masks without an image"
ALONE = "give validation a file of its own without them, or leave out one"
BOXED = "with boxes"
# of unreadable files
SHOWN_REASONS = 5
# the name of the only class of images that have none of their own
ANY = ""


@dataclass(frozen=True)
class Inventory:
    """The images of a folder, or of annotations. Files are named by their paths in it."""

    classes: tuple[str, ...]
    # split (or `all`) -> class -> readable images
    counts: Mapping[str, Mapping[str, int]]
    # file -> why
    unreadable: Mapping[str, str]
    # reason -> files
    left_out: Mapping[str, Sequence[str]]
    # sentences about what makes scores misleading
    cautions: tuple[str, ...]
    # `with masks`, `with boxes`; empty: by class
    labelled: str = ""
    # split -> the folders that `data.splits` names for it
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # bits that the training images with 16 use; 16: all of them, or the images have 8
    bits: int = FULL_BITS

    @property
    def images(self) -> int:
        """All image files of the classes, the unreadable ones included."""
        return sum(sum(of.values()) for of in self.counts.values()) + len(self.unreadable)

    def lines(self) -> list[str]:
        """What images there are; then what a person should know."""
        unread = len(self.unreadable)
        first = "1 class, "
        if len(self.classes) != 1:
            first = f"{len(self.classes)} classes, "
        by_split = {split: sum(of.values()) for split, of in self.counts.items()}
        if self.labelled == BOXED:
            parts = (f"{split}: {count:,} images" for split, count in by_split.items())
            first += f"{', '.join(parts)} {BOXED}"
        else:
            first += " ".join([f"{self.images:,} images", *filter(None, [self.labelled])])
            if len(by_split) > 1:
                parts = (f"{split}: {count:,}" for split, count in by_split.items())
                first += f" ({', '.join(parts)})"
        first += f", {unread} unreadable"
        if unread:
            first += " (left out)"
        lines = [first, f"classes: {few(self.classes)}", *self._unreadable_lines()]
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
        lines += [f"note: {caution}" for caution in self.cautions]
        # of classes, too
        return [_shown(line) for line in lines]

    def _unreadable_lines(self) -> list[str]:
        """The unreadable files by reason, the most frequent first."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.unreadable.items():
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

    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines())


@dataclass(frozen=True)
class _Place:
    """An image file, and where it counts."""

    split: str
    label: str
    path: Path


def of(section: DataSection, labels: Kind) -> Inventory | None:
    """The inventory of a recipe's data; None for data that are not images of the user's in files.
    Raises DataError: they are not as the task needs them.
    """
    source, colon, place = section.name.partition(":")
    if source == "folder" and labels == "classes":
        return take(place, grouped=section.groups is not None, splits=section.splits)
    if source == "folder" and labels == "masks":
        return take_masked(place, grouped=section.groups is not None, splits=section.splits)
    if source == "coco" and colon:
        return take_boxed(section)
    if source == "yolo" and colon:
        return take_yolo(section)
    return None


def take(path: str, *, grouped: bool = False, splits: SplitsSection | None = None) -> Inventory:
    """The inventory of `folder:PATH` by class; `grouped`: groups keep images together; `splits`:
    which of its folders train, validate and test. Raises DataError: no classes, too few images of
    one, or a layout that can be read in two ways.
    """
    root = image_folder(DataSection(name=f"folder:{path}"))
    found = layout(root, splits)
    classes = class_names(found.train)
    if problem := classes_problem(found.train, classes):
        raise DataError(problem)
    places: list[_Place] = []
    for split, folders in (found.splits or {WHOLE: (root,)}).items():
        for folder, name in itertools.product(folders, classes):
            places += [_Place(split, name, image) for image in walk(folder / name).images]
    everything = walk(root)
    left_out = {reason: _below(root, paths) for reason, paths in everything.left_out.items()}
    loose = sorted(set(everything.images) - {place.path for place in places})
    left_out |= _left_out(root, loose, found)
    seen = _looked_at(root, places)
    counts = _counted(seen, list(found.splits) or [WHOLE], classes)
    check_counts(root, counts, _unreadable_by_class(seen))
    unreadable = _unreadable(seen)
    _check_readable(root, counts, unreadable)
    said = _about_images(seen, grouped=grouped)
    for split in found.splits.keys() - {"train"}:
        for folder in found.splits[split]:
            said += unknown_classes(split, folder, classes)
    said += _folders_in_classes(root, places)
    said += lacking_classes(counts)
    said += small_classes(counts)
    return Inventory(
        classes,
        counts,
        unreadable,
        left_out,
        tuple(said),
        folders=_named(splits),
        bits=_bits(root, places),
    )


def _bits(root: Path, places: Sequence[_Place]) -> int:
    """The bits in use; of a folder that is not divided, by all images."""
    learnt = [place.path for place in places if place.split in ("train", WHOLE)]
    return bits_in_use(root, learnt)


def _named(splits: SplitsSection | None) -> dict[str, list[str]]:
    return {} if splits is None else splits.by_split


def _left_out(root: Path, images: Sequence[Path], found: Layout) -> dict[str, list[str]]:
    """Reason -> images of no class, and those in folders of no split."""
    loose: list[Path] = []
    unnamed: list[Path] = []
    for image in images:
        inside = image.parent == root or any(map(image.is_relative_to, found.folders))
        (loose if inside else unnamed).append(image)
    by_reason = {LOOSE: loose, UNNAMED: unnamed}
    return {reason: _below(root, files) for reason, files in by_reason.items() if files}


def take_masked(
    path: str, *, grouped: bool = False, splits: SplitsSection | None = None
) -> Inventory:
    """The inventory of `folder:PATH` with masks. Raises DataError: a mask or the names are
    missing, or palettes differ.
    """
    root = image_folder(DataSection(name=f"folder:{path}"))
    masked = masks.look(root, splits)
    places = []
    looks: dict[str, Sequence[masks.MaskLook]] = {}
    wrong: dict[Path, str] = {}
    for split, pairs in masked.pairs.items():
        places += [_Place(split, ANY, pair.image) for pair in pairs]
        looks[split] = masks.look_at_masks(root, pairs)
        for pair, look in zip(pairs, looks[split], strict=True):
            if look.why:
                wrong[pair.image] = look.why
    everything = walk(root)
    left_out = {}
    for reason, paths in everything.left_out.items():
        others = [path for path in paths if path != root / masks.NAMES_FILE]
        left_out[reason] = _below(root, others)
    left_out[LONE_MASKS] = _below(root, masked.alone)
    read = {*masked.masks, *masked.alone, *(place.path for place in places)}
    left_out["outside images and masks"] = _below(root, sorted(set(everything.images) - read))
    seen = _looked_at(root, places)
    unreadable = _with_labels(seen, places, wrong)
    counts = _counted(
        [one for one in seen if one.name not in unreadable], list(masked.pairs), (ANY,)
    )
    _check_readable(root, counts, unreadable, what=" with their masks")
    said = _about_images(seen, grouped=grouped)
    for split, found in looks.items():
        said += _about_masks(split, masked.classes, found)
    return Inventory(
        masked.classes,
        counts,
        unreadable,
        {reason: files for reason, files in left_out.items() if files},
        tuple(said),
        "with masks",
        _named(splits),
        _bits(root, places),
    )


def _with_labels(
    seen: Sequence[Seen], places: Sequence[_Place], wrong: Mapping[Path, str]
) -> dict[str, str]:
    """The images that cannot be read, or whose mask or labels are wrong, and why."""
    unreadable = _unreadable(seen)
    for one, place in zip(seen, places, strict=True):
        if place.path in wrong:
            unreadable.setdefault(one.name, wrong[place.path])
    return unreadable


def _about_masks(split: str, classes: Sequence[str], looks: Sequence[masks.MaskLook]) -> list[str]:
    """About classes that no mask of a split has."""
    values = frozenset[int]().union(*(look.values for look in looks))
    lacking = [name for number, name in enumerate(classes) if number not in values]
    if not lacking or not values:
        return []
    white = ""
    if NOT_COUNTED in values:
        white = (
            f"; the value {NOT_COUNTED} counts as no class: if it stands for one, write that"
            " class's number"
        )
    of_split = "" if split == WHOLE else f" of {split}"
    return [f"no mask{of_split} has a pixel of class {few(lacking)}{white}"]


def take_boxed(section: DataSection) -> Inventory:
    """The inventory of `coco:FOLDER`. Raises DataError: annotations or images are missing or
    wrong.
    """
    annotated = coco.find(section)
    places: list[_Place] = []
    without: list[str] = []
    for split in annotated.files:
        images, boxes = annotated.read(split)
        paths = [image.image for image in images]
        places += [_Place(split, ANY, path) for path in paths]
        bare = [path for path, each in zip(paths, boxes, strict=True) if not len(each)]
        without += _without_a_box(split, _below(annotated.root, bare))
    seen = _looked_at(annotated.root, places)
    counts = _counted(seen, list(annotated.files), (ANY,))
    _check_readable(annotated.root, counts, _unreadable(seen))
    said = [*_about_images(seen, grouped=False, way_out=ALONE), *without]
    left_out = {}
    named = {os.path.realpath(place.path) for place in places}
    others = [
        image for image in walk(annotated.root).images if os.path.realpath(image) not in named
    ]
    if others:
        left_out["that no annotations name"] = _below(annotated.root, others)
    return Inventory(
        tuple(annotated.classes.values()),
        counts,
        _unreadable(seen),
        left_out,
        tuple(said),
        BOXED,
        bits=_bits(annotated.root, places),
    )


def take_yolo(section: DataSection) -> Inventory | None:
    """The inventory of `yolo:PATH.yaml`; None if nothing is there yet and the YAML says where
    ultralytics downloads it. Raises DataError: the YAML cannot be used, or no image has a label.
    """
    classes = yolo.class_names(section)
    points = "kpt_shape" in yolo.described(section)
    root = yolo.data_file(section).parent
    by_split = {
        split: list(yolo.named_images(section, key)) for key, split in yolo.YAML_SPLITS.items()
    }
    if not any(by_split.values()) and yolo.described(section).get("download"):
        return None
    _check_there(section, by_split)
    places: list[_Place] = []
    wrong: dict[Path, str] = {}
    said: list[str] = []
    gone: list[Path] = []
    for split, listed in by_split.items():
        images = [image for image in listed if image.is_file()]
        gone += [image for image in listed if not image.is_file()]
        places += [_Place(split, ANY, image) for image in images]
        labels = read_labels(images, len(classes), points=points)
        if images and len(labels.empty) == len(images):
            there = f"; '{labels.elsewhere[0]}' is not read" if labels.elsewhere else ""
            raise DataError(
                f"no image of {split} in '{yolo.data_file(section)}' has a label: the first,"
                f" '{images[0]}', should have its labels in '{labels_file(images[0])}'{there}"
            )
        wrong |= labels.wrong
        said += _about_labels(root, split, labels)
    seen = _looked_at(root, places)
    unreadable = _with_labels(seen, places, wrong)
    unreadable |= dict.fromkeys(_below(root, gone), "a file lists it, but it is not there")
    splits = list(dict.fromkeys(place.split for place in places))
    counts = _counted([one for one in seen if one.name not in unreadable], splits, (ANY,))
    _check_readable(root, counts, unreadable, what=" with their labels")
    said = [*_about_images(seen, grouped=False, way_out=ALONE), *said]
    left_out = {}
    if unread := _unread_by_yolo(section):
        left_out["that ultralytics does not read"] = _below(root, unread)
    return Inventory(classes, counts, unreadable, left_out, tuple(said), BOXED)


def _check_there(section: DataSection, by_split: Mapping[str, Sequence[Path]]) -> None:
    """Raises DataError: the YAML names a split whose images are not there."""
    for key, split in yolo.YAML_SPLITS.items():
        places = yolo.named_places(section, key)
        if places and not by_split[split]:
            raise DataError(
                f"data YAML '{yolo.data_file(section)}' names '{places[0]}' for {key}, where no"
                f" image is: correct it, or put them there{_beside_the_file(section, key)}"
            )


def _beside_the_file(section: DataSection, key: str) -> str:
    """That a split's images lie beside the YAML, whose `path` is that of another computer; empty if
    they do not.
    """
    content = yolo.described(section)
    path = content.get("path")
    place = yolo.data_file(section).parent / str(content.get(key))
    if not path or not place.is_dir():
        return ""
    return f"; '{place}' is there: remove 'path: {path}'"


def _unread_by_yolo(section: DataSection) -> list[Path]:
    """Images in the folders of the splits with endings that ultralytics does not read."""
    folders = set(itertools.chain(*(yolo.named_places(section, key) for key in yolo.YAML_SPLITS)))
    images = itertools.chain(*(walk(folder).images for folder in sorted(folders)))
    return [image for image in images if image.suffix.lower() not in yolo.IMAGE_ENDINGS]


def _about_labels(root: Path, split: str, labels: LabelFiles) -> list[str]:
    said = _without_a_box(split, _below(root, labels.empty))
    if labels.elsewhere:
        said.append(
            f"{several(len(labels.elsewhere), 'file')} that may be labels of {split} not read"
            f" ({few(_below(root, labels.elsewhere))}): ultralytics looks in the folder labels"
            " beside images, and for .txt; move or rename them"
        )
    if labels.polygons:
        said.append(
            f"{several(labels.polygons, 'polygon')} in the labels of {split}: a detector learns the"
            " boxes round them"
        )
    if labels.repeated:
        said.append(f"{several(labels.repeated, 'label')} of {split} twice, counted once")
    return said


def _without_a_box(split: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    said = (
        f"{several(len(names), 'image')} of {split} without a box ({few(names)}): they count as"
        " images that show none of the classes"
    )
    return [said]


def _looked_at(root: Path, places: Sequence[_Place]) -> list[Seen]:
    paths = [place.path for place in places]
    names = _below(root, paths)
    looks = look_at(root, paths)
    return [
        Seen(place.split, place.label, name, look)
        for place, name, look in zip(places, names, looks, strict=True)
    ]


def _counted(
    seen: Sequence[Seen], splits: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    counts = {split: dict.fromkeys(classes, 0) for split in splits}
    for one in seen:
        if not one.look.why:
            counts[one.split][one.label] += 1
    return counts


def _about_images(seen: Sequence[Seen], *, grouped: bool, way_out: str = "") -> list[str]:
    """Sentences about what the images show and what they are called. `way_out`: for those that a
    split may part; empty: groups.
    """
    return [
        *cautions(seen, grouped=grouped, way_out=way_out or GROUPS),
        *image_names.belonging(seen, grouped=grouped, way_out=way_out),
        *image_names.alike(seen),
    ]


def _check_readable(
    root: Path,
    counts: Mapping[str, Mapping[str, int]],
    unreadable: Mapping[str, str],
    *,
    what: str = "",
) -> None:
    """Raises DataError: no image can be read, or none with its mask or labels (`what`)."""
    if unreadable and not any(map(sum, (each.values() for each in counts.values()))):
        name, why = next(iter(unreadable.items()))
        raise DataError(
            f"{several(len(unreadable), 'image')} of '{root}' cannot be read{what}: all of them;"
            f" the first, '{name}': {why}"
        )


def _unreadable_by_class(seen: Sequence[Seen]) -> dict[str, dict[str, str]]:
    by_class: dict[str, dict[str, str]] = {}
    for one in seen:
        if one.look.why:
            by_class.setdefault(one.label, {})[one.name] = one.look.why
    return by_class


def _unreadable(seen: Sequence[Seen]) -> dict[str, str]:
    return {one.name: one.look.why for one in seen if one.look.why}


def _below(root: Path, paths: Sequence[Path]) -> list[str]:
    shown = []
    for path in paths:
        # annotations may be named from the working folder, and their root in full
        whole = path if path.is_relative_to(root) else Path(os.path.abspath(path))
        inside = whole.relative_to(root) if whole.is_relative_to(root) else path
        shown.append(_shown(inside.as_posix()))
    return shown


def _shown(name: str) -> str:
    """A name that can be printed: letters that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _folders_in_classes(root: Path, places: Sequence[_Place]) -> list[str]:
    """About folders below the class folders that may be the classes, or have another one's name."""
    inside: dict[str, dict[str, Path]] = {}
    direct: set[str] = set()
    for place in places:
        folder = place.path.parent
        if folder.name == place.label:
            direct.add(place.label)
        else:
            inside.setdefault(place.label, {}).setdefault(folder.name, folder)
    classes = {place.label for place in places}
    said = []
    for label, folders in inside.items():
        for name in classes & folders.keys():
            said.append(
                f"the images in '{_below(root, [folders[name]])[0]}' count as '{label}', although"
                f" '{name}' is a class, too: move them if that is wrong"
            )
    nested = [label for label in inside if label not in direct]
    for one, other in itertools.combinations(nested, 2):
        shared = sorted(inside[one].keys() & inside[other].keys())
        if len(shared) > 1:
            parent = _below(root, [inside[one][shared[0]].parent])[0]
            said.append(
                f"the classes are {few(sorted(classes))}, and {few([one, other])} have the same"
                f" folders in them, {few(shared)}: if these are the classes, give the folder around"
                f" them, {parent}, or name those for each split with data.splits"
            )
            break
    return said

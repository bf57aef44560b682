"""Takes the inventory of a recipe's images: splits, classes, images, what is left out and why, and
what would make scores misleading. `init`, `search`, its `--dry-run` and the report show the same
one, as `words.images` says it.

All files are opened, those of the test too, but no network sees them here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from nas_attn.data import coco, image_names, masks, yolo
from nas_attn.data.class_counts import (
    check_counts,
    lacking_classes,
    small_classes,
    unknown_classes,
)
from nas_attn.data.class_folders import class_names, classes_problem
from nas_attn.data.copies import Seen, about_looks, look_at
from nas_attn.data.decoding import Framed, Masked
from nas_attn.data.facts import (
    NOT_COUNTED,
    WHOLE,
    ClassesBelow,
    ClassInFolder,
    ImageRemark,
    Inventory,
    Polygons,
    RepeatedLabels,
    TurnedImages,
    UndrawnClasses,
    UnreadLabels,
    WithoutBoxes,
)
from nas_attn.data.folder import bits_in_use, image_folder
from nas_attn.data.turning import told, turned_images
from nas_attn.data.walking import Layout, layout, walk
from nas_attn.data.yolo_labels import LabelFiles, labels_file, read_labels
from nas_attn.errors import DataError, several
from nas_attn.recipe.recipe import DataSection, SplitsSection
from nas_attn.recipe.tables import Kind

LOOSE = "outside the class folders"
UNNAMED = "in folders of no split"
LONE_MASKS = "which are masks without an image"
# the name of the only class of images that have none of their own
NO_CLASS = ""


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
    folder_layout = layout(root, splits)
    classes = class_names(folder_layout.train)
    if problem := classes_problem(folder_layout.train, classes):
        raise DataError(problem)
    places: list[_Place] = []
    for split, folders in (folder_layout.splits or {WHOLE: (root,)}).items():
        for folder, name in itertools.product(folders, classes):
            places += [_Place(split, name, image) for image in walk(folder / name).images]
    everything = walk(root)
    left_out = {reason: _below(root, paths) for reason, paths in everything.left_out.items()}
    loose = sorted(set(everything.images) - {place.path for place in places})
    left_out |= _left_out(root, loose, folder_layout)
    seen = _looked_at(root, places)
    counts = _counted(seen, list(folder_layout.splits) or [WHOLE], classes)
    check_counts(root, counts, _unreadable_by_class(seen))
    unreadable = _unreadable(seen)
    _check_readable(root, counts, unreadable)
    remarks = _about_images(seen, grouped=grouped)
    for split in folder_layout.splits.keys() - {"train"}:
        for folder in folder_layout.splits[split]:
            remarks += unknown_classes(split, folder, classes)
    remarks += _folders_in_classes(root, places)
    remarks += lacking_classes(counts)
    remarks += small_classes(counts)
    inventory = Inventory(
        classes,
        counts,
        unreadable,
        left_out,
        tuple(remarks),
        folders=_named(splits),
        bits=_bits(root, places),
    )
    return _printable(inventory)


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
        places += [_Place(split, NO_CLASS, pair.image) for pair in pairs]
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
        [image for image in seen if image.name not in unreadable], list(masked.pairs), (NO_CLASS,)
    )
    _check_readable(root, counts, unreadable, what=" with their masks")
    remarks = _about_images(seen, grouped=grouped)
    remarks += _about_turned(root, masked.pairs, "masks")
    for split, looks_of_split in looks.items():
        remarks += _about_masks(split, masked.classes, looks_of_split)
    inventory = Inventory(
        masked.classes,
        counts,
        unreadable,
        {reason: files for reason, files in left_out.items() if files},
        tuple(remarks),
        "masks",
        _named(splits),
        _bits(root, places),
    )
    return _printable(inventory)


def take_boxed(section: DataSection) -> Inventory:
    """The inventory of `coco:FOLDER`. Raises DataError: annotations or images are missing or
    wrong.
    """
    annotated = coco.find(section)
    places: list[_Place] = []
    without: list[WithoutBoxes] = []
    framed: dict[str, Sequence[Framed]] = {}
    for split in annotated.files:
        images, boxes = annotated.read(split)
        framed[split] = images
        paths = [image.image for image in images]
        places += [_Place(split, NO_CLASS, path) for path in paths]
        bare = [path for path, each in zip(paths, boxes, strict=True) if not len(each)]
        without += _without_a_box(split, _below(annotated.root, bare))
    seen = _looked_at(annotated.root, places)
    counts = _counted(seen, list(annotated.files), (NO_CLASS,))
    _check_readable(annotated.root, counts, _unreadable(seen))
    remarks = [
        *_about_images(seen, grouped=False, by_groups=False),
        *_about_turned(annotated.root, framed, "boxes"),
        *without,
    ]
    left_out = {}
    named = {os.path.realpath(place.path) for place in places}
    others = [
        image for image in walk(annotated.root).images if os.path.realpath(image) not in named
    ]
    if others:
        left_out["that no annotations name"] = _below(annotated.root, others)
    inventory = Inventory(
        tuple(annotated.classes.values()),
        counts,
        _unreadable(seen),
        left_out,
        tuple(remarks),
        "boxes",
        bits=_bits(annotated.root, places),
    )
    return _printable(inventory)


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
    about_labels: list[ImageRemark] = []
    gone: list[Path] = []
    for split, listed in by_split.items():
        images = [image for image in listed if image.is_file()]
        gone += [image for image in listed if not image.is_file()]
        places += [_Place(split, NO_CLASS, image) for image in images]
        labels = read_labels(images, len(classes), points=points)
        if images and len(labels.empty) == len(images):
            there = f"; '{labels.elsewhere[0]}' is not read" if labels.elsewhere else ""
            raise DataError(
                f"no image of {split} in '{yolo.data_file(section)}' has a label: the first,"
                f" '{images[0]}', should have its labels in '{labels_file(images[0])}'{there}"
            )
        wrong |= labels.wrong
        about_labels += _about_labels(root, split, labels)
    seen = _looked_at(root, places)
    unreadable = _with_labels(seen, places, wrong)
    unreadable |= dict.fromkeys(_below(root, gone), "a file lists it, but it is not there")
    splits = list(dict.fromkeys(place.split for place in places))
    counts = _counted([one for one in seen if one.name not in unreadable], splits, (NO_CLASS,))
    _check_readable(root, counts, unreadable, what=" with their labels")
    remarks = [*_about_images(seen, grouped=False, by_groups=False), *about_labels]
    left_out = {}
    if unread := _unread_by_yolo(section):
        left_out["that ultralytics does not read"] = _below(root, unread)
    inventory = Inventory(classes, counts, unreadable, left_out, tuple(remarks), "boxes")
    return _printable(inventory)


def _left_out(root: Path, images: Sequence[Path], folder_layout: Layout) -> dict[str, list[str]]:
    """Reason -> images of no class, and those in folders of no split."""
    loose: list[Path] = []
    unnamed: list[Path] = []
    for image in images:
        inside = image.parent == root or any(map(image.is_relative_to, folder_layout.folders))
        (loose if inside else unnamed).append(image)
    by_reason = {LOOSE: loose, UNNAMED: unnamed}
    return {reason: _below(root, files) for reason, files in by_reason.items() if files}


def _named(splits: SplitsSection | None) -> dict[str, list[str]]:
    return {} if splits is None else splits.by_split


def _bits(root: Path, places: Sequence[_Place]) -> int:
    """The bits in use; of a folder that is not divided, by all images."""
    learnt = [place.path for place in places if place.split in ("train", WHOLE)]
    return bits_in_use(root, learnt)


def _with_labels(
    seen: Sequence[Seen], places: Sequence[_Place], wrong: Mapping[Path, str]
) -> dict[str, str]:
    """The images that cannot be read, or whose mask or labels are wrong, and why."""
    unreadable = _unreadable(seen)
    for image, place in zip(seen, places, strict=True):
        if place.path in wrong:
            unreadable.setdefault(image.name, wrong[place.path])
    return unreadable


def _about_masks(
    split: str, classes: Sequence[str], looks: Sequence[masks.MaskLook]
) -> list[UndrawnClasses]:
    """The classes that no mask of a split has."""
    values = frozenset[int]().union(*(look.values for look in looks))
    lacking = tuple(name for number, name in enumerate(classes) if number not in values)
    if not lacking or not values:
        return []
    return [UndrawnClasses(split, lacking, uncounted=NOT_COUNTED in values)]


def _about_turned(
    root: Path, by_split: Mapping[str, Sequence[Masked | Framed]], labels: Literal["masks", "boxes"]
) -> list[TurnedImages]:
    """The images that EXIF data turn, if no image but those of the test tells what labels are drawn
    on.
    """
    seen = {split: turned_images(root, sources) for split, sources in by_split.items()}
    known = itertools.chain(*(images for split, images in seen.items() if split != "test"))
    if told(known) is not None:
        return []
    unclear = [image.source for image in itertools.chain(*seen.values()) if not image.drawn_on]
    if not unclear:
        return []
    names = list(dict.fromkeys(_below(root, [source.image for source in unclear])))
    return [TurnedImages(len(names), names[0], labels, unclear[0].otherwise)]


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


def _about_labels(root: Path, split: str, labels: LabelFiles) -> list[ImageRemark]:
    remarks: list[ImageRemark] = [*_without_a_box(split, _below(root, labels.empty))]
    if labels.elsewhere:
        remarks.append(UnreadLabels(split, tuple(_below(root, labels.elsewhere))))
    if labels.polygons:
        remarks.append(Polygons(split, labels.polygons))
    if labels.repeated:
        remarks.append(RepeatedLabels(split, labels.repeated))
    return remarks


def _without_a_box(split: str, names: Sequence[str]) -> list[WithoutBoxes]:
    return [WithoutBoxes(split, tuple(names))] if names else []


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
    for image in seen:
        if not image.look.why:
            counts[image.split][image.label] += 1
    return counts


def _about_images(
    seen: Sequence[Seen], *, grouped: bool, by_groups: bool = True
) -> list[ImageRemark]:
    """About what the images show and what they are called. `grouped`: groups keep images together;
    `by_groups`: they can.
    """
    return [
        *about_looks(seen, grouped=grouped, by_groups=by_groups),
        *image_names.belonging(seen, grouped=grouped, by_groups=by_groups),
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
    for image in seen:
        if image.look.why:
            by_class.setdefault(image.label, {})[image.name] = image.look.why
    return by_class


def _unreadable(seen: Sequence[Seen]) -> dict[str, str]:
    return {image.name: image.look.why for image in seen if image.look.why}


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


Fact = TypeVar("Fact")


def _printable(fact: Fact) -> Fact:
    """The same with all names as they can be printed, and kept."""
    changed: Any = fact
    if isinstance(fact, str):
        changed = _shown(fact)
    elif isinstance(fact, Mapping):
        changed = {_printable(key): _printable(value) for key, value in fact.items()}
    elif isinstance(fact, tuple | list):
        changed = type(fact)(map(_printable, fact))
    elif is_dataclass(fact) and not isinstance(fact, type):
        values = {part.name: _printable(getattr(fact, part.name)) for part in fields(fact)}
        changed = replace(fact, **values)
    return cast(Fact, changed)


def _folders_in_classes(root: Path, places: Sequence[_Place]) -> list[ClassInFolder | ClassesBelow]:
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
    remarks: list[ClassInFolder | ClassesBelow] = []
    for label, folders in inside.items():
        for name in sorted(classes & folders.keys()):
            folder_name = _below(root, [folders[name]])[0]
            remarks.append(ClassInFolder(folder_name, label, name))
    nested = [label for label in inside if label not in direct]
    for one, other in itertools.combinations(nested, 2):
        shared = sorted(inside[one].keys() & inside[other].keys())
        if len(shared) > 1:
            parent = _below(root, [inside[one][shared[0]].parent])[0]
            around = ClassesBelow(tuple(sorted(classes)), (one, other), tuple(shared), parent)
            remarks.append(around)
            break
    return remarks

"""Takes the inventory of a recipe's images.

All files are opened, those of the test too, but no network sees them here.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import coco, masks, table, yolo_files
from nas_attn.data.bands import missing_reader
from nas_attn.data.copies import Look, Seen, image_remarks, look_at
from nas_attn.data.decoding import Size, more_bits
from nas_attn.data.folder import image_folder
from nas_attn.data.inventory import (
    NO_DATA,
    NOT_COUNTED,
    WHOLE,
    Boxes,
    Inventory,
    Remark,
    Shapes,
)
from nas_attn.data.walking import Layout, class_names, layout, subfolders, walk
from nas_attn.data.yolo_files import labels_file
from nas_attn.errors import DataError, few, several
from nas_attn.recipe.recipe import DataSection, SplitsSection
from nas_attn.recipe.tables import Kind

LOOSE = "outside the class folders"
UNNAMED = "in folders of no split"
LONE_MASKS = "which are masks without an image"
# the name of the only class of images that have none of their own
NO_CLASS = ""
# values that programs write for pixels without data: from here on down, and up
LEAST_MARK = -999.0
MOST_MARK = 65535.0
# labels or columns that are told of
SHOWN_COLUMNS = 12
# images of a class in a folder without splits
FEWEST_TO_SPLIT = 3
# validation images of a class, below which one image is 10 points of it
FEW_TO_SCORE = 10
# times as many images in the largest class as in the smallest
UNEQUAL = 20
# times as many images in the largest class as in the smallest, below which accuracy hides none
ALIKE = 1.5
# of the images of a folder without splits
VALIDATION_SHARE = 0.16


def of(section: DataSection, labels: Kind) -> Inventory | None:
    """Returns the inventory of a recipe's data; None for data that are not images of the user's in
    files. Raises DataError: they are not as the task needs them.
    """
    source, colon, place = section.name.partition(":")
    inventory = None
    by_table = labels in ("tags", "numbers") or (labels == "classes" and section.table is not None)
    if source == "folder" and not by_table:
        taken_by = take if labels == "classes" else take_masked
        grouped = section.groups is not None
        inventory = taken_by(
            place, grouped=grouped, splits=section.splits, channels=section.channels
        )
    if source == "folder" and by_table:
        inventory = _take_table(section, labels)
    if source == "coco" and colon:
        inventory = _take_tagged(section) if labels == "tags" else _take_boxed(section)
    if source == "yolo" and colon:
        inventory = _take_yolo(section)
    return inventory and replace(
        inventory,
        size=section.size,
        fit=section.fit,
        channels=section.channels,
        nodata=section.nodata,
    )


@dataclass
class _Survey:
    """An inventory that is being taken."""

    root: Path
    labels: Kind
    classes: tuple[str, ...]
    splits: Sequence[str]
    # images; the split and the class of each
    paths: list[Path] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    # image -> why it cannot be read, or its mask or labels are wrong
    wrong: dict[Path, str] = field(default_factory=dict)
    # reason -> files
    left_out: dict[str, Sequence[Path]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    # width and height of each image
    sizes: dict[Path, Size] = field(default_factory=dict)
    shapes: Shapes | None = None
    boxes: Boxes | None = None
    # `data.channels`
    channels: int | None = None
    # of all images, if RGB leaves some out
    bands: int | None = None
    # lowest and highest value of each band
    ranges: Sequence[tuple[float, float]] = ()
    # lines about its labels
    about: list[str] = field(default_factory=list)

    def add(self, split: str, images: Iterable[Path], label: str = NO_CLASS) -> None:
        """Adds images of one split and class."""
        before = len(self.paths)
        self.paths += images
        self.places += [(split, label)] * (len(self.paths) - before)

    def look(self, *, grouped: bool = False, by_groups: bool = True) -> None:
        """Opens all images, counts them, and remarks what they show; `grouped`, `by_groups`: as in
        `image_remarks`. Raises DataError: none can be read.
        """
        found = look_at(self.root, self.paths)
        lacking = missing_reader(self.paths)
        if lacking and all(look.why == lacking for look in found):
            raise DataError(f"the images of '{self.root}': {lacking}")
        are_deep = all(look.deep for look in found if not look.why)
        looks = [self._checked(look, are_deep=are_deep) for look in found]
        seen = [
            Seen(split, label, name, look)
            for (split, label), name, look in zip(
                self.places, self.names(self.paths), looks, strict=True
            )
        ]
        names = self.classes if self.labels == "classes" else (NO_CLASS,)
        self.counts = {split: dict.fromkeys(names, 0) for split in self.splits}
        for path, image in zip(self.paths, seen, strict=True):
            if why := image.look.why or self.wrong.get(path):
                self.unreadable[image.name] = printable_name(why)
            else:
                self.counts[image.split][image.label] += 1
        self.remarks = image_remarks(seen, grouped=grouped, by_groups=by_groups)
        self.sizes = {
            path: look.size for path, look in zip(self.paths, looks, strict=True) if not look.why
        }
        numbers = {look.bands for look in looks if not look.why}
        if len(numbers) == 1 and all(look.banded for look in looks if not look.why):
            (self.bands,) = numbers
            self._look_at_ranges([look.ranges for look in looks if look.ranges])
        if lacking and (self.bands or self.channels):
            self.remarks.append(Remark("missing_reader", lacking))
        if self.sizes:
            sizes = np.array(list(self.sizes.values()), np.float64)
            width, height = np.median(sizes, axis=0).tolist()
            narrow, wide = np.quantile(sizes[:, 0] / sizes[:, 1], (0.1, 0.9)).tolist()
            square = float(np.median(sizes.min(1) / sizes.max(1)))
            self.shapes = Shapes(width, height, narrow, wide, square)

    def _look_at_ranges(self, found: Sequence[Sequence[tuple[float, float]]]) -> None:
        """Keeps the ranges of bands, and remarks a value that may stand for pixels without data:
        the lowest or highest of most images.
        """
        if not found:
            return
        # (images, bands, 2)
        ranges = np.array(found, np.float64)
        lowest = ranges[..., 0].min(0).tolist()
        highest = ranges[..., 1].max(0).tolist()
        self.ranges = list(zip(lowest, highest, strict=True))
        ends = {min(lowest): ranges[..., 0].min(1), max(highest): ranges[..., 1].max(1)}
        for value, of_images in ends.items():
            share = float(np.mean(of_images == value))
            if share > 0.5 and (value <= LEAST_MARK or value >= MOST_MARK):
                said = (
                    f"{value:.15g} is in {share:.0%} of the images: if it stands for pixels without"
                    f" data, give data.nodata = {value:.15g}"
                )
                self.remarks.append(Remark(NO_DATA, said))

    def _checked(self, look: Look, *, are_deep: bool) -> Look:
        """What an image shows, which cannot be read if it has other bands than it must, or more
        bits than the others.
        """
        if self.channels is None and look.deep and not are_deep:
            return replace(look, why=more_bits(look.bands))
        if look.why or self.channels in (None, look.bands):
            return look
        return replace(look, why=f"{look.bands} bands, and data.channels is {self.channels}")

    def measure(self, boxes: Sequence[tuple[float, float]]) -> None:
        """Keeps the sizes of boxes: a box's, and its image's longer side."""
        if boxes:
            side, longest = np.array(boxes, np.float64).T
            self.boxes = Boxes(float(np.median(side)), float(np.median(side / longest)))

    def check_readable(self) -> None:
        """Raises DataError: no image can be read, or none with its mask or labels."""
        if self.unreadable and not any(sum(of.values()) for of in self.counts.values()):
            name, why = next(iter(self.unreadable.items()))
            labels = ""
            if self.wrong:
                labels = f" with their {'masks' if self.labels == 'masks' else 'labels'}"
            raise DataError(
                f"{several(len(self.unreadable), 'image')} of '{self.root}' cannot be read{labels}:"
                f" all of them; the first, '{name}': {why}"
            )

    def names(self, paths: Iterable[Path]) -> list[str]:
        """The paths of files below the root, as they can be printed."""
        shown = []
        for path in paths:
            # annotations may be named from the working folder, and their root in full
            whole = path if path.is_relative_to(self.root) else Path(os.path.abspath(path))
            inside = whole.relative_to(self.root) if whole.is_relative_to(self.root) else path
            shown.append(printable_name(inside.as_posix()))
        return shown

    def inventory(self, splits: SplitsSection | None = None) -> Inventory:
        """What was taken."""
        read = set(self.paths)
        left_out = {
            # arrays, which are images where no others are beside them
            printable_name(reason): self.names(file for file in files if file not in read)
            for reason, files in self.left_out.items()
        }
        return Inventory(
            tuple(map(printable_name, self.classes)),
            self.counts,
            self.unreadable,
            {reason: files for reason, files in left_out.items() if files},
            tuple(self.remarks),
            self.labels,
            {} if splits is None else splits.by_split,
            self.shapes,
            self.boxes,
            bands=None if self.labels == "boxes" else self.bands,
            about=tuple(map(printable_name, self.about)),
            ranges=tuple(self.ranges),
        )


def printable_name(name: str) -> str:
    """Returns a name that can be printed and kept: letters that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def take(
    path: str,
    *,
    grouped: bool = False,
    splits: SplitsSection | None = None,
    channels: int | None = None,
) -> Inventory:
    """Takes the inventory of `folder:PATH` by class. Raises DataError: no classes, too few images
    of one, or a layout that can be read in two ways.

    Args:
        path: The folder.
        grouped: Whether groups keep images together.
        splits: Which of its folders train, validate and test.
        channels: How many bands its images must have; None: they become RGB.
    """
    root = image_folder(DataSection(name=f"folder:{path}"))
    folders = layout(root, splits)
    classes = class_names(folders.train)
    shown = {name: printable_name(name) for name in classes}
    survey = _Survey(
        root, "classes", tuple(shown.values()), list(folders.splits) or [WHOLE], channels=channels
    )
    for split, parts in (folders.splits or {WHOLE: (root,)}).items():
        for folder, name in itertools.product(parts, classes):
            survey.add(split, walk(folder / name).images, shown[name])
    everything = walk(root)
    survey.left_out |= everything.left_out
    survey.left_out |= _of_no_class(root, set(everything.images) - set(survey.paths), folders)
    survey.look(grouped=grouped)
    _check_counts(survey)
    survey.check_readable()
    for split in folders.splits.keys() - {"train"}:
        for folder in folders.splits[split]:
            strange = [printable_name(n) for n in subfolders(folder) if n not in classes]
            if strange:
                survey.remarks.append(
                    Remark(
                        "unknown_classes",
                        f"{split} has the class {few(strange)}, which train has not:"
                        f" {_refused(split)}; add it to train, or move it out of the folder",
                    )
                )
    survey.remarks += _lacking_classes(survey.counts)
    survey.remarks += _small_classes(survey.counts)
    return survey.inventory(splits)


def _of_no_class(root: Path, images: set[Path], folders: Layout) -> dict[str, list[Path]]:
    """Reason -> images of no class, and those in folders of no split."""
    by_reason: dict[str, list[Path]] = {LOOSE: [], UNNAMED: []}
    for image in sorted(images):
        inside = image.parent == root or any(map(image.is_relative_to, folders.folders))
        by_reason[LOOSE if inside else UNNAMED].append(image)
    return by_reason


def _check_counts(survey: _Survey) -> None:
    """Raises DataError: a class of a folder that is not divided has too few images for splits."""
    for name, count in survey.counts.get(WHOLE, {}).items():
        if count >= FEWEST_TO_SPLIT:
            continue
        found = [several(count, "image")]
        broken = [why for file, why in survey.unreadable.items() if file.startswith(f"{name}/")]
        if broken:
            found.append(f"{len(broken):,} unreadable ({broken[0]})")
        for reason, files in walk(survey.root / name).left_out.items():
            found.append(f"{several(len(files), 'file')} {reason}")
        raise DataError(
            f"class '{name}' of '{survey.root}' has {' beside '.join(found)}, and each class needs"
            f" {FEWEST_TO_SPLIT} for splits: add some, or move the folder away if it is no class"
        )


def _refused(split: str) -> str:
    return f"{'the final test' if split == 'test' else 'the search'} will be refused"


def _lacking_classes(counts: Mapping[str, Mapping[str, int]]) -> list[Remark]:
    """The classes without an image in a split."""
    remarks = []
    for split, by_class in counts.items():
        if lacking := [name for name, count in by_class.items() if not count]:
            said = f"{split} has no image of class {few(lacking)}: {_refused(split)}; add some"
            remarks.append(Remark("lacking_classes", said))
    return remarks


def _small_classes(counts: Mapping[str, Mapping[str, int]]) -> list[Remark]:
    """The class that accuracy hides: far smaller than the largest, or with few images."""
    train = counts.get("train", counts.get(WHOLE, {}))
    rarest = min(train, key=lambda name: train[name])
    largest = max(train, key=lambda name: train[name])
    balanced = (
        'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'
    )
    if train[largest] >= UNEQUAL * max(train[rarest], 1):
        return [
            Remark(
                "unequal_classes",
                f"class '{rarest}' has {several(train[rarest], 'image')} and '{largest}'"
                f" {train[largest]:,}: accuracy hides the smallest class; {balanced}",
            )
        ]
    scored = counts.get("validation")
    about = ""
    if scored is None:
        # taken from the training images, at least one of each class
        share = VALIDATION_SHARE if WHOLE in counts else 0.2
        scored = {name: max(1, round(share * count)) for name, count in train.items()}
        about = "about "
    smallest = min(scored, key=lambda name: scored[name])
    if not 0 < scored[smallest] < FEW_TO_SCORE:
        return []
    # estimates of so few are rounded, and rounding makes equal classes unequal
    counted = counts.get("validation", train).values()
    hides = f"accuracy hides small classes; {balanced}"
    if max(counted) < ALIKE * max(min(counted), 1):
        hides = "the others hardly more: add images, so that small gains can be seen"
    images = several(scored[smallest], "validation image")
    return [Remark("few_of_class", f"class '{smallest}' has {about}{images}, and {hides}")]


def take_masked(
    path: str,
    *,
    grouped: bool = False,
    splits: SplitsSection | None = None,
    channels: int | None = None,
) -> Inventory:
    """Takes the inventory of `folder:PATH` with masks; arguments as in `take`. Raises DataError: a
    mask or the names are missing.
    """
    root = image_folder(DataSection(name=f"folder:{path}"))
    masked = masks.look(root, splits)
    survey = _Survey(root, "masks", masked.classes, list(masked.pairs), channels=channels)
    undrawn: list[Remark] = []
    for split, pairs in masked.pairs.items():
        survey.add(split, [pair.image for pair in pairs])
        values: set[int] = set()
        for pair, look in zip(pairs, masks.look_at_masks(root, pairs), strict=True):
            why, values_here = look
            values.update(values_here)
            if why:
                survey.wrong[pair.image] = why
        lacking = [name for number, name in enumerate(masked.classes) if number not in values]
        if lacking and values:
            of_split = "" if split == WHOLE else f" of {split}"
            said = f"no mask{of_split} has a pixel of class {few(lacking)}"
            if NOT_COUNTED in values:
                said += (
                    f"; the value {NOT_COUNTED} counts as no class: if it stands for one, write"
                    " that class's number"
                )
            undrawn.append(Remark("undrawn_classes", said))
    everything = walk(root)
    for reason, files in everything.left_out.items():
        survey.left_out[reason] = [file for file in files if file != root / masks.NAMES_FILE]
    survey.left_out[LONE_MASKS] = masked.alone
    read = {*masked.masks, *masked.alone, *survey.paths}
    survey.left_out["outside images and masks"] = sorted(set(everything.images) - read)
    survey.look(grouped=grouped)
    survey.check_readable()
    survey.remarks += undrawn
    return survey.inventory(splits)


def _take_table(section: DataSection, labels: Kind) -> Inventory:
    """The inventory of `folder:PATH` with a table. Raises DataError: there is none, or a line is
    wrong.
    """
    found = table.find(labels, section)
    splits = list(found.rows)
    survey = _Survey(found.root, labels, found.names, splits, channels=section.channels)
    for split, row in ((split, row) for split, rows in found.rows.items() for row in rows):
        label = NO_CLASS if found.targets is not None else found.names[found.labels[row]]
        survey.add(split, [found.images[row]], label)
    everything = walk(found.root)
    unnamed = sorted(set(everything.images) - set(found.images))
    for reason, files in everything.left_out.items():
        survey.left_out[reason] = [file for file in files if file not in found.files]
    survey.left_out["that the table does not name"] = unnamed
    survey.look(grouped=section.groups is not None)
    survey.check_readable()
    names = ", ".join(survey.names(found.files))
    survey.about = [f"table: {names}, {found.how}"]
    if found.targets is not None:
        survey.about.append(_about_targets(labels, found.names, found.targets))
    else:
        survey.remarks += [*_lacking_classes(survey.counts), *_small_classes(survey.counts)]
    if section.groups is None and found.group:
        said = (
            f"values of '{found.group}' stand for several images each, which may come into two"
            " splits: if they are one patient, scene or film, keep its images together with"
            f' data.groups = {{ column = "{found.group}" }}'
        )
        survey.remarks.append(Remark("shared_values", said))
    return survey.inventory(section.splits)


def _take_tagged(section: DataSection) -> Inventory:
    """The inventory of `coco:FOLDER` for the categories of each image. Raises DataError:
    annotations or images are missing or wrong.
    """
    annotated = coco.find_tagged(section)
    classes = tuple(annotated.classes.values())
    survey = _Survey(annotated.root, "tags", classes, list(annotated.files))
    read = {split: annotated.tagged(split) for split in annotated.files}
    for split, files in read.items():
        survey.add(split, files.paths)
    named = {os.path.realpath(path) for path in survey.paths}
    survey.left_out["that no annotations name"] = [
        image for image in walk(annotated.root).images if os.path.realpath(image) not in named
    ]
    survey.look(by_groups=False)
    # `data.channels` is for folders
    survey.bands = None
    survey.check_readable()
    targets = np.concatenate(
        [files.targets for files in read.values() if files.targets is not None]
    )
    survey.about = [_about_targets("tags", classes, targets)]
    return survey.inventory()


def _about_targets(labels: Kind, names: Sequence[str], targets: NDArray[np.float32]) -> str:
    """How many images each label has, or from where to where the numbers of each column go."""
    if labels == "numbers":
        rows = [
            f"{name} from {values.min():.6g} to {values.max():.6g}, {values.mean():.6g} in the mean"
            for name, values in zip(names, targets.T, strict=True)
        ]
        return f"numbers: {'; '.join(rows[:SHOWN_COLUMNS])}{'; …' * (len(rows) > SHOWN_COLUMNS)}"
    counts = targets.sum(0).astype(int).tolist()
    shown = [f"{name} {count:,}" for name, count in zip(names, counts, strict=True)]
    none = int((targets.sum(1) == 0).sum())
    several_labels = int((targets.sum(1) > 1).sum())
    more = ", …" if len(shown) > SHOWN_COLUMNS else ""
    return (
        f"images by label: {', '.join(shown[:SHOWN_COLUMNS])}{more};"
        f" {several_labels:,} have several, {none:,} none"
    )


def _take_boxed(section: DataSection) -> Inventory:
    """The inventory of `coco:FOLDER`. Raises DataError: annotations or images are missing or
    wrong.
    """
    annotated = coco.find(section)
    classes = tuple(annotated.classes.values())
    survey = _Survey(annotated.root, "boxes", classes, list(annotated.files))
    without: list[Remark] = []
    sides: list[tuple[float, float]] = []
    for split in annotated.files:
        framed, boxes = annotated.read(split)
        for image, rows in zip(framed, boxes, strict=True):
            areas = (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])
            sides += [(side, max(image.size)) for side in np.sqrt(areas).tolist()]
        paths = [image.image for image in framed]
        survey.add(split, paths)
        bare = [path for path, rows in zip(paths, boxes, strict=True) if not len(rows)]
        without += _without_a_box(survey, split, bare)
    named = {os.path.realpath(path) for path in survey.paths}
    survey.left_out["that no annotations name"] = [
        image for image in walk(annotated.root).images if os.path.realpath(image) not in named
    ]
    survey.look(by_groups=False)
    survey.check_readable()
    survey.remarks += without
    survey.measure(sides)
    return survey.inventory()


def _without_a_box(survey: _Survey, split: str, images: Sequence[Path]) -> list[Remark]:
    if not images:
        return []
    said = (
        f"{several(len(images), 'image')} of {split} without a box ({few(survey.names(images))}):"
        " they count as images that show none of the classes"
    )
    return [Remark("without_boxes", said)]


def _take_yolo(section: DataSection) -> Inventory | None:
    """The inventory of `yolo:PATH.yaml`; None if nothing is there yet and the YAML says where
    ultralytics downloads it. Raises DataError: the YAML cannot be used, or no image has a label.
    """
    classes = yolo_files.class_names(section)
    described = yolo_files.described(section)
    yaml = yolo_files.data_file(section)
    by_split = {
        split: list(yolo_files.named_images(section, key))
        for key, split in yolo_files.YAML_SPLITS.items()
    }
    if not any(by_split.values()) and described.get("download"):
        return None
    _check_there(section, by_split)
    splits = [split for split, images in by_split.items() if images]
    survey = _Survey(yaml.parent, "boxes", classes, splits)
    boxes: list[tuple[Path, float, float]] = []
    gone: list[Path] = []
    for split in splits:
        images = [image for image in by_split[split] if image.is_file()]
        gone += [image for image in by_split[split] if not image.is_file()]
        survey.add(split, images)
        found = yolo_files.boxes_of(images)
        if images and not any(labels_file(image).is_file() for image in images):
            raise DataError(
                f"no image of {split} in '{yaml}' has a label: those of '{images[0]}' are looked"
                f" for in '{labels_file(images[0])}'"
            )
        boxes += found
    survey.look(by_groups=False)
    sides: list[tuple[float, float]] = []
    for image, width, height in boxes:
        if size := survey.sizes.get(image):
            side = math.sqrt(width * size[0] * height * size[1])
            sides.append((side, max(size)))
    survey.measure(sides)
    for name in survey.names(gone):
        survey.unreadable[name] = "a file lists it, but it is not there"
    survey.check_readable()
    survey.left_out["that ultralytics does not read"] = _unread_by_yolo(section)
    return survey.inventory()


def _check_there(section: DataSection, by_split: Mapping[str, Sequence[Path]]) -> None:
    """Raises DataError: the YAML names a split whose images are not there."""
    yaml = yolo_files.data_file(section)
    described = yolo_files.described(section)
    for key, split in yolo_files.YAML_SPLITS.items():
        places = yolo_files.named_places(section, key)
        if not places or by_split[split]:
            continue
        way_out = ""
        # those of another computer
        if described.get("path") and (beside := yaml.parent / str(described[key])).is_dir():
            way_out = f"; '{beside}' is there: remove 'path: {described['path']}'"
        raise DataError(
            f"data YAML '{yaml}' names '{places[0]}' for {key}, where no image is: correct it, or"
            f" put them there{way_out}"
        )


def _unread_by_yolo(section: DataSection) -> list[Path]:
    """Images in the folders of the splits with endings that ultralytics does not read."""
    folders = set(
        itertools.chain(*(yolo_files.named_places(section, key) for key in yolo_files.YAML_SPLITS))
    )
    images = itertools.chain(*(walk(folder).images for folder in sorted(folders)))
    return [image for image in images if image.suffix.lower() not in yolo_files.IMAGE_ENDINGS]

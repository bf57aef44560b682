"""Takes the inventory of a recipe's images: opens all files, those of the test too, and says what
they show. No network sees them here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL import __version__ as pillow_version

from nas_attn.data import yolo_files
from nas_attn.data.bands import TIFF_ENDINGS, is_array, missing_reader, read_bands
from nas_attn.data.cache import remembered
from nas_attn.data.copies import Look, image_remarks
from nas_attn.data.decoding import (
    Source,
    check_upright,
    mask_values,
    more_bits,
    orientation_of,
    to_rgb,
    turned,
)
from nas_attn.data.image_file import is_deep, opened_image, raw_mode, why_unreadable
from nas_attn.data.inventory import NO_DATA, NOT_COUNTED, WHOLE, Boxes, Inventory, Remark, Shapes
from nas_attn.data.manifest import checksum
from nas_attn.data.samples import Samples, below
from nas_attn.errors import DataError, few, several
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Function, Kind, find_data_set

# of what is kept in the cache
LOOK_FORMAT = 12
# pixels of the shorter side, to which a JPEG is decoded
DRAFT = 128
# pixels of a side of the small versions that are compared; the longer side has a multiple
THUMB = 16
LONGEST = 8
# by which a copy's sides, rounded to whole pixels, may fall below a whole ratio: 333x167 of 640x320
ROUNDED = 0.1
# values that programs write for pixels without data: from here on down, and up
LEAST_MARK = -999.0
MOST_MARK = 65535.0
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


def look_at(root: Path, sources: Sequence[Source]) -> list[Look]:
    """Opens all images and masks; what they show is kept until a file changes."""
    files = [path for source in sources for path in source.files]
    question = ("looks", LOOK_FORMAT, pillow_version, missing_reader(files), sources)
    return [Look(**kept) for kept in remembered(root, question, files, sources, _open)]


def _open(source: Source) -> dict[str, Any]:
    """The fields of a `Look`, in JSON's types."""
    try:
        shown = _open_image(source)
        if source.mask is not None:
            shown["classes"] = np.unique(mask_values(source, shown["size"])).tolist()
        return shown
    except Exception as error:
        # decoders raise any error for damaged files
        return {"why": why_unreadable(source.files, error)}


def _open_image(source: Source) -> dict[str, Any]:
    path = source.image
    if is_array(path):
        return _open_bands(path)
    try:
        with opened_image(path) as opened:
            orientation = orientation_of(opened)
            check_upright(source, orientation)
            size = opened.size if orientation < 5 else opened.size[::-1]
            opened.draft("RGB", (DRAFT, DRAFT))
            if is_deep(opened):
                return _open_bands(path)
            # Pillow leaves out a fourth channel of a TIFF whose meaning is not said
            unsaid = any(raw_mode(tile.args).startswith("RGBX") for tile in opened.tile)
            bands = 4 if unsaid else len(opened.getbands())
            if opened.mode == "P":
                bands = 4 if "transparency" in opened.info else 3
            banded = unsaid or _is_graded(opened)
            shown = turned(to_rgb(opened), orientation)
    except UnidentifiedImageError:
        if path.suffix.lower() not in TIFF_ENDINGS:
            raise
        # Pillow knows none with five bands or more
        return _open_bands(path)
    return {
        "pixels": checksum([repr(shown.size).encode(), shown.tobytes()]),
        "thumb": _thumb(shown).hex(),
        "size": size,
        "banded": banded,
        "bands": bands,
    }


def _open_bands(path: Path) -> dict[str, Any]:
    values = read_bands(path)
    height, width, bands = values.shape
    grey = values.astype(np.float32).mean(axis=2)
    grey -= grey.min()
    grey *= 255 / (float(grey.max()) or 1.0)
    return {
        "pixels": checksum([repr(values.shape).encode(), values.tobytes()]),
        "thumb": _thumb(Image.fromarray(grey.astype(np.uint8))).hex(),
        "size": (width, height),
        "banded": True,
        "bands": bands,
        "deep": values.dtype != np.uint8,
        "ranges": np.stack([values.min((0, 1)), values.max((0, 1))], 1).tolist(),
    }


def _is_graded(image: Image.Image) -> bool:
    """Whether an image's fourth channel tells more than which pixels are transparent."""
    if image.mode != "RGBA":
        return False
    values = image.getchannel("A").histogram()
    return sum(values[1:255]) > sum(values) / 2


def _thumb(image: Image.Image) -> bytes:
    # strips that differ along them would all look alike in a square
    wide = THUMB * max(1, min(LONGEST, int(image.width / image.height + ROUNDED)))
    high = THUMB * max(1, min(LONGEST, int(image.height / image.width + ROUNDED)))
    return image.convert("L").resize((wide, high), Image.Resampling.BOX).tobytes()


def listed(section: DataSection, kind: Kind) -> Samples | None:
    """Lists the user's images in files; None for other data. Raises DataError: they are not as the
    task needs them.
    """
    source, colon, _ = section.name.partition(":")
    if source == "yolo" and colon:
        return yolo_files.read(section)
    row = find_data_set(section.name) if source in ("folder", "coco") and colon else None
    load: Any = row and getattr(row, kind)
    if load is None:
        return None
    read: Function = load()
    found: Samples = read(section)
    return found


def of(section: DataSection, kind: Kind) -> Inventory | None:
    """Returns the inventory of a recipe's data; None for data that are not images of the user's in
    files. Raises DataError: they are not as the task needs them.
    """
    found = listed(section, kind)
    if found is None or found.sources is None:
        return None
    sources: list[Source] = found.sources.tolist()
    seen = _seen(found, look_at(found.root, sources), kind, section.channels)
    readable = [image for image in seen if not image.why]
    if seen and not readable:
        raise DataError(
            f"{several(len(seen), 'image')} of '{found.root}' cannot be read"
            f"{' with their masks' if kind == 'masks' else ''}: all of them; the first,"
            f" '{seen[0].name}': {seen[0].why}"
        )
    unreadable = {image.name: image.why for image in seen if image.why}
    classes = list(map(printable_name, found.classes)) if kind == "classes" else [""]
    counts = {split: dict.fromkeys(classes, 0) for split in found.splits}
    for image in readable:
        counts[image.split][image.label] += 1
    if kind == "classes":
        _check_counts(found, counts, unreadable)
    of_folder = section.name.startswith("folder:")
    remarks = [
        *image_remarks(seen, grouped=section.groups is not None, by_groups=of_folder),
        *found.remarks,
        *(_undrawn(found, readable) if kind == "masks" else ()),
        *(_of_classes(found, counts) if kind == "classes" else ()),
    ]
    numbers = {look.bands for look in readable}
    bands = None
    ranges: Sequence[tuple[float, float]] = ()
    # `data.channels` is for folders
    if of_folder and len(numbers) == 1 and all(look.banded for look in readable):
        bands = numbers.pop()
        ranges = _ranges([look.ranges for look in readable if look.ranges], remarks)
    lacking = missing_reader(found.paths)
    if lacking and (bands or section.channels):
        remarks.append(Remark("missing_reader", lacking))
    return Inventory(
        tuple(map(printable_name, found.classes)),
        counts,
        unreadable,
        {
            printable_name(reason): [printable_name(below(file, found.root)) for file in files]
            for reason, files in found.left_out.items()
            if files
        },
        tuple(remarks),
        kind,
        {} if section.splits is None else section.splits.by_split,
        _shapes(readable),
        None if found.boxes is None else _boxes(found.boxes, sources, seen),
        section.size,
        section.fit,
        bands,
        section.channels,
        tuple(map(printable_name, found.about)),
        ranges,
        section.nodata,
    )


def _seen(found: Samples, looks: Sequence[Look], kind: Kind, channels: int | None) -> list[Look]:
    """What images show, with their names. They cannot be read if they have other bands than they
    must, or more bits than the others.
    """
    are_deep = all(look.deep for look in looks if not look.why)
    seen = []
    for look, split, label, name in zip(looks, found.split, found.labels, found.names, strict=True):
        why = look.why
        if not why and channels is None and look.deep and not are_deep:
            why = more_bits(look.bands)
        if not why and channels not in (None, look.bands):
            why = f"{look.bands} bands, and data.channels is {channels}"
        of_class = printable_name(found.classes[label]) if kind == "classes" else ""
        why = printable_name(why)
        named = printable_name(name)
        seen.append(replace(look, why=why, split=str(split), label=of_class, name=named))
    return seen


def printable_name(name: str) -> str:
    """Returns a name that can be printed and kept: letters that are not UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _shapes(looks: Sequence[Look]) -> Shapes | None:
    if not looks:
        return None
    sizes = np.array([look.size for look in looks], np.float64)
    width, height = np.median(sizes, axis=0).tolist()
    narrow, wide = np.quantile(sizes[:, 0] / sizes[:, 1], (0.1, 0.9)).tolist()
    return Shapes(width, height, narrow, wide, float(np.median(sizes.min(1) / sizes.max(1))))


def _boxes(
    boxes: NDArray[np.float32], sources: Sequence[Source], looks: Sequence[Look]
) -> Boxes | None:
    """The sizes of boxes with an area, of images that can be read."""
    sizes = np.array([look.size for look in looks], np.float64)
    # without a size, they are shares of their images
    drawn = np.array([source.size or (1, 1) for source in sources], np.float64)
    areas = (boxes[..., 3] - boxes[..., 1]) * (boxes[..., 4] - boxes[..., 2])
    sides = np.sqrt(areas.clip(min=0) * (sizes.prod(1) / drawn.prod(1))[:, None])
    shares = sides / sizes.max(1, initial=1)[:, None]
    there = sides > 0
    if not there.any():
        return None
    return Boxes(float(np.median(sides[there])), float(np.median(shares[there])))


def _ranges(
    found: Sequence[Sequence[tuple[float, float]]], remarks: list[Remark]
) -> Sequence[tuple[float, float]]:
    """The ranges of bands. Adds a remark on a value that may stand for pixels without data: the
    lowest or highest of most images.
    """
    if not found:
        return ()
    # (images, bands, 2)
    ranges = np.array(found, np.float64)
    lowest = ranges[..., 0].min(0).tolist()
    highest = ranges[..., 1].max(0).tolist()
    ends = {min(lowest): ranges[..., 0].min(1), max(highest): ranges[..., 1].max(1)}
    for value, of_images in ends.items():
        share = float(np.mean(of_images == value))
        if share > 0.5 and (value <= LEAST_MARK or value >= MOST_MARK):
            said = (
                f"{value:.15g} is in {share:.0%} of the images: if it stands for pixels without"
                f" data, give data.nodata = {value:.15g}"
            )
            remarks.append(Remark(NO_DATA, said))
    return list(zip(lowest, highest, strict=True))


def _undrawn(found: Samples, readable: Sequence[Look]) -> list[Remark]:
    """The classes of which no mask of a split has a pixel."""
    remarks = []
    for split in found.splits:
        values = {value for look in readable if look.split == split for value in look.classes}
        lacking = [name for number, name in enumerate(found.classes) if number not in values]
        if lacking and values:
            of_split = "" if split == WHOLE else f" of {split}"
            said = f"no mask{of_split} has a pixel of class {few(lacking)}"
            if NOT_COUNTED in values:
                said += (
                    f"; the value {NOT_COUNTED} counts as no class: if it stands for one, write"
                    " that class's number"
                )
            remarks.append(Remark("undrawn_classes", said))
    return remarks


def _check_counts(
    found: Samples, counts: Mapping[str, Mapping[str, int]], unreadable: Mapping[str, str]
) -> None:
    """Raises DataError: a class of a folder that is not divided has too few images for splits."""
    for name, count in counts.get(WHOLE, {}).items():
        if count >= FEWEST_TO_SPLIT:
            continue
        said = [several(count, "image")]
        broken = [why for file, why in unreadable.items() if file.startswith(f"{name}/")]
        if broken:
            said.append(f"{len(broken):,} unreadable ({broken[0]})")
        for reason, files in found.left_out.items():
            of_class = sum(file.is_relative_to(found.root / name) for file in files)
            if of_class:
                said.append(f"{several(of_class, 'file')} {reason}")
        raise DataError(
            f"class '{name}' of '{found.root}' has {' beside '.join(said)}, and each class needs"
            f" {FEWEST_TO_SPLIT} for splits: add some, or move the folder away if it is no class"
        )


def _of_classes(found: Samples, counts: Mapping[str, Mapping[str, int]]) -> list[Remark]:
    """The classes that a split lacks or has alone, and the one that accuracy hides."""
    remarks = []
    refused = dict.fromkeys(counts, "the search will be refused")
    refused["test"] = "the final test will be refused"
    for split, why in found.refused.items():
        said = f"{why}: {refused[split]}; add it to train, or move it out of the folder"
        remarks.append(Remark("unknown_classes", printable_name(said)))
    for split, by_class in counts.items():
        if lacking := [name for name, count in by_class.items() if not count]:
            said = f"{split} has no image of class {few(lacking)}: {refused[split]}; add some"
            remarks.append(Remark("lacking_classes", said))
    return remarks + _small_classes(counts)


def _small_classes(counts: Mapping[str, Mapping[str, int]]) -> list[Remark]:
    """The class that accuracy hides: far smaller than the largest, or with few images."""
    train = counts.get("train", counts.get(WHOLE, {}))
    rarest = min(train, key=train.__getitem__)
    largest = max(train, key=train.__getitem__)
    balanced = (
        'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'
    )
    if train[largest] >= UNEQUAL * max(train[rarest], 1):
        said = (
            f"class '{rarest}' has {several(train[rarest], 'image')} and '{largest}'"
            f" {train[largest]:,}: accuracy hides the smallest class; {balanced}"
        )
        return [Remark("unequal_classes", said)]
    scored = counts.get("validation")
    about = ""
    if scored is None:
        # taken from the training images, at least one of each class
        share = VALIDATION_SHARE if WHOLE in counts else 0.2
        scored = {name: max(1, round(share * count)) for name, count in train.items()}
        about = "about "
    smallest = min(scored, key=scored.__getitem__)
    if not 0 < scored[smallest] < FEW_TO_SCORE:
        return []
    # estimates of so few are rounded, and rounding makes equal classes unequal
    counted = counts.get("validation", train).values()
    hides = f"accuracy hides small classes; {balanced}"
    if max(counted) < ALIKE * max(min(counted), 1):
        hides = "the others hardly more: add images, so that small gains can be seen"
    images = several(scored[smallest], "validation image")
    return [Remark("few_of_class", f"class '{smallest}' has {about}{images}, and {hides}")]

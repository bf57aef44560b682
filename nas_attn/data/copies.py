"""Images of a data set that belong together: between splits they are a leak, between classes a
contradiction.

Images are equal if their decoded pixels are, whatever the file. They are nearly equal if small grey
versions of them correlate, as those of one photograph do that was scaled or saved again. And a
program that makes several images of one photograph, film or patient writes that one's name before a
number: `person20_bacteria_3.jpeg`, `clip05_frame0012.jpg`, `cat003_jpg.rf.8e61….jpg` (Roboflow).
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL import __version__ as pillow_version

from nas_attn.data.bands import TIFF_ENDINGS, is_array, missing_reader, read_bands
from nas_attn.data.cache import remembered_each
from nas_attn.data.decoding import Size, orientation_of, shown_size, to_rgb
from nas_attn.data.image_file import is_deep, opened_image, raw_mode, why_unreadable
from nas_attn.data.inventory import BANDED, WHOLE, Remark
from nas_attn.data.manifest import checksum
from nas_attn.errors import DataError, several

# of what is kept in the cache
LOOK_FORMAT = 11
# pixels of the shorter side, to which a JPEG is decoded
DRAFT = 128
# pixels of a side of the small versions that are compared; the longer side has a multiple
THUMB = 16
LONGEST = 8
# by which a copy's sides, rounded to whole pixels, may fall below a whole ratio: 333x167 of 640x320
ROUNDED = 0.1
# standard deviation of a small version, 0 to 255, below which it shows nothing
FLAT = 4.0
# Correlation from which two are near copies: of 10,000 images of CIFAR-10, it names four pairs,
# which are so; images of 48 pixels or more that are scaled or saved again keep it.
LIKE_PIXELS = 0.98
# pixels of an image that are copied at once
STRIP = 2**20
# images of which each is compared with each, which takes some seconds
MOST_IMAGES_COMPARED = 20_000
# images that are compared with all others at once
COMPARED_TOGETHER = 512
# the way out where no groups can keep images together
WITHOUT_GROUPS = "give validation a file of its own without them, or leave out one"
_ROBOFLOW = re.compile(r"^(.+)\.rf\.\w+$")
# A name with a digit, then a number, perhaps with letters before it: those of one class, `cat_12`,
# have no digit in what they share.
_NUMBERED = re.compile(r"^(.*\d[^_\-. ()]*(?:[_\-. ()]+[^\W\d_]+)*)[_\-. (]+[^\W\d_]*\d+\)?$")
# separators before a number, for an expression of `data.groups`
_SEPARATORS = re.compile(r"[_\-. (]")
# share of the images whose names must be shared, and times as many such names as classes, so that
# they are hardly those of the classes
LEAST_SHARED = 0.5
LEAST_NAMES = 2


@dataclass(frozen=True, slots=True)
class Look:
    """What opening an image has shown."""

    # why it cannot be read, and the rest is not known; else empty
    why: str = ""
    # checksum of the pixels
    pixels: int = 0
    # the small version, bytes in hexadecimal digits
    thumb: str = ""
    # width and height in pixels, as it is shown
    size: Size = (0, 0)
    # whether RGB leaves something out: it is no photograph, it has more than 8 bits, or a fourth
    # channel is hardly transparency, which is none or full nearly everywhere
    banded: bool = False
    # how many the file has
    bands: int = 0
    # whether it has more than 8 bits
    deep: bool = False
    # of each band, if they are looked at: its lowest and highest value
    ranges: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """One image file of a data set."""

    split: str
    # its class; empty: it has none of its own
    label: str
    name: str
    look: Look


Pair = tuple[Seen, Seen]


def look_at(root: Path, images: Sequence[Path]) -> list[Look]:
    """Opens all images; what they show is kept until a file changes."""
    question = ("pixels", LOOK_FORMAT, pillow_version, missing_reader(images))
    return [Look(**kept) for kept in remembered_each(root, question, images, images, _open)]


def _open(path: Path) -> dict[str, Any]:
    """The fields of a `Look`, in JSON's types."""
    try:
        if is_array(path):
            return _open_bands(path)
        with opened_image(path) as opened:
            size = shown_size(opened.size, orientation_of(opened))
            opened.draft("RGB", (DRAFT, DRAFT))
            if is_deep(opened):
                return _open_bands(path)
            # Pillow leaves out a fourth channel of a TIFF whose meaning is not said
            unsaid = any(raw_mode(tile.args).startswith("RGBX") for tile in opened.tile)
            image = ImageOps.exif_transpose(opened)
            banded = unsaid or _is_graded(image)
            bands = 4 if unsaid else len(image.getbands())
            if image.mode == "P":
                bands = 4 if "transparency" in image.info else 3
            shown = to_rgb(image)
        return {
            "pixels": checksum(_content(shown)),
            "thumb": _thumb(shown).hex(),
            "size": size,
            "banded": banded,
            "bands": bands,
        }
    except Exception as error:
        if isinstance(error, UnidentifiedImageError) and path.suffix.lower() in TIFF_ENDINGS:
            # Pillow knows none with five bands or more
            with suppress(Exception):
                return _open_bands(path)
            error = DataError(missing_reader([path])) if missing_reader([path]) else error
        # decoders raise any error for damaged files
        return {"why": why_unreadable([path], error)}


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


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """The image from top to bottom, in parts: of a scan of 150 million pixels, a copy takes half a
    gigabyte.
    """
    width, height = image.size
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        yield image.crop((0, top, width, min(top + rows, height)))


def _content(image: Image.Image) -> Iterator[bytes]:
    """What makes images equal: size and pixels."""
    yield repr(image.size).encode()
    for strip in _strips(image):
        yield strip.tobytes()


def _thumb(image: Image.Image) -> bytes:
    # strips that differ along them would all look alike in a square
    wide = THUMB * max(1, min(LONGEST, int(image.width / image.height + ROUNDED)))
    high = THUMB * max(1, min(LONGEST, int(image.height / image.width + ROUNDED)))
    return image.convert("L").resize((wide, high), Image.Resampling.BOX).tobytes()


def image_remarks(seen: Sequence[Seen], *, grouped: bool, by_groups: bool) -> list[Remark]:
    """Returns what images and their names tell: equal and nearly equal images in two splits, in
    two classes, or that a split may part; bands that are not read, and names that belong together.

    Args:
        seen: All images, the unreadable ones included.
        grouped: Whether groups keep images together.
        by_groups: Whether they can, where a split may part some.
    """
    readable = [image for image in seen if not image.look.why]
    splits = {image.split for image in seen}
    # the split from which the images for validation are drawn; empty if none is
    parted = ""
    if not grouped and "validation" not in splits:
        parted = "train" if "train" in splits else WHOLE
    together = WITHOUT_GROUPS
    if by_groups:
        together = "remove them, or keep them together with data.groups"
    remarks = [*_equal(readable, parted, together), *_near(readable, parted, together)]
    if banded := [image for image in readable if image.look.banded]:
        first = banded[0]
        remarks.append(
            Remark(
                BANDED,
                f"{several(len(banded), 'image')} with bands or bits that RGB leaves out, such as"
                f" '{first.name}': data.channels = {first.look.bands} reads all bands as they are",
            )
        )
    if not grouped:
        remarks += _shared_names(seen, parted, by_groups=by_groups)
    return remarks


def _equal(seen: Sequence[Seen], parted: str, together: str) -> list[Remark]:
    by_pixels: defaultdict[int, list[Seen]] = defaultdict(list)
    for image in seen:
        by_pixels[image.look.pixels].append(image)
    twice: list[list[Seen]] = []
    copied: dict[str, list[list[Seen]]] = {"split": [], "label": [], "name": []}
    for group in by_pixels.values():
        splits = {image.split for image in group}
        labels = {image.label for image in group}
        if len({image.name for image in group}) == 1:
            # annotations of one split may name a file twice
            twice += [group] if len(splits) > 1 else []
            continue
        if len(splits) > 1:
            copied["split"].append(group)
        if len(labels) > 1:
            copied["label"].append(group)
        elif splits == {parted}:
            copied["name"].append(group)
    remarks: list[Remark] = []
    if twice:
        first = twice[0]
        places = " and ".join(dict.fromkeys(image.split for image in first))
        remarks.append(
            Remark(
                "files_in_two_splits",
                f"{several(len(twice), 'file')} in two splits at once, such as '{first[0].name}' in"
                f" {places}: scores on them tell nothing about new images; give each split images"
                " of its own",
            )
        )
    for differing, groups in copied.items():
        if groups:
            remarks.append(Remark("copies", _copies_text(groups, differing, together)))
    return remarks


def _copies_text(groups: Sequence[Sequence[Seen]], differing: str, together: str) -> str:
    """Says which images have copies; those of a group differ in this field."""
    one = groups[0][0]
    other = next(each for each in groups[0] if getattr(each, differing) != getattr(one, differing))
    copied = f"{several(len(groups), 'image')} with copies of the same pixels"
    files = sum(len({image.name for image in group}) for group in groups)
    if files != 2 * len(groups):
        # some have more than one copy
        copied += f" ({files:,} files)"
    such = f"such as '{one.name}' and '{other.name}'"
    if differing == "split":
        return (
            f"{copied} in two splits, {such}: scores on them tell nothing about new images; leave"
            " them out of one split"
        )
    if differing == "label":
        return (
            f"{copied} in two classes, {such}: no network can be right about both; leave them out"
            " of one class"
        )
    return f"{copied}, {such}, which may come into two splits: {together}"


def _near(readable: Sequence[Seen], parted: str, together: str) -> Iterator[Remark]:
    if len(readable) > MOST_IMAGES_COMPARED:
        yield Remark(
            "near_copies",
            f"near copies are sought among {MOST_IMAGES_COMPARED:,} images at most, and not among"
            f" these {len(readable):,}: only equal images were looked for",
        )
        return
    if len({image.split for image in readable}) > 1:
        pairs = near_copies(readable, lambda image: image.split)
        for one, other in pairs[:1]:
            yield Remark(
                "near_copies",
                f"{several(len(pairs), 'image')} nearly equal to one of another split, such as"
                f" '{one.name}' and '{other.name}': if they are one photograph, scaled or saved"
                " again, leave them out of one split",
            )
    divided = [image for image in readable if image.split == parted]
    pairs = near_copies(divided, lambda image: image.name)
    for one, other in pairs[:1]:
        yield Remark(
            "near_copies",
            f"{several(len(pairs), 'image')} nearly equal to another one, such as '{one.name}' and"
            f" '{other.name}', which may come into two splits: if they are of one scene,"
            f" {together}",
        )


def near_copies(seen: Sequence[Seen], place: Callable[[Seen], str]) -> list[Pair]:
    """Returns each image that is nearly equal to an earlier one at another place, after that one.
    Equal images are left out, and those that show nothing.
    """
    if len(seen) < 2:
        return []
    by_shape: defaultdict[tuple[int, bool], list[Seen]] = defaultdict(list)
    for image in seen:
        width, height = image.look.size
        by_shape[len(image.look.thumb), width < height].append(image)
    return list(itertools.chain(*(_alike(images, place) for images in by_shape.values())))


def _alike(seen: Sequence[Seen], place: Callable[[Seen], str]) -> Iterator[Pair]:
    """The pairs of images whose small versions have the same shape."""
    small = np.array(
        [np.frombuffer(bytes.fromhex(image.look.thumb), np.uint8) for image in seen], np.float32
    )
    deviation = small.std(1)
    chosen = np.flatnonzero(deviation >= FLAT)
    # rows of length 1: their products are correlations
    rows = small[chosen] - small[chosen].mean(1, keepdims=True)
    rows /= deviation[chosen, None] * math.sqrt(small.shape[1])
    kept = [seen[number] for number in chosen.tolist()]
    pixels = np.array([image.look.pixels for image in kept], np.int64)
    numbers: dict[str, int] = {}
    places = [numbers.setdefault(place(image), len(numbers)) for image in kept]
    for row, other in _first_alike(rows, pixels, np.array(places, np.int64)):
        yield kept[other], kept[row]


def _first_alike(
    rows: NDArray[np.float32], pixels: NDArray[np.int64], apart: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """(row, the first earlier row that it is alike); both differ in `pixels` and in `apart`."""
    for start in range(0, len(rows), COMPARED_TOGETHER):
        end = min(start + COMPARED_TOGETHER, len(rows))
        alike = rows[start:end] @ rows[:end].T >= LIKE_PIXELS
        alike &= pixels[start:end, None] != pixels[None, :end]
        alike &= apart[start:end, None] != apart[None, :end]
        alike &= np.arange(start, end)[:, None] > np.arange(end)[None]
        for row in np.flatnonzero(alike.any(1)).tolist():
            yield start + row, int(alike[row].argmax())


def origin(name: str) -> str:
    """Returns what an image's name shares with those of the same photograph, film or patient;
    empty: nothing.
    """
    stem = PurePosixPath(name).stem
    match = _ROBOFLOW.match(stem) or _NUMBERED.match(stem)
    return match.group(1) if match else ""


def clip_of(image: Seen) -> str:
    """Returns the folder of an image below that of its class, which may be a film or a patient;
    empty: it is in none.
    """
    folders = PurePosixPath(image.name).parts[:-1]
    if not image.label or image.label not in folders:
        return ""
    return "/".join(folders[folders.index(image.label) + 1 :][:1])


def _pattern_for(name: str) -> str:
    """The expression for `data.groups` that gives a name's origin."""
    stem = PurePosixPath(name).stem
    if _ROBOFLOW.match(stem):
        return r"^(.+)\.rf\."
    separator = _SEPARATORS.findall(stem.rstrip(")"))[-1]
    return f"^(.+){re.escape(separator) if separator in '.(' else separator}"


def _shared_names(seen: Sequence[Seen], parted: str, *, by_groups: bool) -> Iterator[Remark]:
    """About names that several images share, which are in two splits, or may come into two."""
    by_origin: defaultdict[str, list[Seen]] = defaultdict(list)
    for image in seen:
        if called := origin(image.name) or clip_of(image):
            by_origin[called].append(image)
    shared = {called: images for called, images in by_origin.items() if len(images) > 1}
    labels = {image.label for image in seen}
    count = sum(map(len, shared.values()))
    if len(shared) < LEAST_NAMES * len(labels) or count < LEAST_SHARED * len(seen):
        return
    apart = {
        called: images
        for called, images in shared.items()
        if len({image.split for image in images}) > 1 or images[0].split == parted
    }
    for called, images in itertools.islice(apart.items(), 1):
        way_out = WITHOUT_GROUPS
        if by_groups:
            pattern = "^([^/]+)/" if clip_of(images[1]) == called else _pattern_for(images[1].name)
            way_out = f"keep its images together with data.groups = {{ pattern = '{pattern}' }}"
        yield Remark(
            "shared_names",
            f"{several(len(apart), 'name')} shared by images that are in two splits, or may come"
            f" into two, such as '{images[0].name}' and '{images[1].name}': if '{called}' is one"
            f" photograph, film or patient, {way_out}",
        )

"""Equal and nearly equal images of a data set: between splits they are a leak, between classes a
contradiction.

Images are equal if their decoded pixels are, whatever the file. They are nearly equal if small grey
versions of them correlate, as those of one photograph do that was scaled or saved again.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL import __version__ as pillow_version

from nas_attn.data.broken import why_unreadable
from nas_attn.data.decoding import to_rgb
from nas_attn.data.depth import is_deep
from nas_attn.data.facts import (
    WHOLE,
    Copies,
    FilesInTwoSplits,
    ImageRemark,
    NearCopies,
    OneColour,
    Pair,
    SeveralPages,
)
from nas_attn.data.manifest import checksum
from nas_attn.data.opening import opened_image
from nas_attn.data.remembered import remembered
from nas_attn.system.processes import cores

# of what is kept in the cache
LOOK_FORMAT = 5
# Formats whose files may be stacks of pages or films. In a photograph of a telephone (MPO), the
# second image is no other view of the scene.
STACKS = ("TIFF", "GIF", "PNG", "WEBP", "AVIF")
# pixels of the shorter side, to which a JPEG is decoded
DRAFT = 128
# pixels of a side of the small versions that are compared
THUMB = 16
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


@dataclass(frozen=True, slots=True)
class Look:
    """What opening an image has shown."""

    # checksum of the pixels; 0: it cannot be read
    pixels: int
    # it cannot be read; else empty
    why: str
    # the small version, THUMB x THUMB bytes; empty: it cannot be read
    thumb: bytes
    # whether there are more pages or frames in the file
    stacked: bool = False
    # whether all pixels have one colour
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One image file of a data set."""

    split: str
    # its class; empty: it has none of its own
    label: str
    name: str
    look: Look


def look_at(root: Path, images: Sequence[Path]) -> list[Look]:
    """Opens all images; what they show is kept until a file changes."""

    def open_all() -> list[tuple[int, str, str, bool, bool]]:
        with warnings.catch_warnings(), ThreadPoolExecutor(cores()) as pool:
            # of threads, only the first of all warnings about odd files would be shown
            warnings.simplefilter("ignore")
            return list(pool.map(_open, images))

    question = ("pixels", LOOK_FORMAT, pillow_version)
    rows = remembered(root, question, images, open_all)
    return [
        Look(pixels, why, bytes.fromhex(thumb), stacked, blank)
        for pixels, why, thumb, stacked, blank in rows
    ]


def _open(path: Path) -> tuple[int, str, str, bool, bool]:
    try:
        with opened_image(path) as opened:
            opened.draft("RGB", (DRAFT, DRAFT))
            deep = is_deep(opened)
            stacked = opened.format in STACKS and getattr(opened, "is_animated", False)
            image = ImageOps.exif_transpose(opened)
            shown = image if deep else to_rgb(image)
        pixels = checksum(_content(shown))
        return pixels, "", _thumb(shown, deep=deep).hex(), stacked, _is_blank(shown)
    except Exception as error:
        # decoders raise any error for damaged files
        return 0, why_unreadable([path], error), "", False, False


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


def _is_blank(image: Image.Image) -> bool:
    first = np.asarray(image.crop((0, 0, 1, 1)))[0, 0]
    return all(bool((np.asarray(strip) == first).all()) for strip in _strips(image))


def _thumb(image: Image.Image, *, deep: bool) -> bytes:
    # only the shape of the values matters here, not their range
    if deep:
        values = np.asarray(image).astype(np.float32)
        values *= 255 / max(1.0, float(values.max()))
        image = Image.fromarray(values.astype(np.uint8))
    return image.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()


def open_split(seen: Sequence[Seen]) -> str:
    """The split from which the images for validation are drawn; empty if they have one."""
    splits = {image.split for image in seen}
    if "validation" in splits:
        return ""
    return "train" if "train" in splits else WHOLE


def about_looks(seen: Sequence[Seen], *, grouped: bool, by_groups: bool) -> list[ImageRemark]:
    """Equal images in two splits, in two classes, or that a split may part, nearly equal ones,
    images of one colour, and files with several images.

    `grouped`: groups keep images together; `by_groups`: they can, where a split may part some.
    """
    readable = [image for image in seen if not image.look.why]
    parted = "" if grouped else open_split(seen)
    remarks: list[ImageRemark] = [*_equal(readable, parted, by_groups=by_groups)]
    if len({image.split for image in seen}) > 1:
        remarks += _alike_across(readable)
    if parted:
        divided = [image for image in readable if image.split == parted]
        remarks += _alike_within(divided, by_groups=by_groups)
    blank = [image.name for image in readable if image.look.blank]
    if blank:
        remarks.append(OneColour(len(blank), blank[0]))
    stacks = tuple(image.name for image in readable if image.look.stacked)
    if stacks:
        remarks.append(SeveralPages(stacks))
    return remarks


def _equal(seen: Sequence[Seen], open_to: str, *, by_groups: bool) -> list[ImageRemark]:
    """`open_to`: the split whose images a division may part; empty if none is."""
    by_pixels: defaultdict[int, list[Seen]] = defaultdict(list)
    for image in seen:
        by_pixels[image.look.pixels].append(image)
    # annotations of one split may name a file twice
    single = [group for group in by_pixels.values() if len(_file_names(group)) == 1]
    copied = [group for group in by_pixels.values() if len(_file_names(group)) > 1]
    twice = [group for group in single if len(_splits(group)) > 1]
    across = [group for group in copied if len(_splits(group)) > 1]
    between = [group for group in copied if len(_labels(group)) > 1]
    within = [group for group in copied if _splits(group) == [open_to] and len(_labels(group)) == 1]
    remarks: list[ImageRemark] = []
    if twice:
        first = twice[0]
        remarks.append(FilesInTwoSplits(len(twice), first[0].name, tuple(_splits(first))))
    if across:
        pair = _pair(across[0], lambda image: image.split)
        remarks.append(Copies(len(across), _files(across), pair, "splits"))
    if between:
        pair = _pair(between[0], lambda image: image.label)
        remarks.append(Copies(len(between), _files(between), pair, "classes"))
    if within:
        pair = _pair(within[0], lambda image: image.name)
        remarks.append(Copies(len(within), _files(within), pair, "parted", by_groups))
    return remarks


def _file_names(group: Sequence[Seen]) -> list[str]:
    return list(dict.fromkeys(image.name for image in group))


def _splits(group: Sequence[Seen]) -> list[str]:
    return list(dict.fromkeys(image.split for image in group))


def _labels(group: Sequence[Seen]) -> list[str]:
    return list(dict.fromkeys(image.label for image in group))


def _files(groups: Sequence[Sequence[Seen]]) -> int:
    """In how many files the images of these groups are."""
    return sum(len(_file_names(group)) for group in groups)


def _pair(group: Sequence[Seen], by: Callable[[Seen], str]) -> Pair:
    first = group[0]
    other = next(image for image in group if by(image) != by(first))
    return first.name, other.name


def _alike_across(seen: Sequence[Seen]) -> list[NearCopies]:
    pairs = near_copies(seen, [image.split for image in seen])
    if not pairs:
        return []
    return [NearCopies(len(pairs), _names(pairs[0]), "splits")]


def _alike_within(seen: Sequence[Seen], *, by_groups: bool) -> list[NearCopies]:
    """About images of the split that a division may part."""
    pairs = near_copies(seen, [image.name for image in seen])
    if not pairs:
        return []
    return [NearCopies(len(pairs), _names(pairs[0]), "parted", by_groups)]


def _names(pair: tuple[Seen, Seen]) -> Pair:
    first, other = pair
    return first.name, other.name


def near_copies(seen: Sequence[Seen], places: Sequence[str]) -> list[tuple[Seen, Seen]]:
    """Each image that is nearly equal to an earlier one at another place, with that one. Equal
    images are left out, and those that show nothing.
    """
    small = np.array([np.frombuffer(image.look.thumb, np.uint8) for image in seen], np.float32)
    if not 2 <= len(seen) <= MOST_IMAGES_COMPARED:
        return []
    deviation = small.std(1)
    chosen = np.flatnonzero(deviation >= FLAT)
    if not len(chosen):
        return []
    # rows of length 1: their products are correlations
    rows = small[chosen] - small[chosen].mean(1, keepdims=True)
    rows /= deviation[chosen, None] * THUMB
    kept = [seen[number] for number in chosen.tolist()]
    pixels = np.array([image.look.pixels for image in kept], np.int64)
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    apart = np.array([numbers[places[number]] for number in chosen.tolist()], np.int64)
    pairs = _first_alike(rows, pixels, apart)
    return [(kept[other], kept[row]) for row, other in pairs]


def _first_alike(
    rows: NDArray[np.float32], pixels: NDArray[np.int64], apart: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """(row, the first earlier row that it is alike); both differ in `pixels` and in `apart`."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(rows), COMPARED_TOGETHER):
        end = min(start + COMPARED_TOGETHER, len(rows))
        alike = rows[start:end] @ rows[:end].T >= LIKE_PIXELS
        alike &= pixels[start:end, None] != pixels[None, :end]
        alike &= apart[start:end, None] != apart[None, :end]
        alike &= np.arange(start, end)[:, None] > np.arange(end)[None]
        for row in np.flatnonzero(alike.any(1)).tolist():
            pairs.append((start + row, int(alike[row].argmax())))
    return pairs

"""Images of a data set that belong together: between splits they are a leak, between classes a
contradiction.

Images are equal if their decoded pixels are, whatever the file. They are nearly equal if small grey
versions of them correlate, as those of one photograph do that was scaled or saved again. And a
program that makes several images of one photograph, film or patient writes that one's name before a
number: `person20_bacteria_3.jpeg`, `clip05_frame0012.jpg`, `cat003_jpg.rf.8e61….jpg` (Roboflow).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from nas_attn.data.decoding import Size
from nas_attn.data.inventory import BANDED, WHOLE, Remark
from nas_attn.errors import several

# standard deviation of a small version, 0 to 255, below which it shows nothing
FLAT = 4.0
# Correlation from which two are near copies: of 10,000 images of CIFAR-10, it names four pairs,
# which are so; images of 48 pixels or more that are scaled or saved again keep it.
LIKE_PIXELS = 0.98
# images of which each is compared with each, which takes some seconds
MOST_IMAGES_COMPARED = 20_000
# images that are compared with all others at once
COMPARED_TOGETHER = 512
# For `data.groups`: what names share that Roboflow gives to copies of a photograph; that have a
# number behind a name with a digit (those of one class, `cat_12`, have none); the folder inside a
# class.
PATTERNS = (r"^(.+)\.rf\.", r"^(.*\d.*)[-_. (]+[^\W\d_]*\d+\)?\.", r"^([^/]+)/")
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
    # the values of its mask
    classes: Sequence[int] = ()
    # what is known without opening it; its class is empty if it has none of its own
    name: str = ""
    split: str = ""
    label: str = ""


def image_remarks(seen: Sequence[Look], *, grouped: bool, by_groups: bool) -> list[Remark]:
    """Returns what images and their names tell: equal and nearly equal images in two splits, in
    two classes, or that a split may part; bands that are not read, and names that belong together.

    Args:
        seen: All images, the unreadable ones included.
        grouped: Whether groups keep images together.
        by_groups: Whether they can, where a split may part some.
    """
    readable = [image for image in seen if not image.why]
    splits = {image.split for image in seen}
    # the split from which the images for validation are drawn; empty if none is
    parted = ""
    if not grouped and "validation" not in splits:
        parted = "train" if "train" in splits else WHOLE
    together = "give validation a file of its own without them, or leave out one"
    if by_groups:
        together = "remove them, or keep them together with data.groups"
    way_out = "save them as RGB with 8 bits, since only folders can have other images"
    banded = [(image, image) for image in readable if image.banded]
    if banded and by_groups:
        way_out = f"data.channels = {banded[0][0].bands} reads all bands as they are"
    return [
        *_equal(readable, parted, together),
        *_near(readable, parted, together),
        *_remark(BANDED, banded, "image with bands or bits that RGB leaves out", way_out),
        *(_shared_names(seen, parted) if by_groups and not grouped else ()),
    ]


def _remark(kind: str, found: Sequence[Sequence[Look]], what: str, advice: str) -> Iterator[Remark]:
    """One remark on all that is found, with two images of the first; `what` begins with a noun."""
    noun, _, rest = what.partition(" ")
    for one, other, *_ in found[:1]:
        names = " and ".join(f"'{name}'" for name in dict.fromkeys((one.name, other.name)))
        yield Remark(kind, f"{several(len(found), noun)} {rest}, such as {names}: {advice}")


def _equal(seen: Sequence[Look], parted: str, together: str) -> list[Remark]:
    by_pixels: defaultdict[int, list[Look]] = defaultdict(list)
    for image in seen:
        by_pixels[image.pixels].append(image)
    # annotations of one split may name a file twice
    twice = [group for group in by_pixels.values() if len({image.name for image in group}) == 1]
    copied = [group for group in by_pixels.values() if len({image.name for image in group}) > 1]
    inside = [
        group
        for group in copied
        if {(image.split, image.label) for image in group} == {(parted, group[0].label)}
    ]

    def told(kind: str, differing: str, groups: Sequence[Sequence[Look]], *said: str) -> None:
        found = []
        for one, *others in groups:
            other = [o for o in others if getattr(o, differing) != getattr(one, differing)]
            found += [(one, other[0])] if other else []
        remarks.extend(_remark(kind, found, *said))

    remarks: list[Remark] = []
    leak = "scores on them tell nothing about new images"
    copies = "image with copies of the same pixels"
    told(
        "files_in_two_splits",
        "split",
        twice,
        "file in two splits at once",
        f"{leak}; give each split images of its own",
    )
    told(
        "copies", "split", copied, f"{copies} in two splits", f"{leak}; leave them out of one split"
    )
    told(
        "copies",
        "label",
        copied,
        f"{copies} in two classes",
        "no network can be right about both; leave them out of one class",
    )
    told("copies", "name", inside, f"{copies}, which may come into two splits", together)
    return remarks


def _near(seen: Sequence[Look], parted: str, together: str) -> Iterator[Remark]:
    if len(seen) > MOST_IMAGES_COMPARED:
        said = (
            f"near copies are sought among {MOST_IMAGES_COMPARED:,} images at most, and not among"
            f" these {len(seen):,}: only equal images were looked for"
        )
        yield Remark("near_copies", said)
        return
    pairs = list(near_copies(seen))
    yield from _remark(
        "near_copies",
        [(one, other) for one, other in pairs if one.split != other.split],
        "image nearly equal to one of another split",
        "if they are one photograph, scaled or saved again, leave them out of one split",
    )
    yield from _remark(
        "near_copies",
        [(one, other) for one, other in pairs if one.split == other.split == parted],
        "image nearly equal to another one, which may come into two splits",
        f"if they are of one scene, {together}",
    )


def near_copies(seen: Sequence[Look]) -> Iterator[tuple[Look, Look]]:
    """Yields each image that is nearly equal to an earlier one, after the first of these: images of
    train come first, so that one in another split is not hidden by one in its own. Equal images are
    left out, and those that show nothing.
    """
    by_shape: defaultdict[tuple[int, bool], list[Look]] = defaultdict(list)
    for image in seen:
        by_shape[len(image.thumb), image.size[0] < image.size[1]].append(image)
    for images in by_shape.values():
        thumbs = [np.frombuffer(bytes.fromhex(image.thumb), np.uint8) for image in images]
        small = np.array(thumbs, np.float32)
        deviation = small.std(1)
        chosen = np.flatnonzero(deviation >= FLAT)
        # rows of length 1: their products are correlations
        rows = small[chosen] - small[chosen].mean(1, keepdims=True)
        rows /= deviation[chosen, None] * math.sqrt(small.shape[1])
        kept = [images[number] for number in chosen.tolist()]
        pixels = np.array([image.pixels for image in kept])
        for start in range(0, len(rows), COMPARED_TOGETHER):
            end = start + COMPARED_TOGETHER
            alike = rows[start:end] @ rows[:end].T >= LIKE_PIXELS
            alike &= pixels[start:end, None] != pixels[:end]
            # with earlier ones
            for row in np.flatnonzero(np.tril(alike, start - 1).any(1)).tolist():
                yield kept[int(alike[row].argmax())], kept[start + row]


def _shared_names(seen: Sequence[Look], parted: str) -> Iterator[Remark]:
    """About names that several images share, which are in two splits, or may come into two."""
    labels = {image.label for image in seen}
    for pattern in PATTERNS:
        by_name: defaultdict[str, list[Look]] = defaultdict(list)
        for image in seen:
            path = PurePosixPath(image.name)
            # below the folder of its class; where it has none, the file's name
            inside = f"/{path}".partition(f"/{image.label}/")[2] or path.name
            if match := re.search(pattern, inside):
                by_name[match.group(1)].append(image)
        shared = {name: images for name, images in by_name.items() if len(images) > 1}
        count = sum(map(len, shared.values()))
        if len(shared) < LEAST_NAMES * len(labels) or count < LEAST_SHARED * len(seen):
            continue
        apart = [
            (name, images)
            for name, images in shared.items()
            if len({image.split for image in images}) > 1 or images[0].split == parted
        ]
        for name, _ in apart[:1]:
            advice = (
                f"if '{name}' is one photograph, film or patient, keep its images together with"
                f" data.groups = {{ pattern = '{pattern}' }}"
            )
            what = "name shared by images that are in two splits, or may come into two"
            yield from _remark("shared_names", [images for _, images in apart], what, advice)
        return

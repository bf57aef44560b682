"""Images that their EXIF data turn, and what their masks or boxes were drawn on: the image as its
file stores it, or as it is shown.

Where width and height change places, the size of the labels tells it. One program has drawn the
labels of a data set, so what these images tell holds for all others: those turned by 180 degrees,
mirrored, or square.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nas_attn.data.decoding import (
    Framed,
    Masked,
    Size,
    Source,
    drawn_on,
    orientation_of,
    shown_size,
)
from nas_attn.data.inventory import DrawnOn
from nas_attn.data.opening import opened_image
from nas_attn.data.remembered import remembered
from nas_attn.system.processes import cores

# of what is kept of EXIF data
TURN_FORMAT = 1
# What a PNG has where it has EXIF data: a chunk, or a text by Exiftool or ImageMagick. Without one
# of them, Pillow would decode it all to say so.
PNG_MARKS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


@dataclass(frozen=True, slots=True)
class Turned:
    """An image that its EXIF data turn."""

    source: Masked | Framed
    # what its labels are drawn on, by their size; None: both have this size
    drawn_on: DrawnOn | None


def turned_images(root: Path, sources: Sequence[Source]) -> list[Turned]:
    """The images that EXIF data turn, if they have masks or boxes. Opens each, and keeps what it
    shows until a file changes.
    """
    labelled = [source for source in sources if not isinstance(source, Path)]
    if not labelled:
        return []
    images = [source.image for source in labelled]

    def open_all() -> list[int]:
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(_orientation, images))

    orientations = remembered(root, ("turns", TURN_FORMAT), images, open_all)
    seen = []
    for source, orientation in zip(labelled, orientations, strict=True):
        if orientation != 1 and (image := _turned(source, orientation)):
            seen.append(image)
    return seen


def told(seen: Iterable[Turned]) -> DrawnOn | None:
    """What the labels of a data set are drawn on; None: no image tells it, or two contradict each
    other.
    """
    answers = {image.drawn_on for image in seen if image.drawn_on is not None}
    return answers.pop() if len(answers) == 1 else None


def drawn_alike(sources: Sequence[Source], answer: DrawnOn | None) -> Sequence[Source]:
    """The same images, with labels that are drawn on what the data set has told."""
    if answer is None:
        return sources
    return tuple(
        source if isinstance(source, Path) else replace(source, otherwise=answer)
        for source in sources
    )


def _turned(source: Masked | Framed, orientation: int) -> Turned | None:
    """None: it cannot be read, or its labels have another size, which is said where it is
    decoded.
    """
    # decoders raise any error for damaged files
    with suppress(Exception):
        stored = _size(source.image)
        shown = shown_size(stored, orientation)
        size = source.size if isinstance(source, Framed) else _size(source.mask)
        if size in (stored, shown):
            return Turned(source, drawn_on(size, stored, shown))
    return None


def _size(image: Path) -> Size:
    with opened_image(image) as opened:
        return opened.size


def _orientation(image: Path) -> int:
    # decoders raise any error for damaged files
    with suppress(Exception), opened_image(image) as opened:
        if opened.format != "PNG" or _is_marked(image):
            return orientation_of(opened)
    return 1


def _is_marked(png: Path) -> bool:
    content = png.read_bytes()
    return any(mark in content for mark in PNG_MARKS)

"""Opens image files with Pillow, whatever other packages have made of `PIL.Image.open`, and says
why one cannot be read.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

from nas_attn.errors import first_line, shorten

# of a file's beginning, by which Pillow's readers know their kind
KIND_BYTES = 16


@contextmanager
def opened_image(path: Path | str) -> Iterator[ImageFile.ImageFile]:
    """Opens an image as Pillow's own `open` does, and closes its file at the end.

    Ultralytics puts a function in the place of `PIL.Image.open` that installs a package when
    Pillow does not know a file, and then fails for want of this package. Pillow has no other name
    for its function, but it has one for the table of its readers.

    Raises UnidentifiedImageError: no reader knows the file; OSError: it cannot be read;
    DecompressionBombError: it has more pixels than Pillow's limit.
    """
    with open(path, "rb") as file:
        image = _identified(file, os.fspath(path))
        if image is None:
            raise UnidentifiedImageError(f"cannot identify image file {os.fspath(path)!r}")
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        if limit and image.width * image.height > limit:
            raise Image.DecompressionBombError(f"more pixels than {limit}")
        with image:
            yield image


def _identified(file: IO[bytes], name: str) -> ImageFile.ImageFile | None:
    """The image, by the first reader that takes it; those of the usual kinds are asked first."""
    beginning = file.read(KIND_BYTES)
    asked: set[str] = set()
    for load_readers in (Image.preinit, Image.init):
        load_readers()
        for kind in [kind for kind in Image.ID if kind not in asked]:
            asked.add(kind)
            # errors by which a reader says that the file is of another kind
            with suppress(SyntaxError, IndexError, TypeError, struct.error):
                reader, accepts = Image.OPEN[kind]
                accepted = accepts is None or accepts(beginning)
                # a text says why this kind cannot be read here
                if accepted and not isinstance(accepted, str):
                    file.seek(0)
                    return reader(file, name)
    return None


# raw modes of 16 bits a value; of colours, Pillow reads the upper 8
_DEEP = re.compile("(L|LA|I|RGB|RGBA|RGBa|RGBX|CMYK);16")


def is_deep(image: Image.Image) -> bool:
    """Whether an image, or the file that it is opened from, has values of more than 8 bits."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else ()
    return any(_DEEP.match(raw_mode(tile.args)) for tile in tiles)


def raw_mode(args: object) -> str:
    """Returns how the bytes of a file's tile are laid out, by the arguments of its decoder."""
    return str(args[0] if isinstance(args, tuple) and args else args)


# of why a file cannot be read
REASON_LETTERS = 80
HEAD_BYTES = 64
# brands of HEIC's container, after `ftyp`
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
TEXTS = (b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")
POINTER = b"version https://git-lfs"


def why_unreadable(files: Sequence[Path], error: Exception) -> str:
    """Returns why an image (and its mask) cannot be read, of the error that a decoder raised."""
    if isinstance(error, OSError):
        for path in files:
            if instead := _instead(path):
                return instead
    reason = first_line(error)
    if isinstance(error, UnidentifiedImageError):
        return "no image of a kind that is known here"
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than Pillow's limit, {2 * (Image.MAX_IMAGE_PIXELS or 0):,}"
    if "truncated" in reason.lower():
        return "truncated: the file ends before its image does"
    for path in files:
        reason = reason.replace(str(path), path.name)
    return shorten(reason, REASON_LETTERS)


def _instead(path: Path) -> str:
    """What a file is by its first bytes if it is no image; empty: unknown."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return ""
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
        return "HEIC by its content, which Pillow reads only with pillow-heif"
    if head.startswith(POINTER):
        return "a pointer of Git LFS, not the image: run git lfs pull"
    if head.lstrip().lower().startswith(TEXTS):
        return "text such as a web page, not an image"
    return ""

"""Opens image files with Pillow, whatever other packages have made of `PIL.Image.open`, and says
why one cannot be read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from nas_attn.errors import first_line, shorten

# Ultralytics puts a function in the place of `PIL.Image.open` that installs a package when Pillow
# does not know a file, and then fails for want of this package. If it came first, it has kept
# Pillow's own.
_PATCHES = sys.modules.get("ultralytics.utils.patches")
_pillows_open = getattr(_PATCHES, "_image_open", Image.open)


@contextmanager
def opened_image(path: Path | str) -> Iterator[ImageFile.ImageFile]:
    """Opens an image as Pillow's own `open` does, and closes its file at the end.

    Raises UnidentifiedImageError: no reader knows the file; OSError: it cannot be read;
    DecompressionBombError: it has more pixels than Pillow's limit.
    """
    with _pillows_open(path) as image:
        yield image


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

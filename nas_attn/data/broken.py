"""Why a file cannot be read as an image, in words that say what it is instead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from nas_attn.errors import first_line, shorten

# of why a file cannot be read
REASON_LETTERS = 80
HEAD_BYTES = 64
# brands of HEIC's container, after `ftyp`
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
TEXTS = (b"<!doctype", b"<html", b"<?xml", b"<svg", b"{")
POINTER = b"version https://git-lfs"


def why_unreadable(files: Sequence[Path], error: Exception) -> str:
    """Why an image (and its mask) cannot be read, of the error that a decoder raised."""
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

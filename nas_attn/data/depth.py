"""Images with more than 8 bits: how many of them are used, and how they become 8.

Cameras and scanners write 10, 12 or 14 bits into files of 16. Which value is white cannot be seen
in the file, so it is taken from all training images together: as many bits as their largest value
needs. One image's own largest value never decides: it would make a dark image bright.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.image_file import opened_image
from nas_attn.data.inventory import FULL_BITS
from nas_attn.system.processes import cores

BYTE = 8
# files that are read before it is asked whether one needs all bits
READ_TOGETHER = 256

# Pillow reads colours of 16 bits as 8: the upper byte of each value. Read in the other order of
# bytes, the same file gives the lower ones.
_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER_ORDER = {"L": "B", "B": "L"}
_COLOURS = ("RGB", "RGBA", "CMYK")
_COLOURS_IN_FILES = (*_COLOURS, "RGBX")
# Grey with transparency has no other order in Pillow. Read as four colours, the bytes of the grey
# and of the transparency come one by one.
_GREY_AND_ALPHA = "LA;16B"
_SINGLE_BYTES = "RGBA"
# Pillow's mode of colours that are multiplied with their transparency
_PREMULTIPLIED = "RGBa"


def is_deep(image: Image.Image) -> bool:
    """Says whether an image is grey with values of 16 bits."""
    whole_numbers = image.mode == "I" and image.format in ("PNG", "PPM")
    return image.mode.startswith("I;16") or whole_numbers


def with_bytes(image: Image.Image, bits: int) -> Image.Image:
    """Makes an image from a file, with 16 bits of which so many are used, one with 8. Larger values
    are white. Others stay as they are.
    """
    if is_deep(image):
        return Image.fromarray(_as_bytes(np.asarray(image).astype(np.uint16), bits))
    # then the upper byte is all that is needed
    if bits == FULL_BITS:
        return image
    colours = _colours(image)
    if colours is None:
        return image
    small = _as_bytes(colours.values, bits).tobytes()
    return Image.frombytes(colours.mode, image.size, small).convert(image.mode)


def whole_values(image: Image.Image) -> NDArray[Any]:
    """Returns all values of an image from a file, (H, W) or (H, W, C); of 16 bits as uint16."""
    if is_deep(image):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    colours = _colours(image)
    return np.asarray(image) if colours is None else colours.values


def _as_bytes(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    brightest = (1 << bits) - 1
    return (np.minimum(values, brightest) >> (bits - BYTE)).astype(np.uint8)


class _Colours(NamedTuple):
    """The colours in a file."""

    # uint16 (H, W, C)
    values: NDArray[np.uint16]
    # Pillow's mode of the same colours with 8 bits
    mode: str


def _colours(image: Image.Image) -> _Colours | None:
    """The colours in the file of an image. None: they have 8 bits."""
    file = getattr(image, "filename", "")
    if image.mode not in _COLOURS or not file:
        return None
    with opened_image(file) as again:
        modes = {raw_mode(tile.args) for tile in again.tile}
    if not modes or any(_swapped(mode) == mode for mode in modes):
        return None
    lower = _read_as(file, _swapped)
    if modes == {_GREY_AND_ALPHA}:
        pairs = lower.astype(np.uint16)
        both = pairs[..., ::2] << BYTE | pairs[..., 1::2]
        # as Pillow has such an image: grey in red, green and blue, then the transparency
        return _Colours(both[..., [0, 0, 0, 1]].astype(np.uint16), image.mode)
    mode = image.mode
    upper = np.asarray(image)
    if any(_straight(mode) != mode for mode in modes):
        mode = _PREMULTIPLIED
        upper = _read_as(file, _straight)
    values = upper.astype(np.uint16)
    values <<= BYTE
    values |= lower
    return _Colours(values, mode)


def _read_as(file: str, changed: Callable[[str], str]) -> NDArray[np.uint8]:
    """The values of a file that is read in other raw modes."""
    with opened_image(file) as again:
        again.tile = [
            tile._replace(args=_with_mode(tile.args, changed(raw_mode(tile.args))))
            for tile in again.tile
        ]
        return np.asarray(again)


# of a decoder: a raw mode, or one before others
_Args = tuple[Any, ...] | str | None


def raw_mode(args: Any) -> str:
    """Returns how the bytes of a file's tile are laid out, by the arguments of its decoder."""
    return str(args[0] if isinstance(args, tuple) and args else args)


def _with_mode(args: _Args, mode: str) -> _Args:
    return (mode, *args[1:]) if isinstance(args, tuple) else mode


def _swapped(mode: str) -> str:
    """A raw mode with the bytes of 16-bit colours in the other order; the same: it has none."""
    if mode == _GREY_AND_ALPHA:
        return _SINGLE_BYTES
    colours, _, order = _straight(mode).partition(";16")
    order = _NATIVE if order == "N" else order
    if colours not in _COLOURS_IN_FILES or order not in _OTHER_ORDER:
        return mode
    return f"{colours};16{_OTHER_ORDER[order]}"


def _straight(mode: str) -> str:
    """A raw mode that leaves colours as they are, which Pillow would divide by their
    transparency.
    """
    colours, sixteen, order = mode.partition(";16")
    return f"RGBA{sixteen}{order}" if colours == _PREMULTIPLIED and sixteen else mode


def largest_value(path: Path) -> int:
    """Returns the largest value of an image with 16 bits; 0 if it has 8, or cannot be read."""
    # decoders raise any error
    with suppress(Exception), opened_image(path) as image:
        if is_deep(image):
            return int(np.asarray(image).max())
        modes = {raw_mode(tile.args) for tile in image.tile}
        if any(_swapped(mode) != mode for mode in modes) and (colours := _colours(image)):
            return int(colours.values.max())
    return 0


def used_bits(paths: Sequence[Path]) -> int:
    """Returns the bits that the largest value of these images needs, 8 to 16; 16 if all images have
    8.
    """
    most = 0
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(paths), READ_TOGETHER):
            most = max(most, *pool.map(largest_value, paths[start : start + READ_TOGETHER]))
            if most.bit_length() == FULL_BITS:
                break
    return max(BYTE, most.bit_length()) if most else FULL_BITS

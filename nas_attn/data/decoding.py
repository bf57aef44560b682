"""Image files and their masks as arrays: turned, scaled and cut.

Masks and boxes are drawn on an image as its file stores it, or as its EXIF data say it is shown.
Where width and height change places, the size of the labels tells it; else the image is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nas_attn.data.bands import Bands, is_array, read_bands
from nas_attn.data.image_file import REASON_LETTERS, is_deep, opened_image, why_unreadable
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.manifest import checksum
from nas_attn.data.pixels import DECODED_TOGETHER
from nas_attn.errors import DataError, shorten
from nas_attn.recipe.sections import Fit, InputSize, height_and_width
from nas_attn.system.processes import cores

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# of a mask: black and white, grey, palette, and grey with 16 or 32 bits
MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True, slots=True)
class Masked:
    """An image and its mask."""

    image: Path
    mask: Path
    # the mask's values are below this, or NOT_COUNTED
    classes: int


@dataclass(frozen=True, slots=True)
class Framed:
    """An image that is not cut: its longer side is scaled to the size, the rest is grey."""

    image: Path
    # (width, height) of its annotations
    size: tuple[int, int]


Source = Path | Masked | Framed
# width, height
Size = tuple[int, int]
# outside an image: the mean colour of photographs
PADDING_GREY = (124, 116, 104)


@dataclass(frozen=True, slots=True)
class Cut:
    """How images become the network's input."""

    height: int
    width: int
    fit: Fit = "cut"
    # for a cut square, the shorter side before it is cut; None: the square's
    resize: int | None = None
    # torchvision's name of it
    interpolation: str = "bilinear"
    # bands that are read as they are; None: images become RGB
    channels: int | None = None
    # whether their values are float32, and not bytes
    deep: bool = False
    # the value of pixels without data, which become NaN
    nodata: float | None = None

    @classmethod
    def of(cls, size: InputSize, fit: Fit = "cut") -> Self:
        """Takes `data.size` and `data.fit`."""
        return cls(*height_and_width(size), fit)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def dtype(self) -> type[np.uint8 | np.float32]:
        """Of prepared images."""
        return np.float32 if self.deep else np.uint8

    def shape(self, sources: Sequence[Source]) -> tuple[int, int, int]:
        """Returns (C, H, W) of prepared images; a mask is a further channel."""
        masked = bool(sources) and isinstance(sources[0], Masked)
        return (self.channels or 3) + masked, *self.size


def decode(source: Source, cut: Cut | int) -> NDArray[Any]:
    """Decodes one image as uint8 (3, height, width), or its bands as the cut says, fitted as asked;
    its mask is a further channel. For a broken file it raises its reader's error, of any kind;
    ValueError: the mask does not fit, or there are other bands.
    """
    cut = Cut.of(cut) if isinstance(cut, int) else cut
    if isinstance(source, Framed):
        return _whole(source, cut)
    path = source.image if isinstance(source, Masked) else source
    if cut.channels is not None:
        values = read_bands(path, cut.channels)
        if cut.nodata is not None:
            values = values.astype(np.float32)
            values[values == np.float32(cut.nodata)] = np.nan
        if cut.deep == (values.dtype == np.uint8):
            bits = "8 bits" if cut.deep else "more than 8 bits"
            raise ValueError(f"values of {bits}, unlike those of the first training image")
        pixels = fitted_bands(values.astype(cut.dtype), cut)
        if not isinstance(source, Masked):
            return pixels
        height, width = values.shape[:2]
        return _with_mask(pixels, _mask(source, (width, height), 1), cut)
    if is_array(path):
        raise ValueError("an array of bands: give their number, data.channels")
    longest = 2 * max(cut.resize or 0, *cut.size)
    with opened_image(path) as opened:
        # a draft of a JPEG has another size
        stored = opened.size
        orientation = orientation_of(opened)
        # a JPEG far larger than needed is decoded at a fraction of its size
        opened.draft("RGB", (longest, longest))
        image = turned(to_rgb(opened), orientation)
    rgb: NDArray[np.uint8] = np.asarray(fitted(image, cut)).transpose(2, 0, 1)
    if not isinstance(source, Masked):
        return rgb
    return _with_mask(rgb, _mask(source, stored, orientation), cut)


def _with_mask(pixels: NDArray[Any], mask: NDArray[np.uint8], cut: Cut) -> NDArray[Any]:
    """An image (C, H, W) with its mask as a further channel, fitted as the image."""
    nearest = replace(cut, interpolation="nearest")
    scaled = np.asarray(fitted(Image.fromarray(mask), nearest, NOT_COUNTED))
    return np.concatenate([pixels, scaled[None].astype(pixels.dtype)])


def fitted_bands(values: Bands, cut: Cut) -> NDArray[Any]:
    """Makes bands (H, W, C) as large as the network's input, (C, height, width). Beside a
    letterbox, each has its own mean.
    """
    images = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(values, 2, 0)]
    known = np.ma.masked_invalid(values)
    means = known.mean(axis=(0, 1)).filled(0).astype(values.dtype).tolist()
    return np.stack(
        [np.asarray(fitted(image, cut, mean)) for image, mean in zip(images, means, strict=True)]
    )


# the EXIF tag that says how an image is turned; from 5, the sides change
ORIENTATION = 0x0112
# times the shorter side; what lies beyond it is never seen
LONGEST_STRIP = 16


def _middle(image: Image.Image) -> Image.Image:
    """The middle of a very long image, which would need gigabytes when its shorter side is
    enlarged.
    """
    width, height = image.size
    most = LONGEST_STRIP * min(image.size)
    left = max(0, (width - most) // 2)
    top = max(0, (height - most) // 2)
    if not left and not top:
        return image
    return image.crop((left, top, width - left, height - top))


def mask_values(source: Masked) -> NDArray[np.uint8]:
    """Returns the values of a mask, (H, W), turned as its image. Raises ValueError: it does not
    fit; for broken files, Pillow's error, of any kind.
    """
    try:
        with opened_image(source.image) as opened:
            stored = opened.size
            orientation = orientation_of(opened)
    except UnidentifiedImageError:
        # bands that Pillow does not know
        height, width = read_bands(source.image).shape[:2]
        stored = (width, height)
        orientation = 1
    return _mask(source, stored, orientation)


def _mask(source: Masked, stored: Size, orientation: int) -> NDArray[np.uint8]:
    """(H, W): the values of a mask, turned as its image. `stored`: the image's size in its file.
    Raises ValueError: it does not fit.
    """
    with opened_image(source.mask) as opened:
        if opened.mode not in MASK_MODES:
            raise ValueError(f"its mask is {opened.mode}, not gray or palette with class numbers")
        shown = shown_size(stored, orientation)
        if opened.size not in (shown, stored):
            raise ValueError(
                f"its mask is {opened.size[0]}x{opened.size[1]}, the image {shown[0]}x{shown[1]}"
            )
        is_stored = _is_drawn_on_stored(opened.size, stored, orientation, "its mask is")
        mask = np.asarray(turned(opened, orientation) if is_stored else opened)
    wrong = mask[((mask >= source.classes) | (mask < 0)) & (mask != NOT_COUNTED)]
    if len(wrong):
        raise ValueError(
            f"its mask has the value {wrong.max()}: classes are 0 to {source.classes - 1}, and"
            f" {NOT_COUNTED} none"
        )
    # black and white: 0 and 1
    return mask.astype(np.uint8)


# How an image is turned, by the EXIF tag.
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(opened: Image.Image) -> int:
    """Returns how a file's EXIF tag says that its image is turned, a key of EXIF_TURNS. 1: it is
    shown as it is read. So is a TIFF, which Pillow turns itself.
    """
    if opened.format == "TIFF":
        return 1
    orientation = opened.getexif().get(ORIENTATION)
    return orientation if orientation in EXIF_TURNS else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turns an image as it is shown, of an `orientation_of` its file."""
    if orientation == 1:
        return image
    return image.transpose(EXIF_TURNS[orientation])


def shown_size(stored: Size, orientation: int) -> Size:
    """Returns the size of an image as it is shown, of that in its file."""
    return stored if orientation < 5 else stored[::-1]


def _is_drawn_on_stored(size: Size, stored: Size, orientation: int, what: str) -> bool:
    """Whether a mask or boxes of this size are drawn on the image as its file stores it. Raises
    ValueError: an image is turned, and they fit both.
    """
    if orientation == 1:
        return False
    if shown_size(stored, orientation) == stored:
        raise ValueError(
            f"EXIF data turn it, and its size does not tell what {what} drawn on: run mogrify"
            " -auto-orient, or remove the tag"
        )
    return size == stored


def _whole(source: Framed, cut: Cut) -> NDArray[np.uint8]:
    """uint8 (3, side, side): the image as its annotations were drawn on it."""
    with opened_image(source.image) as opened:
        stored = opened.size
        orientation = orientation_of(opened)
        shown = shown_size(stored, orientation)
        if source.size not in (shown, stored):
            raise ValueError(f"an image of size {shown}, annotated as {source.size}")
        is_stored = _is_drawn_on_stored(source.size, stored, orientation, "its boxes are")
        image = to_rgb(opened)
    return framed(image if is_stored else turned(image, orientation), cut.height)


def framed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """Scales an image's longer side to `side`; the rest is grey: uint8 (3, side, side)."""
    whole = fitted(image.convert("RGB"), Cut(side, side, "letterbox"))
    return np.ascontiguousarray(np.asarray(whole).transpose(2, 0, 1))


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a file."""

    # as `decode` gives it; None: it is broken
    pixels: NDArray[Any] | None
    # checksum of the file, and of its mask
    content: int
    # it is broken; else empty
    why: str = ""


def files_of(source: Source) -> list[Path]:
    """Returns the image file, and its mask."""
    if isinstance(source, Path):
        return [source]
    if isinstance(source, Masked):
        return [source.image, source.mask]
    return [source.image]


def decode_all(sources: Sequence[Source], cut: Cut) -> Iterator[Decoded]:
    """Decodes every file, in order, on all cores. Raises DataError: one is not there any more."""

    def work(source: Source) -> Decoded:
        pixels = None
        why = ""
        try:
            pixels = decode(source, cut)
        except Exception as error:
            # decoders raise any error for damaged files
            why = why_unreadable(files_of(source), error)
        try:
            return Decoded(pixels, checksum(p.read_bytes() for p in files_of(source)), why)
        except FileNotFoundError as error:
            raise DataError(
                f"'{error.filename}' was there and is gone: something else changes the folder; wait"
                " until it has finished, then start again"
            ) from None
        except OSError as error:
            return Decoded(None, 0, shorten(error.strerror or str(error), REASON_LETTERS))

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sources), DECODED_TOGETHER):
            yield from pool.map(work, sources[start : start + DECODED_TOGETHER])


def more_bits(bands: int) -> str:
    """Says why an image of more than 8 bits does not become RGB, and the way out."""
    return f"more than 8 bits: data.channels = {bands} reads them all, or save it with 8"


def to_rgb(image: Image.Image) -> Image.Image:
    """Makes any image RGB, with white for transparent parts. Raises ValueError: it has more than 8
    bits, of which nobody knows what is white.
    """
    if is_deep(image):
        raise ValueError(more_bits(len(image.getbands())))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def fitted(
    image: Image.Image, cut: Cut, beside: float | tuple[int, ...] = PADDING_GREY
) -> Image.Image:
    """Makes an image as large as the network's input; `beside` it, a letterbox has this colour."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    if cut.fit == "cut":
        image = _middle(image)
    width, height = image.size
    across = cut.width / width
    down = cut.height / height
    size = [cut.height, cut.width]
    if cut.fit == "letterbox":
        scale = min(down, across)
        size = [max(1, round(scale * height)), max(1, round(scale * width))]
    elif cut.fit == "cut" and cut.height == cut.width:
        # as torchvision has it: the shorter side
        size = [cut.resize or cut.height]
    elif cut.fit == "cut":
        scale = max(down, across)
        size = [max(cut.height, round(scale * height)), max(cut.width, round(scale * width))]
    scaled: Image.Image = functional.resize(image, size, InterpolationMode(cut.interpolation))
    if cut.fit == "letterbox":
        whole = Image.new(image.mode, (cut.width, cut.height), beside)
        whole.paste(scaled)
        return whole
    middle: Image.Image = functional.center_crop(scaled, list(cut.size))
    return middle

"""Image files and their masks as arrays: turned as their EXIF data say, scaled and cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.bands import Bands, is_array, read_bands
from nas_attn.data.image_file import is_deep, opened_image, why_unreadable
from nas_attn.data.inventory import NOT_COUNTED
from nas_attn.data.manifest import checksum
from nas_attn.data.pixels import DECODED_TOGETHER
from nas_attn.errors import DataError
from nas_attn.recipe.sections import Fit, InputSize, height_and_width
from nas_attn.system.processes import cores

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# of a mask: black and white, grey, palette, and grey with 16 or 32 bits
MASK_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I")
# width, height
Size = tuple[int, int]
# outside an image: the mean colour of photographs
PADDING_GREY = (124, 116, 104)
# the EXIF tag that says how an image is turned; from 5, the sides change
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# times the shorter side; what lies beyond it is never seen
LONGEST_STRIP = 16


@dataclass(frozen=True, slots=True)
class Source:
    """The files of an image, and in what its labels are drawn."""

    image: Path
    mask: Path | None = None
    # the mask's values are below this, or NOT_COUNTED
    classes: int = 0
    # (width, height) of its annotations: the image is not cut; its longer side is scaled to the
    # size, and the rest is grey
    size: Size | None = None

    @property
    def files(self) -> list[Path]:
        """The image file, and its mask."""
        return [self.image] if self.mask is None else [self.image, self.mask]


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

    def shape(self, source: Source) -> tuple[int, int, int]:
        """Returns (C, H, W) of a prepared image; a mask is a further channel."""
        return (self.channels or 3) + (source.mask is not None), *self.size


def decode(source: Source, cut: Cut) -> NDArray[Any]:
    """Decodes one image as uint8 (3, height, width), or its bands as the cut says, fitted as asked;
    its mask is a further channel. For a broken file it raises its reader's error, of any kind;
    ValueError: labels do not fit, or there are other bands.
    """
    if cut.channels is not None:
        values = _bands(source.image, cut.channels, cut)
        pixels = fitted_bands(values, cut)
        height, width = values.shape[:2]
        stored = (width, height)
    elif is_array(source.image):
        raise ValueError("an array of bands: give their number, data.channels")
    else:
        with opened_image(source.image) as opened:
            # a draft of a JPEG has another size
            stored = opened.size
            orientation = orientation_of(opened)
            check_upright(source, orientation)
            if source.size not in (None, stored):
                raise ValueError(f"an image of size {stored}, annotated as {source.size}")
            if source.size is None:
                # a JPEG far larger than needed is decoded at a fraction of its size
                longest = 2 * max(cut.resize or 0, *cut.size)
                opened.draft("RGB", (longest, longest))
            image = turned(to_rgb(opened), orientation)
        pixels = np.asarray(fitted(image, cut)).transpose(2, 0, 1)
    if source.mask is None:
        return pixels
    mask = Image.fromarray(mask_values(source, stored))
    scaled = np.asarray(fitted(mask, replace(cut, interpolation="nearest"), NOT_COUNTED))
    return np.concatenate([pixels, scaled[None].astype(pixels.dtype)])


def _bands(path: Path, channels: int, cut: Cut) -> NDArray[Any]:
    """(H, W, channels), with NaN for pixels without data. Raises ValueError: other bands or bits
    than those of the first training image.
    """
    values = read_bands(path, channels)
    if cut.nodata is not None:
        values = values.astype(np.float32)
        values[values == np.float32(cut.nodata)] = np.nan
    if cut.deep == (values.dtype == np.uint8):
        bits = "8 bits" if cut.deep else "more than 8 bits"
        raise ValueError(f"values of {bits}, unlike those of the first training image")
    return values.astype(cut.dtype)


def fitted_bands(values: Bands, cut: Cut, beside: Sequence[float] | None = None) -> NDArray[Any]:
    """Makes bands (H, W, C) as large as the network's input, (C, height, width). `beside` it, a
    letterbox has these values; None: of each band its own mean.
    """
    images = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(values, 2, 0)]
    if beside is None:
        known = np.ma.masked_invalid(values)
        beside = known.mean(axis=(0, 1)).filled(0).astype(values.dtype).tolist()
    return np.stack(
        [np.asarray(fitted(image, cut, value)) for image, value in zip(images, beside, strict=True)]
    )


def orientation_of(opened: Image.Image) -> int:
    """Returns how a file's EXIF tag says that its image is turned, a key of TURNS. 1: it is shown
    as it is read. So is a TIFF, which Pillow turns itself.
    """
    tag = 1 if opened.format == "TIFF" else opened.getexif().get(ORIENTATION)
    return tag if tag in TURNS else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turns an image as it is shown, of an `orientation_of` its file."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def check_upright(source: Source, orientation: int) -> None:
    """Raises ValueError: an image with a mask or boxes is turned, and nobody knows whether these
    are drawn on it as its file stores it, or as it is shown.
    """
    if (source.mask or source.size) and orientation != 1:
        raise ValueError("EXIF data turn it, perhaps not its labels: run mogrify -auto-orient")


def mask_values(source: Source, size: Size) -> NDArray[np.uint8]:
    """Returns the values of the mask of an image of this size, (H, W). Raises ValueError: it does
    not fit; for broken files, Pillow's error, of any kind.
    """
    assert source.mask is not None
    with opened_image(source.mask) as opened:
        if opened.mode not in MASK_MODES:
            raise ValueError(f"its mask is {opened.mode}, not gray or palette with class numbers")
        if opened.size != tuple(size):
            raise ValueError(
                f"its mask is {opened.size[0]}x{opened.size[1]}, the image {size[0]}x{size[1]}"
            )
        mask = np.asarray(opened)
    wrong = mask[((mask >= source.classes) | (mask < 0)) & (mask != NOT_COUNTED)]
    if len(wrong):
        raise ValueError(
            f"its mask has the value {wrong.max()}: classes are 0 to {source.classes - 1}, and"
            f" {NOT_COUNTED} none"
        )
    # black and white: 0 and 1
    return mask.astype(np.uint8)


# an image as `decode` gives it, and the checksum of its files; or None, 0, and why it is broken
Decoded = tuple[NDArray[Any] | None, int, str]


def decode_all(sources: Sequence[Source], cut: Cut) -> Iterator[Decoded]:
    """Decodes every file, in order, on all cores. Raises DataError: one is not there any more."""

    def work(source: Source) -> Decoded:
        try:
            content = checksum(path.read_bytes() for path in source.files)
            return decode(source, cut), content, ""
        except FileNotFoundError as error:
            raise DataError(
                f"'{error.filename}' was there and is gone: something else changes the folder; wait"
                " until it has finished, then start again"
            ) from None
        except Exception as error:
            # decoders raise any error for damaged files
            return None, 0, why_unreadable(source.files, error) or "unknown"

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
        # a very long image would need gigabytes when its shorter side is enlarged
        width, height = (min(side, LONGEST_STRIP * min(image.size)) for side in image.size)
        image = functional.center_crop(image, [height, width])
    width, height = image.size
    scales = (cut.height / height, cut.width / width)
    size = [cut.height, cut.width]
    if cut.fit == "cut" and cut.height == cut.width:
        # as torchvision has it: the shorter side
        size = [cut.resize or cut.height]
    elif cut.fit != "resize":
        scale = min(scales) if cut.fit == "letterbox" else max(scales)
        size = [max(1, round(scale * height)), max(1, round(scale * width))]
    scaled: Image.Image = functional.resize(image, size, InterpolationMode(cut.interpolation))
    if cut.fit == "letterbox":
        whole = Image.new(image.mode, (cut.width, cut.height), beside)
        whole.paste(scaled)
        return whole
    middle: Image.Image = functional.center_crop(scaled, list(cut.size))
    return middle

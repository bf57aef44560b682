"""Files of images: making them one process at a time, and decoding them to square RGB arrays with their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nas_attn.processes import cores
from nas_attn.waiting import Wait, locked

LONGEST_S = 4 * 3600.0  # seconds that one process may take to prepare or download a data set


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """One process at a time makes `what`; the lock goes with its holder, whatever ends it. A holder that is stopped, or
    takes hours, is no longer waited for: what it makes is made once more beside it, and takes its place in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with Wait(f"{what}, which another process makes") as wait, locked(path, wait, LONGEST_S) as holder:
        if holder:
            wait.say(f"stopped waiting for {holder} and made it again: {what}")
        yield


def cache_folder() -> Path:
    """Where prepared images are kept: the user's cache folder."""
    return platformdirs.user_cache_path("nas_attn") / "images"


SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
NOT_COUNTED = 255  # value of a mask's pixels that are of no class: neither trained on nor scored


@dataclass(frozen=True, slots=True)
class Masked:
    """An image and its mask."""

    image: Path
    mask: Path
    classes: int  # the mask's values are below this, or NOT_COUNTED


@dataclass(frozen=True, slots=True)
class Framed:
    """An image that is to be kept whole: its longer side scaled to the size, grey below or beside it."""

    image: Path
    size: tuple[int, int]  # (width, height) that its annotations are for


Source = Path | Masked | Framed
GREY = (124, 116, 104)  # of what is no image: the mean colour of photographs


def channels_of(sources: Sequence[Source]) -> int:
    """3, or 4 with a mask."""
    return 4 if sources and isinstance(sources[0], Masked) else 3


def decode(source: Source, size: int) -> NDArray[np.uint8]:
    """One image as uint8 (3, size, size): shorter side scaled to `size`, middle square cut out; its mask a fourth
    channel. Raises Exception: whatever Pillow raises for a broken file, which is nearly anything; for a mask of another
    size, of colours or with a value that is no class, ValueError.
    """
    if isinstance(source, Framed):
        return _whole(source, size)
    path = source.image if isinstance(source, Masked) else source
    with Image.open(path) as opened:
        whole = opened.getexif().get(0x0112, 1) < 5 and opened.size  # a draft of a JPEG has another size
        opened.draft("RGB", (2 * size, 2 * size))  # a JPEG far larger than needed is decoded at a fraction of its size
        image = to_rgb(ImageOps.exif_transpose(opened))
    rgb: NDArray[np.uint8] = np.asarray(square(size)(image)).transpose(2, 0, 1)
    if not isinstance(source, Masked):
        return rgb
    with Image.open(source.mask) as opened:
        if opened.mode not in ("L", "P", "1") or (whole and opened.size != whole):
            raise ValueError(f"a mask of mode {opened.mode} and size {opened.size}")
        mask = np.asarray(opened).astype(np.uint8)  # black and white: 0 and 1
        if ((mask >= source.classes) & (mask != NOT_COUNTED)).any():
            raise ValueError(f"a mask with the value {mask[mask != NOT_COUNTED].max()}")
    scaled = np.asarray(square(size, nearest=True)(Image.fromarray(mask)))
    return np.concatenate([rgb, scaled[None]])


def _whole(source: Framed, side: int) -> NDArray[np.uint8]:
    """uint8 (3, side, side); turned as its EXIF data says where it then has the size of its annotations."""
    with Image.open(source.image) as opened:
        image = opened if opened.size == source.size else ImageOps.exif_transpose(opened)
        if image.size != source.size:
            raise ValueError(f"an image of size {image.size}, annotated as {source.size}")
        image = to_rgb(image)
    return framed(image, side)


def framed(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 (3, side, side): the longer side of an image scaled to it, grey below or beside."""
    width, height = (max(1, round(side / max(image.size) * length)) for length in image.size)
    image = image.convert("RGB")
    scaled = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    whole = np.empty((side, side, 3), dtype=np.uint8)
    whole[:] = GREY
    whole[:height, :width] = scaled
    return np.ascontiguousarray(whole.transpose(2, 0, 1))


def decode_all(paths: Sequence[Source], size: int, *, keep: bool) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Decodes every file on all cores: bool (N,), which are broken; with `keep` the images (N, 3 or 4, size, size)."""
    broken = np.zeros(len(paths), dtype=bool)
    images = np.zeros((len(paths), channels_of(paths), size, size), dtype=np.uint8) if keep else None

    def work(number: int) -> None:
        try:
            image = decode(paths[number], size)
        except Exception:  # a decoder meets any nonsense that a file may hold; the caller names the file
            broken[number] = True
        else:
            if images is not None:
                images[number] = image

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, range(len(paths))))
    return broken, images


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB; what is transparent lies on white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


@lru_cache(maxsize=8)
def square(size: int, *, nearest: bool = False) -> Any:
    """Makes of an image its middle square: the shorter side is scaled to `size`."""
    from torchvision.transforms import InterpolationMode, v2

    how = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
    return v2.Compose([v2.Resize(size, interpolation=how, antialias=True), v2.CenterCrop(size)])

"""Opens image files with Pillow, whatever other packages have made of `PIL.Image.open`."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile, UnidentifiedImageError

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

"""Published data sets through torchvision: files in place, or downloaded. MNIST's may be gzipped,
and lie in `root` itself.
"""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.cache import exclusive
from nas_attn.data.digits import no_options
from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection
from nas_attn.system.paths import user_path

# torchvision's
TORCHVISION_NAMES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
# a server that stays silent for this long counts as no network
DOWNLOAD_TIMEOUT_S = 30.0


def read(section: DataSection, _place: Place) -> Parts:
    """Reads a published data set, by its name. Raises DataError: options are given, or files are
    missing and cannot be fetched.
    """
    name = section.name
    no_options(section)
    root = user_path(section.root, what="data.root", error=DataError)
    for place in (root, root / TORCHVISION_NAMES[name] / "raw"):
        if name.endswith("mnist") and _idx(place, "train", "images") is not None:
            from torchvision import datasets

            classes = _classes(getattr(datasets, TORCHVISION_NAMES[name]))
            return Parts(
                _read_idx(place, "train"), None, partial(_read_idx, place, "t10k"), classes
            )
    dataset = _open(name, root, train=True)
    return Parts(
        _labelled(dataset),
        None,
        lambda: _labelled(_open(name, root, train=False)),
        _classes(dataset),
    )


def _open(name: str, root: Path, *, train: bool) -> Any:
    """torchvision's data set; downloads its files if they are missing, one process at a time."""
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION_NAMES[name])
    try:
        return kind(str(root), train=train)
    except RuntimeError:
        # torchvision's word for missing or damaged files
        pass
    try:
        with (
            exclusive(root / f".{name}.lock", f"the data set '{name}'"),
            _timeout(DOWNLOAD_TIMEOUT_S),
        ):
            return kind(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1]
        if hasattr(kind, "mirrors"):
            expected = f"{kind.__name__}/raw"
        else:
            expected = str(kind.base_folder)
        raise DataError(
            f"data set '{name}' is not at '{root / expected}' and could not be downloaded there"
            f" ({reason}): put its published files there, or set data.root to the folder that holds"
            " them"
        ) from None


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Inside, downloads have a time limit, which torchvision's lack."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _labelled(dataset: Any) -> Labelled:
    images = np.asarray(dataset.data)
    images = images if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return Labelled.of(images, np.asarray(dataset.targets, dtype=np.int64))


def _classes(dataset: Any) -> tuple[str, ...]:
    return tuple(str(label) for label in dataset.classes)


def _idx(root: Path, part: str, what: str) -> Path | None:
    """One of the four files, if it is in this folder."""
    stem = f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    return next((root / name for name in (stem, f"{stem}.gz") if (root / name).is_file()), None)


def _read_idx(root: Path, part: str) -> Labelled:
    images, labels = (_array(root, part, what) for what in ("images", "labels"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"the {part} files in {root} do not match: images {images.shape}, labels {labels.shape}"
        )
    if labels.max(initial=0) > 9:
        raise DataError(
            f"the {part} files in {root} are damaged (a label is {labels.max()}): download them"
            " again"
        )
    return Labelled.of(images, labels.astype(np.int64))


def _array(root: Path, part: str, what: str) -> NDArray[np.uint8]:
    """An IDX file of bytes: magic (0, 0, 8, dimensions), the sizes as big-endian int32, the
    content.
    """
    path = _idx(root, part, what)
    if path is None:
        raise DataError(
            f"{root} has no {part}-{what}-idx…-ubyte file next to the others of its data set"
        )
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if not content.startswith(b"\x00\x00\x08"):
            raise ValueError("it does not start like an IDX file of bytes")
        sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes).copy()
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): download it again") from None

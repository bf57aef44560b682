"""Published data sets through torchvision: files in place, or downloaded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nas_attn.data.cache import exclusive
from nas_attn.data.digits import no_options
from nas_attn.data.samples import Parts, Samples
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


def read(section: DataSection) -> Parts:
    """Reads a published data set, by its name. Raises DataError: options are given, or files are
    missing and cannot be fetched.
    """
    no_options(section)
    root = user_path(section.root, what="data.root", error=DataError)

    def part(*, train: bool) -> Samples:
        dataset = _open(section.name, root, train=train)
        images = np.asarray(dataset.data)
        images = images if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        labels = np.asarray(dataset.targets, np.int64)
        return Samples.of(images, labels, list(map(str, dataset.classes)))

    return Parts(part(train=True), None, lambda: part(train=False))


def _open(name: str, root: Path, *, train: bool) -> Any:
    """torchvision's data set; downloads its files if they are missing, one process at a time."""
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION_NAMES[name])
    # torchvision's words for missing or damaged files
    failures = (OSError, RuntimeError, ValueError, AssertionError)
    try:
        return kind(str(root), train=train)
    except failures:
        pass
    try:
        with (
            exclusive(root / f".{name}.lock", f"the data set '{name}'"),
            _timeout(DOWNLOAD_TIMEOUT_S),
        ):
            return kind(str(root), train=train, download=True)
    except failures as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        expected = getattr(kind, "base_folder", f"{kind.__name__}/raw")
        raise DataError(
            f"data set '{name}' is not whole at '{root / expected}' and could not be downloaded"
            f" there ({reason}): put its published files there, or set data.root to the folder"
            " that holds them"
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

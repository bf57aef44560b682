"""Ultralytics' caches of labels, read without running code.

Beside a folder of labels, Ultralytics keeps what it has read in a `.cache` file, which it reads as
a pickle. Such a file may come with a stranger's images. So we read it: NumPy's arrays and plain
values, and nothing else. A file with more in it counts as missing, and Ultralytics reads the labels
again.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

CACHE_NAMES = {
    "numpy": frozenset({"ndarray", "dtype"}),
    "numpy.core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy._core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy.core.numeric": frozenset({"_frombuffer"}),
    "numpy._core.numeric": frozenset({"_frombuffer"}),
}
"""What a pickle of arrays calls: each makes an array or a number, of bytes in the file."""


class Plain(pickle.Unpickler):
    """Reads arrays, numbers, text and containers of them; UnpicklingError: there is more."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in CACHE_NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_cache(path: Path) -> dict[str, Any]:
    """What a `.cache` file keeps. FileNotFoundError, by which Ultralytics reads the labels anew: it
    is missing or damaged, or it holds more than arrays and plain values.
    """
    with Path(path).open("rb") as file:
        try:
            return _table(file)
        except Exception as error:
            # the file may hold anything
            raise FileNotFoundError(f"'{path}' is no plain cache of labels: {error}") from None


def _table(file: IO[bytes]) -> dict[str, Any]:
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    table = Plain(file).load().item()
    if not isinstance(table, dict):
        raise TypeError(f"it holds a {type(table).__name__}")
    return table


@contextmanager
def caches_read_safely() -> Iterator[None]:
    """Meanwhile, Ultralytics reads its caches by `read_cache`."""
    from ultralytics.data import dataset

    theirs = dataset.load_dataset_cache_file
    dataset.load_dataset_cache_file = read_cache
    try:
        yield
    finally:
        dataset.load_dataset_cache_file = theirs

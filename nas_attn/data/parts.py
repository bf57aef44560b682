"""What a source of images hands over before it is split, normalised and put on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.pixels import Indices, Pixels


@dataclass(frozen=True)
class Labelled:
    """Images and their labels."""

    pixels: Pixels
    labels: NDArray[np.int64]
    """(N,), indices into the classes."""

    def subset(self, index: Indices) -> Labelled:
        return Labelled(self.pixels.subset(index), self.labels[index])


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they are asked for."""

    train: Labelled
    validation: Labelled | None
    """None: to be taken from `train`."""
    test: Callable[[], Labelled]
    classes: tuple[str, ...]

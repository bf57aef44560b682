"""The labels of a study's validation images, as the study keeps them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.storage.store import StudyStore


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a split's images."""

    classes: tuple[str, ...]
    # (images,): each one's class, from 0
    numbers: NDArray[np.int32]
    # (images,): of a seed's own division, their numbers among all images that are divided; else
    # None
    images: NDArray[np.int64] | None = None
    # how many images are divided; 0: one division
    divided: int = 0


@dataclass(frozen=True, slots=True)
class ValidationLabels:
    """The labels of a study's validation images."""

    # of the study's first division; None: unknown
    first: Labels | None = None
    # seed -> of its own division; empty where there is one division
    divisions: Mapping[int, Labels] = field(default_factory=dict)

    def of(self, seed: int) -> Labels | None:
        """Of a run's images."""
        return self.divisions.get(seed, self.first)


def keep_labels(store: StudyStore, name: str, labels: Labels) -> None:
    """Records the labels of the images that a protocol scores, such as the search's or a test's; or
    under a `division_name` those that a seed's own division took for validation. Does nothing if
    they are recorded already.
    """
    if store.labels.get(name) is not None:
        return
    content: dict[str, Any] = {
        "classes": list(labels.classes),
        "labels": _packed(labels.numbers),
    }
    if labels.images is not None:
        content |= {"images": _packed(labels.images), "divided": labels.divided}
    store.labels.put(name, json.dumps(content))


def _packed(numbers: NDArray[np.integer[Any]]) -> str:
    return base64.b64encode(zlib.compress(numbers.astype("<i4").tobytes())).decode()

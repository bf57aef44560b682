"""The labels of a study's validation images, as the study keeps them."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.recipe.purposes import division_name
from nas_attn.storage.store import StudyStore

if TYPE_CHECKING:
    # loads torch, which `status` does without
    from torch import Tensor


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


def keep_labels(
    store: StudyStore, protocol: str, numbers: Tensor, classes: tuple[str, ...]
) -> None:
    """Records the labels of the images that a protocol scores, unless they are recorded already.

    Args:
        store: of the study.
        protocol: whose images they are, such as the search's or a test's.
        numbers: class numbers (N,), in the images' order.
        classes: names, by number.
    """
    if store.labels.get(protocol) is None:
        content = {"classes": list(classes), "labels": _packed(numbers.to("cpu").numpy())}
        store.labels.put(protocol, json.dumps(content))


def keep_division(store: StudyStore, seed: int, labels: Labels) -> None:
    """Records which images a seed's own division took for validation, and their labels, unless that
    is recorded already.
    """
    name = division_name(seed)
    if labels.images is None or store.labels.get(name) is not None:
        return
    content = {
        "classes": list(labels.classes),
        "labels": _packed(labels.numbers),
        "images": _packed(labels.images),
        "divided": labels.divided,
    }
    store.labels.put(name, json.dumps(content))


def _packed(numbers: NDArray[np.integer[Any]]) -> str:
    return base64.b64encode(zlib.compress(numbers.astype("<i4").tobytes())).decode()

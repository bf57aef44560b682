"""A run as the model sees it: one metric of one training, at one rung."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import Ints

# (images,) what each image contributes to a run's value: right or wrong, 1 or 0, of an accuracy
Results = NDArray[np.float32]
Contributions = Callable[[], Results]

# the rung of a second witness: another score of the same runs on the same images, such as the Brier
# score beside accuracy, higher is better. It says something of the answers' metric as far as the
# study shows it to.
WITNESS = -1
# the rung of runs that train as the network finally will be
TARGET_RUNG = 1_000_000
# the rung of the same trainings, scored on the test images; above all others
TESTED = 2_000_000


def which_are_right(bits: bytes | None, images: int) -> NDArray[np.bool_]:
    """(images,) From a score's packed bits, one for each image."""
    return np.unpackbits(np.frombuffer(bits or b"", np.uint8), count=images).astype(bool)


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """One metric of one run of a placement (`key`) at one rung."""

    key: str
    seed: int
    # levels of training in the order of their worth; the answers are about the last one
    rung: int
    value: float
    # which of the study's backbones it started from; 0 where there is one, or none
    backbone: int = 0
    # of an accuracy: right or wrong per validation image, as bits (numpy.packbits order)
    correct: bytes | None = None
    # validation images behind the value; 0 where unknown
    examples: int = 0
    # what it was computed in: another one changes a result as much as another seed does
    arithmetic: str = ""
    # of another metric than an accuracy: computes what each image contributes
    contributions: Contributions | None = None
    # where each seed has validation images of its own: which these are among all of them; else None
    images: Ints | None = field(default=None, compare=False, repr=False)
    # of how many, training images included
    divided: int = 0

    @property
    def has_images(self) -> bool:
        """Whether it is known what each image contributes."""
        return self.correct is not None or self.contributions is not None

    @property
    def block(self) -> tuple[int, int, str]:
        """What it has in common with the other runs of its block."""
        return self.seed, self.backbone, self.arithmetic

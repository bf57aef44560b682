"""What a search in a short time could show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LongerTarget:
    """A length that networks often need, where the usual one is a guess."""

    epochs: int
    seconds: float
    """The shortest time of a search that finds it and trains so long."""


@dataclass(frozen=True, slots=True)
class SearchPower:
    """What a search in a short time could show."""

    seconds: float
    images: int
    """For training and validation."""
    images_assumed: bool
    """Whether the number of images is a guess."""
    epochs: int
    """Of each training, as long as such a target usually is."""
    epoch_s: float
    """About, by one step of training on noise."""
    candidates: int
    """That fit into the time; 0: not even a few pairs."""
    smallest_gain: float | None
    """That it could show at 95 %, points; None: it does not fit, or its noise is not known."""
    enough_s: float | None
    """The shortest time of such a search, where this one is too short."""
    longer: LongerTarget | None = None
    """What it takes if the network needs longer trainings; None: that is not to be expected."""

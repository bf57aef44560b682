"""What the advice is made of: data, no sentences. Gains are in points, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.attention.choice import Knob
from nas_attn.model.published_gains import ExpectedGain, PublishedSetting, Situation
from nas_attn.recipe.recipe import LatencySection
from nas_attn.space.placement import Placement, Site
from nas_attn.storage.records import Latency

TOO_SLOW = 4.0
"""In times of the bare backbone's forward pass: slower networks are not timed any further."""


@dataclass(frozen=True, slots=True)
class LongerTarget:
    """A length that networks often need, where the usual one is a guess."""

    epochs: int
    seconds: float
    """The shortest time of a search that finds it and trains so long."""


@dataclass(frozen=True, slots=True)
class Question:
    """What advice is asked for."""

    backbone: str
    """Its name."""
    input_shape: tuple[int, int, int]
    setting: Situation
    """In the backbone; without module and depth."""
    section: LatencySection


@dataclass(frozen=True, slots=True)
class AdvisedPlacement:
    """A module in a part of the network, with its default settings."""

    placement: Placement
    situation: Situation
    predicted: float
    """What it is ranked by: the pooled fit's mean, also where no row is like it."""
    gain: ExpectedGain | None
    """None: no row has this module in this task, place, start and form."""


@dataclass(frozen=True, slots=True)
class MeasuredPlacement:
    """A candidate with its latency here."""

    candidate: AdvisedPlacement
    latency: Latency


@dataclass(frozen=True, slots=True)
class RefusedPlacement:
    """A candidate that does not run here, or does not fit into the network."""

    candidate: AdvisedPlacement
    reason: str
    """The error's sentence."""


@dataclass(frozen=True, slots=True)
class OtherSetting:
    """What is known of another place, start or form of the same task."""

    situation: Situation
    """Without module and depth."""
    gain: ExpectedGain


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


@dataclass(frozen=True, slots=True)
class Advice:
    """All that is said of a network."""

    question: Question
    sites: tuple[Site, ...]
    """Stages, necks and heads."""
    known: bool
    """Whether the fit has any row of this task."""
    gain: ExpectedGain | None
    """Of modules as the rows of this setting have them; None: it has no row."""
    measured: tuple[MeasuredPlacement, ...]
    """The most promising first."""
    too_slow: tuple[AdvisedPlacement, ...]
    """Several times slower than the bare backbone by a first look, and not measured."""
    refused: tuple[RefusedPlacement, ...]
    unmeasured: tuple[AdvisedPlacement, ...]
    """For which there was no time."""
    seen: tuple[PublishedSetting, ...]
    """Plain figures of the task where too few sources have it to expect a gain; else empty."""
    others: tuple[OtherSetting, ...]
    """Other settings of this task, the best first."""
    machine: str
    conditions: tuple[tuple[str, Knob | None], ...]
    """Of the latencies."""
    seconds: float
    """That the advice took."""

    @property
    def most_likely(self) -> MeasuredPlacement | None:
        """What of the measured ones is most likely to help; of those with the same percentage, the
        fastest. None: nothing is known of any.
        """
        known = [one for one in self.measured if one.candidate.gain is not None]
        return max(known, key=_likely_and_fast, default=None)


def _likely_and_fast(placement: MeasuredPlacement) -> tuple[float, float]:
    gain = placement.candidate.gain
    assert gain is not None
    return round(gain.probability, 2), -placement.latency.ratio
